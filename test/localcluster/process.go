package localcluster

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// parentVariable tells the localkube binary whose death it must not survive.
	parentVariable = "LOCALKUBE_PARENT_PID"

	// quotedLines is how much of a log an error shows: a crashing API server says
	// why in its last few lines.
	quotedLines = 15
)

// tieToThisProcess makes every localkube program started from now on end when
// this process does. It is an environment variable because envtest starts etcd
// and the API server and lets nobody set their process attributes.
func tieToThisProcess() error {
	if err := os.Setenv(parentVariable, strconv.Itoa(os.Getpid())); err != nil {
		return fmt.Errorf("telling the programs their parent: %w", err)
	}
	return nil
}

// process is a program that keeps no state worth saving and can be started
// again. Its methods must not be called concurrently.
type process struct {
	program Program
	path    string // of the program
	dir     string // working folder
	log     string // path of the log file
	args    []string

	env        []string             // on top of this process's
	input      *os.File             // standard input; nil for none
	stop       func() error         // ends the program in order; nil when it can only be killed
	attributes *syscall.SysProcAttr // nil for a process group of its own

	cmd  *exec.Cmd     // nil when the program was never started, or was killed
	done chan struct{} // closed when the program has ended and err is set
	err  error
}

// start runs the program, its output going to the end of the log file.
func (p *process) start() error {
	output, err := openLog(p.log)
	if err != nil {
		return err
	}
	defer output.Close() // the program has its own copy

	cmd := exec.Command(p.path, p.args...)
	cmd.Dir = p.dir
	// kwok reads a configuration from the home folder: a test must not depend on it.
	cmd.Env = append(append(os.Environ(), "HOME="+p.dir), p.env...)
	cmd.Stdout, cmd.Stderr = output, output
	if p.input != nil {
		cmd.Stdin = p.input
	}
	// An own process group keeps a Ctrl-C in the terminal for the test process,
	// which ends its clusters in order.
	cmd.SysProcAttr = cmp.Or(p.attributes, &syscall.SysProcAttr{Setpgid: true})
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.path, err)
	}
	done := make(chan struct{})
	p.cmd, p.done, p.err = cmd, done, nil
	go func() {
		p.err = cmd.Wait()
		close(done)
	}()
	return nil
}

// crashed returns an error with the end of the log if the program is gone
// without having been killed here.
func (p *process) crashed() error {
	if p.cmd == nil {
		return nil
	}
	select {
	case <-p.done:
	default:
		return nil
	}
	reason := p.err
	if reason == nil {
		reason = errors.New("exit status 0")
	}
	return fmt.Errorf("%s ended by itself: %w%s", p.program, reason, quoteLog(p.log))
}

// kill ends the program, if it runs, and waits for that.
func (p *process) kill() error {
	if p.cmd == nil {
		return nil
	}
	var notInOrder error
	if p.stop != nil {
		notInOrder = p.end()
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s (process %d): %w", p.program, p.cmd.Process.Pid, err)
	}
	<-p.done
	p.cmd = nil
	return notInOrder
}

// end ends the program in order, and says so when it takes too long.
func (p *process) end() error {
	if err := p.stop(); err != nil {
		return fmt.Errorf("stopping %s: %w", p.program, err)
	}
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("stopping %s: %w", p.program, p.err)
		}
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("%s did not end in %s and is killed; what it would have cleaned up is left%s", p.program, stopTimeout, quoteLog(p.log))
	}
}

// openLog opens a log for writing at its end, so that a program that is started
// again keeps what it wrote before.
func openLog(path string) (*os.File, error) {
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening a log: %w", err)
	}
	return log, nil
}

// quoteLog returns the last lines of a log as the end of an error text.
func quoteLog(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprintf("; its log cannot be read: %v", err)
	}
	text := strings.TrimSpace(string(content))
	if text == "" {
		return "; its log " + path + " is empty"
	}
	lines := strings.Split(text, "\n")
	if len(lines) > quotedLines {
		lines = lines[len(lines)-quotedLines:]
	}
	return "; the end of its log " + path + ":\n\t" + strings.Join(lines, "\n\t")
}
