package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localenv"
	"github.com/pooledjob/pooledjob/test/samples"
)

// patience bounds each step of the show; the longest takes some ten seconds.
const patience = 2 * time.Minute

// show is a demo under way.
type show struct{ env *localenv.Env }

func run(ctx context.Context) (err error) {
	begin := time.Now()
	dir, err := os.MkdirTemp("", "pooledjob-demo-")
	if err != nil {
		return fmt.Errorf("making a folder for the clusters: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	realPods, err := realNodes()
	if err != nil {
		return err
	}
	title("A hub, two targets, one manager")
	env, err := localenv.Start(ctx, localenv.Options{Targets: 2, Logs: true, Dir: dir, Progress: os.Stdout, RealNodes: realPods})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, env.Stop()) }()
	s := &show{env}
	for _, step := range []func(context.Context) error{s.connect, s.refuse, s.runJobs, s.deleteOne, s.cleanUp} {
		if err := step(ctx); err != nil {
			s.showLog()
			return err
		}
	}
	fmt.Printf("\nEvery outcome was as told. %s in all.\n", time.Since(begin).Round(time.Second))
	return nil
}

// connect applies the namespaces and the ClusterConnections.
func (s *show) connect(ctx context.Context) error {
	title("Connect both targets: who may send Jobs where")
	for _, file := range samples.Setup {
		if err := s.apply(ctx, file); err != nil {
			return err
		}
	}
	if err := s.kubectl(ctx, "wait", "--for=condition=Ready", "clusterconnections", "--all", "--timeout=60s"); err != nil {
		return err
	}
	return s.kubectl(ctx, "get", "clusterconnections")
}

// refuse applies the sample that the API server must not take.
func (s *show) refuse(ctx context.Context) error {
	title("A mistake, refused by the hub's API server")
	printCommand(s.env.Hub.Name(), "apply", "-f", sample(samples.Invalid))
	var words bytes.Buffer
	cmd := s.command(ctx, s.env.Hub, "apply", "-f", filepath.Join(s.env.Root, sample(samples.Invalid)))
	cmd.Stdout, cmd.Stderr = &words, &words
	if err := cmd.Run(); err == nil {
		return fmt.Errorf("%s was taken", samples.Invalid)
	}
	fmt.Print(words.String())
	if !strings.Contains(words.String(), samples.InvalidWords) {
		return fmt.Errorf("the answer does not say %q", samples.InvalidWords)
	}
	return nil
}

// runJobs applies the PooledJobs and shows them until each has its outcome.
func (s *show) runJobs(ctx context.Context) error {
	title("Run: one succeeds, one fails, one on the second target, one without access, one too early")
	for _, o := range samples.Outcomes {
		if err := s.apply(ctx, o.File); err != nil {
			return err
		}
	}
	stopWatch, err := s.watch(ctx)
	if err != nil {
		return err
	}
	err = s.waitForOutcomes(ctx)
	stopWatch()
	if err != nil {
		return err
	}
	fmt.Println()
	if err := s.kubectl(ctx, "get", "pooledjobs", "-A", "-o", "custom-columns="+strings.Join([]string{
		"NAME:.metadata.name", "PHASE:.status.phase", "EXIT:.status.result.exitCode", "REASON:.status.result.reason",
		"OUTPUT:.status.result.message", "DISPATCHED:.status.conditions[?(@.type=='Dispatched')].reason",
		"FAILED:.status.conditions[?(@.type=='Failed')].reason",
	}, ",")); err != nil {
		return err
	}
	for _, target := range s.env.Targets {
		if err := s.kubectlOn(ctx, target, "get", "jobs", "-A"); err != nil {
			return err
		}
	}
	return nil
}

func (s *show) waitForOutcomes(ctx context.Context) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		last = nil
		for _, o := range samples.Outcomes {
			job := &v1alpha1.PooledJob{}
			if err := s.env.Hub.Client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: o.Name}, job); err != nil {
				return false, err
			}
			last = errors.Join(last, o.Check(job))
		}
		return last == nil, nil
	})
	return errors.Join(err, last)
}

