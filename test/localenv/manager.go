package localenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// readyTimeout bounds the start of the manager; it takes a second or two.
	readyTimeout = time.Minute
	// stopTimeout bounds its graceful end, which the manager itself bounds by 20 s.
	stopTimeout = 30 * time.Second
)

// Manager is a manager process.
type Manager struct {
	cmd     *exec.Cmd
	metrics string // address
	logs    string // address
	pprof   string // address
	ended   chan struct{}
	err     error // set when ended is closed
}

// StartManager starts the manager of the environment and returns when it is ready.
func (e *Env) StartManager(ctx context.Context) error {
	var err error
	if e.manager, err = e.Launch(ctx, "--leader-elect=false"); err != nil || !e.options.Logs {
		return err
	}
	return e.ServeLogsBy(ctx, e.manager)
}

// Launch starts a manager with further flags, and returns when it is ready. It is the
// caller's to stop.
func (e *Env) Launch(ctx context.Context, flags ...string) (*Manager, error) {
	return e.launch(ctx, ManagerUser, e.options.Logs, flags)
}

// LaunchLogs starts a process that serves only logs, with further flags, as Launch does.
func (e *Env) LaunchLogs(ctx context.Context, flags ...string) (*Manager, error) {
	return e.launch(ctx, LogsUser, true, append([]string{"--controllers=false"}, flags...))
}

func (e *Env) launch(ctx context.Context, user string, servesLogs bool, flags []string) (*Manager, error) {
	kubeconfig, err := e.options.Kubeconfig(ctx, e.Hub, user)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(e.options.Dir, user[strings.LastIndexByte(user, ':')+1:]+".kubeconfig")
	if err := os.WriteFile(path, kubeconfig, 0o600); err != nil {
		return nil, fmt.Errorf("writing the manager's kubeconfig: %w", err)
	}
	free, err := freeAddresses(ctx, 4)
	if err != nil {
		return nil, err
	}
	health, metrics, logs, pprof := free[0], free[1], free[2], free[3]
	flags = append([]string{
		"--kubeconfig=" + path, "--namespace=" + Namespace,
		"--metrics-bind-address=" + metrics, "--health-probe-bind-address=" + health,
		// The credentials of local clusters last a week; the default warns as long before.
		"--credential-expiry-warning=24h",
	}, flags...)
	if servesLogs {
		flags = append([]string{"--logs-bind-address=" + logs}, flags...) // one that is given wins
	}
	if e.options.Profiles {
		flags = append([]string{"--pprof-bind-address=" + pprof}, flags...)
	}
	m, err := startProcess(e.ManagerLog(), e.options.ManagerProgram, flags...)
	if err != nil {
		return nil, fmt.Errorf("starting the manager: %w; `make build` makes it", err)
	}
	m.metrics, m.logs, m.pprof = metrics, logs, pprof
	if err := m.waitReady(ctx, "http://"+health+"/readyz", e.ManagerLog()); err != nil {
		return nil, errors.Join(err, m.Kill())
	}
	return m, nil
}

// ManagerLog returns the file with the managers' log, of all their starts.
func (e *Env) ManagerLog() string { return filepath.Join(e.options.Dir, "manager.log") }

// Manager returns the manager of the environment; nil when it was stopped.
func (e *Env) Manager() *Manager { return e.manager }

// PID returns the number of a manager's process.
func (m *Manager) PID() int { return m.cmd.Process.Pid }

// Metrics returns what a manager's metrics endpoint says.
func (m *Manager) Metrics(ctx context.Context) (string, error) {
	body, err := get(ctx, "http://"+m.metrics+"/metrics")
	if err != nil {
		return "", fmt.Errorf("asking for metrics: %w", err)
	}
	return string(body), nil
}

// Profile returns one of the profiles of net/http/pprof, such as "heap?gc=1". It needs
// Options.Profiles.
func (m *Manager) Profile(ctx context.Context, name string) ([]byte, error) {
	body, err := get(ctx, "http://"+m.pprof+"/debug/pprof/"+name)
	if err != nil {
		return nil, fmt.Errorf("asking for a profile: %w", err)
	}
	return body, nil
}

// get returns the body of an answer that is 200.
func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	}
	return body, nil
}

// KillManager ends the manager of the environment as a crash would.
func (e *Env) KillManager() error {
	manager := e.manager
	e.manager = nil
	return manager.Kill()
}

// StopManager ends the manager of the environment, and reports an end that was not
// clean.
func (e *Env) StopManager() error {
	manager := e.manager
	e.manager = nil
	return manager.Stop()
}

// Kill ends a manager with SIGKILL.
func (m *Manager) Kill() error {
	if m == nil {
		return nil
	}
	err := m.cmd.Process.Kill()
	<-m.ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Pause makes a manager stand still, as SIGSTOP does, until Resume.
func (m *Manager) Pause() error { return m.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets a paused manager go on.
func (m *Manager) Resume() error { return m.cmd.Process.Signal(syscall.SIGCONT) }

// Ended returns a channel that is closed when a manager has ended.
func (m *Manager) Ended() <-chan struct{} { return m.ended }

// Stop ends a manager with SIGTERM, and reports an end that was not clean.
func (m *Manager) Stop() error {
	if m == nil {
		return nil
	}
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping the manager: %w", err)
	}
	select {
	case <-m.ended:
	case <-time.After(stopTimeout):
		_ = m.Kill()
		return fmt.Errorf("the manager did not end within %s of SIGTERM", stopTimeout)
	}
	if m.err != nil {
		return fmt.Errorf("the manager ended with: %w", m.err)
	}
	return nil
}

// startProcess starts a program that ends with this one.
func startProcess(log, program string, args ...string) (*Manager, error) {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &Manager{cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = output, output
	tieToParent(p.cmd)
	started := make(chan error)
	go func() {
		// The kernel's parent-death signal is sent when the thread that started
		// the process ends: this one stays until the process has.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer output.Close()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.ended)
		}
	}()
	return p, <-started
}

// waitReady waits until url answers 200, or the process has ended.
func (m *Manager) waitReady(ctx context.Context, url, log string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-m.ended:
			return fmt.Errorf("the manager ended at once: %w; see %s", m.err, log)
		case <-ctx.Done():
			return fmt.Errorf("the manager is not ready after %s; see %s", readyTimeout, log)
		case <-tick.C:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return fmt.Errorf("asking whether the manager is ready: %w", err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
}

// freeAddresses finds addresses that nobody listens on.
func freeAddresses(ctx context.Context, number int) ([]string, error) {
	var config net.ListenConfig
	addresses := make([]string, number)
	listeners := make([]net.Listener, 0, number)
	defer func() {
		for _, listener := range listeners { // only now: they shall differ
			listener.Close()
		}
	}()
	for i := range addresses {
		listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("finding a free port: %w", err)
		}
		listeners = append(listeners, listener)
		addresses[i] = listener.Addr().String()
	}
	return addresses, nil
}
