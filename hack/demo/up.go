package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
	"github.com/pooledjob/pooledjob/test/samples"
)

const (
	// serveCommand is what `up` starts: the process that the clusters live in.
	serveCommand = "serve"
	// startTimeout bounds `up`, stopTimeout `down`.
	startTimeout = 4 * time.Minute
	stopTimeout  = 2 * time.Minute
)

// state is the folder with what runs: its clusters, its process ID, and a file that
// says that all is ready.
type state struct{ dir string }

func openState() (state, error) {
	root, err := localcluster.ModuleRoot()
	if err != nil {
		return state{}, err
	}
	return state{filepath.Join(root, ".local")}, nil
}

func (s state) path(name string) string { return filepath.Join(s.dir, name) }

// process is the one that serves; nil when none does.
func (s state) process() *os.Process {
	data, err := os.ReadFile(s.path("pid"))
	if err != nil {
		return nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return nil
	}
	process, err := os.FindProcess(pid)
	if err != nil || process.Signal(syscall.Signal(0)) != nil {
		return nil
	}
	return process
}

// up starts a process that serves, and returns when everything is ready.
func up(ctx context.Context) error {
	s, err := openState()
	if err != nil {
		return err
	}
	if s.process() != nil {
		return errors.New("it is up already; `make down` stops it")
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("removing what an earlier run left: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("making the folder of the clusters: %w", err)
	}
	if err := s.startServer(); err != nil {
		return err
	}
	fmt.Println("Starting a hub, two targets and the manager; some twenty seconds ...")
	err = wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, startTimeout, true, func(context.Context) (bool, error) {
		if s.process() == nil {
			return false, errors.New("it ended")
		}
		_, err := os.Stat(s.path("ready"))
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("not ready: %w; see %s", err, s.path("serve.log"))
	}
	fmt.Printf(`
Ready. In your shell:

  export KUBECONFIG=%s PATH=%s:$PATH
  kubectl get clusterconnections
  kubectl apply -f config/samples/pooledjob-succeeds.yaml
  kubectl get pooledjobs -A --watch

The targets' kubeconfigs are %s and
target-2.kubeconfig beside it, the manager's log is manager.log.
"make down" stops it all.
`, s.path("hub.kubeconfig"), filepath.Dir(kubectlPath(filepath.Dir(s.dir))), s.path("target-1.kubeconfig"))
	return nil
}

// startServer starts this program again, as a process that outlives it.
func (s state) startServer() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	// `go run` removes its program when it ends.
	program := s.path("demo")
	data, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(program, data, 0o700)
	}
	if err != nil {
		return fmt.Errorf("copying this program: %w", err)
	}
	log, err := os.OpenFile(s.path("serve.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(program, serveCommand)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the process that serves: %w", err)
	}
	if err := os.WriteFile(s.path("pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return fmt.Errorf("writing the process ID: %w", err)
	}
	return cmd.Process.Release()
}

// serve holds the clusters and the manager until it gets a signal.
func serve(ctx context.Context) error {
	s, err := openState()
	if err != nil {
		return err
	}
	env, err := localenv.Start(ctx, localenv.Options{Targets: 2, Dir: s.dir, Progress: os.Stdout})
	if err != nil {
		return err
	}
	for _, file := range samples.Setup {
		if err := localenv.Apply(ctx, env.Hub.Client, filepath.Join(env.Root, sample(file))); err != nil {
			return errors.Join(err, env.Stop())
		}
	}
	if err := os.WriteFile(s.path("ready"), nil, 0o600); err != nil {
		return errors.Join(err, env.Stop())
	}
	<-ctx.Done()
	return env.Stop()
}

// down stops what up started.
func down(ctx context.Context) error {
	s, err := openState()
	if err != nil {
		return err
	}
	process := s.process()
	if process == nil {
		fmt.Println("Nothing is up.")
		return os.RemoveAll(s.dir)
	}
	if err := process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping process %d: %w", process.Pid, err)
	}
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, stopTimeout, true, func(context.Context) (bool, error) {
		return s.process() == nil, nil
	})
	if err != nil {
		return fmt.Errorf("process %d has not ended: %w", process.Pid, err)
	}
	fmt.Println("Stopped.")
	return os.RemoveAll(s.dir)
}
