package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

var _ = Describe("A user with rights in one namespace of the hub only", func() {
	It("can start, wait for, list, cancel and rerun runs", func(ctx context.Context) {
		name := uniqueName("whole")
		session := dev(append(runArgs(name, behaviour(1, 3)), "--detach")...)
		Expect(session).To(gexec.Exit(0))
		Expect(stdout(session)).To(Equal("pooledjob.pooledjob.io/" + name + " created\n"))

		session = dev("wait", name)
		Expect(session).To(gexec.Exit(3))
		Expect(stdout(session)).To(MatchRegexp(`^pooledjob.pooledjob.io/%s failed after .*, exit code 3, BackoffLimitExceeded: `, name))

		session = dev("wait", name, "-o", "jsonpath={.status.result.exitCode}")
		Expect(stdout(session)).To(Equal("3"))

		session = dev("list")
		Expect(session).To(gexec.Exit(0))
		Expect(stdout(session)).To(MatchRegexp(`(?m)^NAME +CLUSTER +PHASE +EXIT CODE +REASON +AGE`))
		Expect(stdout(session)).To(MatchRegexp(`(?m)^%s +%s +Failed +3 +Error +\d+s`, name, ordinal))

		session = dev("cancel", name)
		Expect(session).To(gexec.Exit(0))
		Expect(stdout(session)).To(ContainSubstring(name + " had ended before: failed"))

		session = dev("rerun", name)
		Expect(session).To(gexec.Exit(3))
		Expect(stderr(session)).To(ContainSubstring(team + "/" + name + "-2: created\n"))
		session = dev("rerun", name+"-2", "--detach")
		Expect(stdout(session)).To(Equal("pooledjob.pooledjob.io/" + name + "-3 created\n"))
		Eventually(jobNamed(ctx, name+"-3")).Should(havePhase(v1alpha1.PooledJobFailed))
	})

	It("gets an error that listing clusters and all namespaces is forbidden", func() {
		session := dev("clusters")
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(And(HavePrefix("error: "), ContainSubstring("is forbidden"), ContainSubstring("ask who runs the cluster")))
		session = plug(developer, "list", "-A").Wait(time.Minute)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("is forbidden"))
	})
})

var _ = Describe("cancel", func() {
	It("stops a run and waits for its end", func(ctx context.Context) {
		name := uniqueName("stopped")
		Expect(dev(append(runArgs(name, behaviour(3600, 0)), "--detach")...)).To(gexec.Exit(0))
		Eventually(jobNamed(ctx, name)).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(dev("cancel", name, "--dry-run=server")).To(gexec.Exit(0))
		Expect(jobNamed(ctx, name)(Default).Spec.Cancel).To(BeNil())

		session := dev("rerun", name)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("has not ended (runs on " + ordinal + ")"))

		session = dev("wait", name, "--timeout", "200ms")
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("has not ended within 200ms: runs on " + ordinal))

		session = dev("cancel", name)
		Expect(session).To(gexec.Exit(0))
		Expect(stdout(session)).To(And(ContainSubstring(name+" asked to stop\n"), MatchRegexp(name+" failed.*Cancelled")))
		Expect(jobNamed(ctx, name)(Default)).To(havePhase(v1alpha1.PooledJobFailed))
	})
})

