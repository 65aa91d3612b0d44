package localcluster

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
)

// PauseProgram makes a program stand still, as SIGSTOP does: its connections stay
// open, new ones are made by the kernel, and nothing answers. ResumeProgram ends that.
// Pausing a paused program does nothing. etcd cannot be paused alone.
func (c *Cluster) PauseProgram(program Program) error {
	c.running.Lock()
	defer c.running.Unlock()
	pid, err := c.pid(program)
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGSTOP)
	}
	if err != nil {
		return fmt.Errorf("pausing %s of cluster %s: %w", program, c.name, err)
	}
	if !slices.Contains(c.paused, pid) {
		c.paused = append(c.paused, pid)
	}
	return nil
}

// ResumeProgram lets a program go on where PauseProgram stopped it.
func (c *Cluster) ResumeProgram(program Program) error {
	c.running.Lock()
	defer c.running.Unlock()
	pid, err := c.pid(program)
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGCONT)
	}
	if err != nil {
		return fmt.Errorf("resuming %s of cluster %s: %w", program, c.name, err)
	}
	c.paused = slices.DeleteFunc(c.paused, func(p int) bool { return p == pid })
	return nil
}

// resumeAll lets every paused program go on, so that it can end in order.
func (c *Cluster) resumeAll() error {
	var errs []error
	for _, pid := range c.paused {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("resuming process %d: %w", pid, err))
		}
	}
	c.paused = nil
	return errors.Join(errs...)
}

// PID returns the process of the cluster's API server, or of another program that runs.
func (c *Cluster) PID(program Program) (int, error) {
	c.running.Lock()
	defer c.running.Unlock()
	return c.pid(program)
}

// pid returns PID. The lock running is held.
func (c *Cluster) pid(program Program) (int, error) {
	if program == APIServer {
		if c.serverDown || c.ended {
			return 0, os.ErrProcessDone
		}
		// envtest keeps the process to itself.
		return childWith(c.programPath(APIServer), "--cert-dir="+c.plane.APIServer.CertDir)
	}
	p, err := c.process(program)
	if err != nil {
		return 0, err
	}
	if p.cmd == nil {
		return 0, os.ErrProcessDone
	}
	return p.cmd.Process.Pid, p.crashed()
}
