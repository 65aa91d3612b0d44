package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// realNode keeps the programs of one real node together. It is the first process
// of a PID namespace and has a mount namespace of its own, so that the kernel ends
// every container and every mount with it: a container runtime leaves its
// containers running when it ends, by design, and tests must leave nothing.
type realNode struct {
	cgroup string // of all containers, below each hierarchy

	mu       sync.Mutex      // held while a process is started or collected
	programs map[int]program // by process ID
}

// program is a line of the standard input: a program to start.
type program struct {
	Args []string `json:"args"`
	Log  string   `json:"log"`
}

// runRealNode starts a program for each line of its standard input, and ends, with
// everything, when that input ends: the kernel closes it when the process that
// holds the other end is gone, however that went.
func runRealNode() int {
	flags := flag.NewFlagSet("realnode", flag.ExitOnError)
	cgroup := flags.String("cgroup", "", "the cgroup of the containers; removed at the end")
	keep := flags.String("keep", "", "comma-separated paths to keep in sight although a folder above is hidden")
	_ = flags.Parse(os.Args[1:]) // it exits
	if os.Getpid() != 1 || *cgroup == "" {
		fmt.Fprintln(os.Stderr, "realnode: to be started by test/localcluster, in new PID and mount namespaces and with --cgroup")
		return 2
	}
	_ = os.Unsetenv(parentVariable) // from here on the kernel sees to it
	n := &realNode{cgroup: *cgroup, programs: map[int]program{}}
	if err := errors.Join(hideHost(strings.Split(*keep, ",")), makeCgroups(*cgroup)); err != nil {
		return n.end(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- n.collect() }()
	go func() { ended <- n.obey() }()
	return n.end(<-ended)
}

// obey starts programs until the input ends.
func (n *realNode) obey() error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var p program
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return fmt.Errorf("reading what to start: %w", err)
		}
		if err := n.start(p); err != nil {
			return fmt.Errorf("starting %v: %w", p.Args, err)
		}
	}
	return lines.Err()
}

func (n *realNode) start(p program) error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the program has its own copy
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	process, err := os.StartProcess(p.Args[0], p.Args, &os.ProcAttr{Files: []*os.File{null, log, log}})
	if err != nil {
		return err
	}
	n.programs[process.Pid] = p
	return process.Release()
}

// collect waits for processes, also for the orphans that the first process
// inherits, until a program of the node ends.
func (n *realNode) collect() error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	for range signals {
		n.mu.Lock()
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
			if p, ok := n.programs[pid]; ok {
				n.mu.Unlock()
				return p.crashed(status)
			}
		}
		n.mu.Unlock()
	}
	return nil
}

// crashed is an error with the last lines of the program's log: a cluster that does
// not start shows this process's log only.
func (p program) crashed(status syscall.WaitStatus) error {
	const quoted = 10
	content, err := os.ReadFile(p.Log)
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return errors.Join(fmt.Errorf("%s\n%s ended by itself: exit code %d",
		strings.Join(lines[max(0, len(lines)-quoted):], "\n"), filepath.Base(p.Args[0]), status.ExitStatus()), err)
}

// end kills every other process of the namespace and removes the containers'
// cgroups, which no process holds then.
func (n *realNode) end(cause error) int {
	n.mu.Lock() // for good: nothing is started or collected any more
	errs := []error{cause}
	if err := syscall.Kill(-1, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		errs = append(errs, fmt.Errorf("killing what runs: %w", err))
	}
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); errors.Is(err, syscall.ECHILD) {
			break
		}
	}
	errs = append(errs, removeCgroups(n.cgroup))
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