var _ = Describe("list", func() {
	It("prints the selected runs in the requested format", func() {
		name := uniqueName("listed")
		Expect(dev("run", name, "--image", "b", "--cluster", "no-such", "--labels", "app=list", "--detach")).To(gexec.Exit(0))
		Eventually(func() string {
			return stdout(admin("list", "-A", "--unfinished", "--cluster", "no-such", "-o", "wide"))
		}).
			Should(MatchRegexp(`(?m)^%s +%s +no-such +Pending +ClusterNotFound +\d+s? .*waits: ClusterNotFound: `, team, name))
		Expect(stdout(dev("list", "-l", "app=list", "-o", "name"))).To(Equal("pooledjob.pooledjob.io/" + name + "\n"))
		Expect(stdout(dev("list", name, "-o", "yaml"))).To(HavePrefix("apiVersion: pooledjob.io/v1alpha1\nkind: PooledJob\n"))
		Expect(stdout(dev("list", "-l", "app=list", "-o", "json"))).To(ContainSubstring(`"kind": "PooledJobList"`))
		Expect(stdout(dev("list", name, "--no-headers"))).To(HavePrefix(name))
		Expect(dev("cancel", name)).To(gexec.Exit(0))

		By("waiting for those that have a label")
		session := dev("wait", "-l", "app=list")
		Expect(session).To(gexec.Exit(1))
		Expect(stdout(session)).To(MatchRegexp(`^pooledjob.pooledjob.io/%s failed, Cancelled: `, name))

		session = dev("list", "-l", "app=none")
		Expect(session).To(gexec.Exit(0))
		Expect(stdout(session)).To(BeEmpty())
		Expect(stderr(session)).To(Equal("No PooledJobs found in namespace " + team + ".\n"))
	})

	It("sorts by the field of --sort-by, and refuses a field that no run has", func() {
		for _, name := range []string{"sorted-a", "sorted-b", "sorted-c"} {
			cluster := map[string]string{"sorted-a": "nowhere-2", "sorted-b": "nowhere-3", "sorted-c": "nowhere-1"}[name]
			Expect(dev("run", name, "--image", "b", "--cluster", cluster, "--labels", "app=sorted", "--detach")).To(gexec.Exit(0))
		}
		for _, path := range []string{".spec.clusterName", "{.spec.clusterName}", "spec.clusterName"} {
			Expect(strings.Fields(stdout(dev("list", "-l", "app=sorted", "-o", "name", "--sort-by", path)))).To(Equal([]string{
				"pooledjob.pooledjob.io/sorted-c", "pooledjob.pooledjob.io/sorted-a", "pooledjob.pooledjob.io/sorted-b",
			}))
		}
		session := dev("list", "-l", "app=sorted", "--sort-by", ".spec.clusterNam")
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("no run has the field .spec.clusterNam"))
		Expect(dev("cancel", "sorted-a", "sorted-b", "sorted-c")).To(gexec.Exit(0))
	})

	It("prints each change with --watch until it is interrupted", func() {
		session := plug(developer, inTeam("list", "-l", "app=watched", "-w", "--unfinished")...)
		Consistently(session, 500*time.Millisecond).ShouldNot(gexec.Exit())
		name := uniqueName("watched")
		Expect(dev(runArgs(name, behaviour(1, 3), "--labels", "app=watched", "--detach")...)).To(gexec.Exit(0))
		Eventually(session.Out.Contents).Should(ContainSubstring("Error"))
		Expect(stdout(session)).To(MatchRegexp(`^NAME +CLUSTER +PHASE .*\n(%[1]s +%[2]s +Pending .*\n)+(%[1]s +%[2]s +Running .*\n)+(%[1]s +%[2]s +Failed +3 +Error .*\n)$`, name, ordinal))
		session.Interrupt()
		Eventually(session).Should(gexec.Exit())
	})

	DescribeTable("reports in one line what is wrong, as other commands do:", func(words string, args ...string) {
		session := dev(args...)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(And(HavePrefix("error: "), ContainSubstring(words)))
		Expect(strings.Count(stderr(session), "\n")).To(Equal(1), "one line")
	},
		Entry("list of a run that does not exist", `there is no PooledJob "gone" in this namespace`, "list", "gone"),
		Entry("wait for a run that does not exist", `there is no PooledJob "gone" in this namespace`, "wait", "gone"),
		Entry("cancel of a run that does not exist", `there is no PooledJob "gone" in this namespace`, "cancel", "gone"),
		Entry("rerun of a run that does not exist", `there is no PooledJob "gone" in this namespace`, "rerun", "gone"),
		Entry("wait for a label that no run has", "no PooledJob in namespace "+team+" has the labels app=nobody", "wait", "-l", "app=nobody"),
		Entry("a name and a label", "give names, or labels with -l, not both", "wait", "a", "-l", "b=c"),
		Entry("an invalid --sort-by", "--sort-by: ", "list", "--sort-by", "{.a[}"),
		Entry("--watch with -o yaml", "--watch prints a table", "list", "-w", "-o", "yaml"),
		Entry("no name", "give the name of a PooledJob", "wait"),
		Entry("two names", "give the name of a PooledJob, not 2", "logs", "a", "b"),
		Entry("an unknown format", `unable to match a printer suitable for the output format "xml"`, "list", "-o", "xml"),
		Entry("a server that is not there", "check that the cluster is up", "list", "--server", "https://127.0.0.1:1"),
		Entry("no kubeconfig file", "no-such-file", "list", "--kubeconfig", "/no-such-file"),
	)
})

var _ = Describe("clusters", func() {
	It("shows the state of each connection in a table, and refuses an unknown name", func() {
		session := admin("clusters")
		Expect(session).To(gexec.Exit(0))
		Expect(stdout(session)).To(MatchRegexp(`(?m)^NAME +STATE +ACTIVE +WAITING +SOCKETS +EXPIRES +AGE +PROBLEM`))
		Expect(stdout(session)).To(MatchRegexp(`(?m)^%s +Ready +\d+ +\d+ +1 +\d+d`, ordinal))
		Expect(stdout(admin("clusters", "-o", "wide"))).To(ContainSubstring("https://127.0.0.1:"))
		Expect(stdout(admin("clusters", ordinal, "-o", "name"))).To(Equal("clusterconnection.pooledjob.io/" + ordinal + "\n"))
		session = admin("clusters", "gone")
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring(`there is no ClusterConnection "gone"`))
	})
})

var _ = Describe("completion", func() {
	It("completes the names of runs, clusters and namespaces", func() {
		name := uniqueName("completed")
		Expect(dev(append(runArgs(name, behaviour(0.1, 0)), "--detach")...)).To(gexec.Exit(0))
		for _, command := range []string{"logs", "wait", "cancel", "rerun", "list"} {
			Expect(stdout(dev("__complete", command, "-n", team, "complete"))).To(HavePrefix(name+"\n"), command)
		}
		Expect(stdout(admin("__complete", "run", "a", "--cluster", "tar"))).To(HavePrefix(ordinal + "\n"))
		Expect(stdout(admin("__complete", "disconnect", ""))).To(HavePrefix(ordinal + "\n"))
		Expect(stdout(admin("__complete", "list", "-n", "team-b"))).To(HavePrefix("team-b\n"))
		Expect(stdout(dev("__complete", "run", "a", "--cluster", ""))).To(HavePrefix(":"), "nothing to offer without the right to look")
	})

	It("works under the program name kubectl_complete-pooledjob, which kubectl looks for", func() {
		link := filepath.Join(GinkgoT().TempDir(), "kubectl_complete-pooledjob")
		Expect(os.Symlink(program, link)).To(Succeed())
		output, err := exec.CommandContext(context.Background(), link, "comp").Output()
		Expect(err).NotTo(HaveOccurred())
		Expect(string(output)).To(HavePrefix("completion\t"))
		Expect(stdout(admin("completion", "kubectl"))).To(Equal("#!/bin/sh\nexec kubectl-pooledjob __complete \"$@\"\n"))
		Expect(stdout(admin("completion", "bash"))).To(ContainSubstring("kubectl-pooledjob"))
	})
})
