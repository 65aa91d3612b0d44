package localcluster

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// beOrphanVariable makes the test binary start a cluster and wait to be killed.
const beOrphanVariable = "LOCALCLUSTER_TEST_PARENT"

// The clusters that it may start.
const simulatedNode, oneRealNode = "simulated", "real"

func TestMain(m *testing.M) {
	if node := os.Getenv(beOrphanVariable); node != "" {
		parentToBeKilled(node == oneRealNode)
	}
	ExitIfShort()
	os.Exit(m.Run())
}

func parentToBeKilled(realNode bool) {
	cluster, err := Start(context.Background(), Options{Workloads: true, RealNode: realNode})
	if err == nil {
		err = startStubbornPod(cluster)
	}
	if err == nil {
		err = cluster.PauseProgram(APIServer) // it must end all the same
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, cluster.Dir())
	if realNode {
		fmt.Fprintln(os.Stdout, cluster.node.cgroup)
	}
	select {}
}

func TestNoProcessOutlivesAKilledParent(t *testing.T) {
	g := NewWithT(t)
	parent, output := startParentToBeKilled(t, simulatedNode)
	dir := folderFrom(t, output)
	g.Expect(processesOf(t, dir)).To(HaveLen(5))

	g.Expect(parent.Process.Kill()).To(Succeed())
	g.Expect(parent.Wait()).NotTo(Succeed())
	g.Eventually(func() map[string]string { return processesOf(t, dir) }).WithTimeout(5 * time.Second).Should(BeEmpty())
}

// startParentToBeKilled starts a process with a cluster that tells its folder.
func startParentToBeKilled(t *testing.T, node string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	g := NewWithT(t)
	parent := exec.Command(os.Args[0])
	parent.Stderr = os.Stderr
	parent.Env = append(os.Environ(), beOrphanVariable+"="+node)
	output, err := parent.StdoutPipe()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(parent.Start()).To(Succeed())
	t.Cleanup(func() { _ = parent.Process.Kill() }) // in vain, as a rule
	return parent, bufio.NewScanner(output)
}

// folderFrom returns the next line, a folder that is removed after the test.
func folderFrom(t *testing.T, output *bufio.Scanner) string {
	t.Helper()
	g := NewWithT(t)
	g.Expect(output.Scan()).To(BeTrue())
	dir := output.Text()
	g.Expect(dir).To(BeADirectory())
	t.Cleanup(func() { g.Expect(os.RemoveAll(dir)).To(Succeed()) })
	return dir
}

func TestStartFailures(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		message string
	}{
		"no programs":         {Options{AssetsDir: "/nonexistent"}, "run `make localkube`"},
		"no kwok":             {Options{AssetsDir: assetsWith(t, Etcd, APIServer), Workloads: true}, "no program kube-controller-manager"},
		"bad name":            {Options{Name: "Not A Label"}, "Options.Name"},
		"negative nodes":      {Options{Nodes: -1, Workloads: true}, "Options.Nodes is -1"},
		"nodes only":          {Options{Nodes: 1}, "set Options.Workloads too"},
		"nodes of two kinds":  {Options{Workloads: true, RealNode: true, Nodes: 1}, "one real node or simulated ones"},
		"real node only":      {Options{RealNode: true}, "set Options.Workloads too"},
		"occupied folder":     {Options{Dir: "."}, "is not empty"},
		"unknown server flag": {Options{APIServerFlags: map[string]string{"no-such-flag": "1"}}, "unknown flag: --no-such-flag"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			temp := t.TempDir()
			t.Setenv("TMPDIR", temp)
			_, err := Start(t.Context(), test.options)
			g.Expect(err).To(MatchError(ContainSubstring(test.message)))
			g.Expect(processesOf(t, temp)).To(BeEmpty())
			g.Expect(os.ReadDir(temp)).To(BeEmpty(), "temporary files left")
		})
	}
}

func TestStartQuotesTheLogOfACrashedProgram(t *testing.T) {
	g := NewWithT(t)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	assets := assetsWith(t, Etcd, APIServer, ControllerManager, Scheduler)
	g.Expect(os.WriteFile(filepath.Join(assets, string(Kwok)), []byte("#!/bin/sh\necho 'the stages are wrong' >&2; exit 3\n"), 0o755)).To(Succeed())
	_, err := Start(t.Context(), Options{AssetsDir: assets, Workloads: true})
	g.Expect(err).To(MatchError(And(ContainSubstring("kwok ended by itself: exit status 3"), ContainSubstring("\tthe stages are wrong"))))
	g.Expect(processesOf(t, temp)).To(BeEmpty())
	g.Expect(os.ReadDir(temp)).To(BeEmpty(), "temporary files left")
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	g := NewWithT(t)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for range time.Tick(10 * time.Millisecond) {
			if len(processesOf(t, temp)) == 2 || t.Context().Err() != nil {
				return
			}
		}
	}()
	_, err := Start(ctx, Options{})
	g.Expect(err).To(MatchError(context.Canceled))
	g.Expect(processesOf(t, temp)).To(BeEmpty())
	g.Expect(os.ReadDir(temp)).To(BeEmpty(), "temporary files left")
}

func TestGivenFolderKeepsTheLogs(t *testing.T) {
	g := NewWithT(t)
	dir := filepath.Join(t.TempDir(), "cluster")
	cluster, err := Start(t.Context(), Options{Dir: dir})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(cluster.Stop()).To(Succeed())
	log, err := os.ReadFile(filepath.Join(dir, "logs", "kube-apiserver.log"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(strings.TrimSpace(string(log))).NotTo(BeEmpty())
}

// assetsWith returns a folder with these programs of the real one.
func assetsWith(t *testing.T, programs ...Program) string {
	t.Helper()
	assets, err := findAssets("")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, program := range programs {
		name := string(program)
		if err := os.Symlink(filepath.Join(assets, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
