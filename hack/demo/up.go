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
	// inheritedLock is the first file descriptor after standard error.
	inheritedLock = 3
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

// openServer is openState with the process that serves; nil when none does.
func openServer() (state, *os.Process, error) {
	s, err := openState()
	if err != nil {
		return state{}, nil, err
	}
	process, err := s.process()
	return s, process, err
}

func (s state) path(name string) string { return filepath.Join(s.dir, name) }

// lock takes the lock that the process that serves holds for as long as it lives; it
// returns nil when another has it.
func (s state) lock() (*os.File, error) {
	lock, err := os.OpenFile(s.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return lock, nil
	}
	_ = lock.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("taking the lock: %w", err)
}

// process is the one that serves; nil when none does. A process ID alone would not
// tell: it may be another's by now.
func (s state) process() (*os.Process, error) {
	if _, err := os.Stat(s.path("pid")); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	lock, err := s.lock()
	if err != nil {
		return nil, err
	}
	if lock != nil {
		return nil, lock.Close()
	}
	data, err := os.ReadFile(s.path("pid"))
	if err != nil {
		return nil, fmt.Errorf("reading the process ID: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, fmt.Errorf("reading the process ID: %w", err)
	}
	return os.FindProcess(pid)
}

// up starts a process that serves, and returns when everything is ready.
func up(ctx context.Context) error {
	if _, err := realNodes(); err != nil {
		return err
	}
	s, process, err := openServer()
	if err != nil {
		return err
	}
	if process != nil {
		if _, err := os.Stat(s.path("ready")); err != nil {
			return errors.New("it is being started already; `make down` stops it")
		}
		fmt.Println("It is up already.")
		s.printUsage()
		return nil
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("removing what an earlier run left: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("making the folder of the clusters: %w", err)
	}
	if err := s.startServer(ctx); err != nil {
		return err
	}
	fmt.Println("Starting a hub, two targets and the manager; some twenty seconds ...")
	err = wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, startTimeout, true, func(context.Context) (bool, error) {
		if process, err := s.process(); process == nil {
			return false, errors.Join(errors.New("it ended"), err)
		}
		_, err := os.Stat(s.path("ready"))
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("not ready: %w; see %s", err, s.path("serve.log"))
	}
	fmt.Println("\nReady.")
	s.printUsage()
	return nil
}

// printUsage says how to use what is up.
func (s state) printUsage() {
	fmt.Printf(`In your shell:

  export KUBECONFIG=%s PATH=%s:$PATH
  kubectl get clusterconnections
  kubectl apply -f config/samples/pooledjob-succeeds.yaml
  kubectl get pooledjobs -A --watch
  kubectl pooledjob run first -n team-a --cluster target-1 --image busybox:1.37 -- echo hello

The targets' kubeconfigs are %s and
target-2.kubeconfig beside it, the manager's log is manager.log.
"make down" stops it all.
`, s.path("hub.kubeconfig"), programPaths(filepath.Dir(s.dir)), s.path("target-1.kubeconfig"))
}

// programPaths are the folders of the plugin and of kubectl, as PATH has them.
func programPaths(root string) string {
	return filepath.Join(root, "bin") + ":" + filepath.Dir(kubectlPath(root))
}

// startServer starts this program again, as a process that outlives it.
func (s state) startServer(ctx context.Context) error {
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
	lock, err := s.lock()
	if err != nil {
		return err
	}
	if lock == nil {
		return errors.New("another `make up` is under way")
	}
	defer lock.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, serveCommand) // it outlives us
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{lock} // the lock goes with it
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
	// The lock that startServer passes on ends with this process, not with one
	// that it starts.
	syscall.CloseOnExec(inheritedLock)
	realPods, err := realNodes()
	if err != nil {
		return err
	}
	env, err := localenv.Start(ctx, localenv.Options{Targets: 2, Logs: true, Dir: s.dir, Progress: os.Stdout, RealNodes: realPods})
	if err != nil {
		return err
	}
	for _, file := range samples.Setup {
		if err := localenv.Apply(ctx, env.Hub.Client, filepath.Join(env.Root, sample(file))); err != nil {
			return errors.Join(err, env.Stop())
		}
	}
	if err := env.WaitConnected(ctx); err != nil {
		return errors.Join(err, env.Stop())
	}
	if err := os.WriteFile(s.path("ready"), nil, 0o600); err != nil {
		return errors.Join(err, env.Stop())
	}
	supervise(ctx, env)
	return env.Stop()
}

// down stops what up started.
func down(ctx context.Context) error {
	s, process, err := openServer()
	if err != nil {
		return err
	}
	if process == nil {
		fmt.Println("Nothing is up.")
		return os.RemoveAll(s.dir)
	}
	if err := process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping process %d: %w", process.Pid, err)
	}
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, stopTimeout, true, func(context.Context) (bool, error) {
		process, err := s.process()
		return process == nil, err
	})
	if err != nil {
		return fmt.Errorf("process %d has not ended: %w", process.Pid, err)
	}
	fmt.Println("Stopped.")
	return os.RemoveAll(s.dir)
}
