package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
	"github.com/pooledjob/pooledjob/test/samples"
)

// blockTimeout bounds one block: the longest runs three Pods in turn.
const blockTimeout = 2 * time.Minute

// fakeMake stands for make: what `make up` starts is there, and what `make test` runs is us.
// It makes sure that there is such a target.
const fakeMake = `#!/bin/sh
for target; do
  case $target in *=*) continue;; esac
  grep -q "^$target:" Makefile || { echo "make: there is no target $target" >&2; exit 2; }
done
`

func TestExamples(t *testing.T) {
	localcluster.SkipIfShort(t)
	if problem := localcluster.RealNodeProblem(); problem != nil {
		t.Skip(problem)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	r := newReader(ctx, t)
	for _, part := range plan {
		for _, step := range part.steps {
			t.Run(part.page+" "+step.begins, func(t *testing.T) { r.follow(ctx, t, part.page, step) })
		}
	}
	for _, page := range pages(t, r.root) {
		t.Run("manifests of "+page, func(t *testing.T) { r.checkManifests(ctx, t, page) })
	}
}

func TestEveryBlockOfCommandsIsInThePlan(t *testing.T) {
	root, err := localcluster.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages(t, root) {
		for _, b := range blocksOf(t, root, page) {
			if b.lang == "sh" && planned(page, b) != 1 {
				t.Errorf("%s is in %d steps of the plan; it must be in one", b, planned(page, b))
			}
		}
	}
}

// planned returns how many steps are about a block.
func planned(page string, b block) (n int) {
	for _, part := range plan {
		for _, step := range part.steps {
			if part.page == page && strings.HasPrefix(b.text, step.begins) {
				n++
			}
		}
	}
	return n
}

// reader is who reads the pages and types what is in them.
type reader struct {
	root, dir string
	blocks    map[string][]block
}

func newReader(ctx context.Context, t *testing.T) *reader {
	t.Helper()
	r := &reader{dir: t.TempDir(), blocks: map[string][]block{}}
	env, err := localenv.Start(ctx, localenv.Options{Targets: 2, Dir: filepath.Join(r.dir, ".local"), RealNodes: true, Logs: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	r.root = env.Root
	for _, file := range samples.Setup {
		if err := localenv.Apply(ctx, env.Hub.Client, filepath.Join(r.root, "config", "samples", file)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bin", "config", "Makefile"} {
		if err := os.Symlink(filepath.Join(r.root, name), filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.write(t, "tools/make", fakeMake)
	if err := os.Chmod(filepath.Join(r.dir, "tools", "make"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.addContext(t, "prod", ".local/target-1.kubeconfig")
	return r
}

// addContext gives the hub's kubeconfig one more context.
func (r *reader) addContext(t *testing.T, name, from string) {
	t.Helper()
	hub, err := clientcmd.LoadFromFile(filepath.Join(r.dir, ".local", "hub.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := clientcmd.LoadFromFile(filepath.Join(r.dir, from))
	if err != nil {
		t.Fatal(err)
	}
	current := other.Contexts[other.CurrentContext]
	hub.Clusters[name], hub.AuthInfos[name] = other.Clusters[current.Cluster], other.AuthInfos[current.AuthInfo]
	hub.Contexts[name] = current.DeepCopy()
	hub.Contexts[name].Cluster, hub.Contexts[name].AuthInfo = name, name
	if err := clientcmd.WriteToFile(*hub, filepath.Join(r.dir, ".local", "hub.kubeconfig")); err != nil {
		t.Fatal(err)
	}
}

func (r *reader) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// page reads a page once, and saves what the reader is told to save.
func (r *reader) page(t *testing.T, name string) []block {
	t.Helper()
	if _, ok := r.blocks[name]; !ok {
		r.blocks[name] = blocksOf(t, r.root, name)
		for _, b := range r.blocks[name] {
			if b.saveAs != "" {
				r.write(t, b.saveAs, b.text)
			}
		}
	}
	return r.blocks[name]
}

// follow does what a block says.
func (r *reader) follow(ctx context.Context, t *testing.T, page string, s step) {
	if s.skip != "" {
		t.Skip(s.skip)
	}
	for _, b := range r.page(t, page) {
		if b.lang != "sh" || !strings.HasPrefix(b.text, s.begins) {
			continue
		}
		text := b.text
		for placeholder, value := range s.replaced {
			if !strings.Contains(text, placeholder) {
				t.Errorf("%s has no %q", b, placeholder)
			}
			text = strings.ReplaceAll(text, placeholder, value)
		}
		on := s.on
		if on == "" {
			on = "hub"
		}
		out, err := r.shell(ctx, on, s.before+"\n"+text)
		switch {
		case err != nil:
			t.Fatalf("%s: %v\n%s", b, err, out)
		case !strings.Contains("\n"+out, s.want):
			t.Fatalf("%s prints no %q, but\n%s", b, s.want, out)
		}
		if out, err := r.shell(ctx, on, s.after); err != nil {
			t.Fatalf("after %s: %s: %v\n%s", b, s.after, err, out)
		}
		return
	}
	t.Fatalf("%s has no block that begins with %q", page, s.begins)
}

// shell runs commands with the kubeconfig of a cluster, as a reader's shell would.
func (r *reader) shell(ctx context.Context, on, commands string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, blockTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", commands)
	cmd.Dir = r.dir
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(),
		"HOME="+r.dir, "KUBECONFIG="+filepath.Join(r.dir, ".local", on+".kubeconfig"),
		fmt.Sprintf("PATH=%s:%s:%s:%s", filepath.Join(r.dir, "tools"), filepath.Join(r.dir, "bin"), filepath.Join(r.dir, "bin", "localkube.d"), os.Getenv("PATH")),
	)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// checkManifests has the hub look at every whole manifest of a page.
func (r *reader) checkManifests(ctx context.Context, t *testing.T, page string) {
	for _, b := range r.page(t, page) {
		if b.lang != "yaml" || !strings.Contains(b.text, "apiVersion:") || !strings.Contains(b.text, "pooledjob.io/") || strings.Contains(b.text, "...") {
			continue
		}
		r.write(t, "manifest.yaml", b.text)
		if out, err := r.shell(ctx, "hub", "kubectl apply --dry-run=server -f manifest.yaml"); err != nil {
			t.Errorf("%s: %v\n%s", b, err, out)
		}
	}
}