// deleteOne deletes a PooledJob that has finished, and looks at the target.
func (s *show) deleteOne(ctx context.Context) error {
	title("Delete one: when kubectl returns, its Job is gone from the target")
	first := samples.Outcomes[0]
	if err := s.kubectl(ctx, "delete", "pooledjob", "-n", first.Namespace, first.Name); err != nil {
		return err
	}
	target := s.env.Targets[first.Target-1]
	if err := s.kubectlOn(ctx, target, "get", "jobs,pods", "-n", first.TargetNamespace); err != nil {
		return err
	}
	var jobs batchv1.JobList
	if err := target.Client.List(ctx, &jobs, client.InNamespace(first.TargetNamespace)); err != nil {
		return fmt.Errorf("looking at the target: %w", err)
	}
	for _, job := range jobs.Items {
		if job.Annotations[v1alpha1.AnnotationSource] == first.Namespace+"/"+first.Name {
			return fmt.Errorf("Job %s is still there", job.Name)
		}
	}
	return nil
}

// cleanUp deletes everything, and makes sure that nothing is left on the targets.
func (s *show) cleanUp(ctx context.Context) error {
	title("Clean up: nothing is left on the targets")
	if err := s.kubectl(ctx, "delete", "pooledjobs", "-A", "--all"); err != nil {
		return err
	}
	if err := s.kubectl(ctx, "delete", "clusterconnections", "--all"); err != nil {
		return err
	}
	for _, target := range s.env.Targets {
		if err := s.kubectlOn(ctx, target, "get", "jobs,pods", "-A"); err != nil {
			return err
		}
		var jobs batchv1.JobList
		var pods corev1.PodList
		if err := errors.Join(target.Client.List(ctx, &jobs), target.Client.List(ctx, &pods)); err != nil {
			return fmt.Errorf("looking at %s: %w", target.Name(), err)
		}
		if len(jobs.Items)+len(pods.Items) > 0 {
			return fmt.Errorf("%d Jobs and %d Pods are left on %s", len(jobs.Items), len(pods.Items), target.Name())
		}
	}
	return nil
}

// showLog prints the end of the manager's log, for somebody who has to find out.
func (s *show) showLog() {
	const shown = 20
	data, err := os.ReadFile(s.env.ManagerLog())
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	fmt.Fprintf(os.Stderr, "\nThe end of the manager's log:\n%s\n", strings.Join(lines[max(0, len(lines)-shown):], "\n"))
}

func title(text string) { fmt.Printf("\n\033[1m== %s\033[0m\n", text) }

// sample is the path of a sample from the repository's root.
func sample(file string) string { return filepath.Join("config", "samples", file) }

func (s *show) apply(ctx context.Context, file string) error {
	return s.kubectl(ctx, "apply", "-f", sample(file))
}

func (s *show) kubectl(ctx context.Context, args ...string) error {
	return s.kubectlOn(ctx, s.env.Hub, args...)
}

// kubectlOn prints and runs a command.
func (s *show) kubectlOn(ctx context.Context, cluster *localenv.Cluster, args ...string) error {
	printCommand(cluster.Name(), args...)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := s.command(ctx, cluster, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// watch shows the PooledJobs as they change, until stop is called.
func (s *show) watch(ctx context.Context) (stop func(), err error) {
	args := []string{"get", "pooledjobs", "-A", "--watch"}
	printCommand(s.env.Hub.Name(), args...)
	ctx, cancel := context.WithCancel(ctx)
	cmd := s.command(ctx, s.env.Hub, args...)
	cmd.Stdout = os.Stdout
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("kubectl get --watch: %w", err)
	}
	return func() {
		cancel()
		_ = cmd.Wait() // it was killed, and says so
	}, nil
}

func (s *show) command(ctx context.Context, cluster *localenv.Cluster, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, kubectlPath(s.env.Root), args...)
	cmd.Dir = s.env.Root
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.KubeconfigPath)
	return cmd
}

func kubectlPath(root string) string { return filepath.Join(root, "bin", "localkube.d", "kubectl") }

func printCommand(cluster string, args ...string) {
	fmt.Printf("\033[2m[%s]\033[0m $ kubectl %s\n", cluster, strings.Join(args, " "))
}
