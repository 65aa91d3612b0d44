package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const (
	// parentVariable holds the process ID of the parent that a server must not
	// outlive. The package test/localcluster sets it.
	parentVariable = "LOCALKUBE_PARENT_PID"

	parentCheckInterval = 200 * time.Millisecond
)

// server makes a program a servant of the parent that the environment names, if
// it names one: the program ends with its parent, and at once when told to.
func server(run func() int) func() int {
	return func() int {
		parent, err := strconv.Atoi(os.Getenv(parentVariable))
		if err == nil {
			go endWithParent(parent)
			go endAtOnce()
		}
		return run()
	}
}

// endWithParent exits as soon as this process is no longer the parent's child:
// an orphan is given to another process at once. Polling instead of Linux's
// parent death signal: that one is sent when the parent's thread ends, and Go
// programs start processes from threads that come and go.
func endWithParent(parent int) {
	for range time.Tick(parentCheckInterval) {
		if os.Getppid() != parent {
			fmt.Fprintf(os.Stderr, "process %d, which started this one, is gone: exiting\n", parent)
			os.Exit(1)
		}
	}
}

// endAtOnce exits at the first SIGTERM. By themselves the servers end in order,
// and a kube-apiserver waits up to a minute for clients that watch something; the
// state of a test is not worth that.
func endAtOnce() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	<-signals
	fmt.Fprintln(os.Stderr, "SIGTERM: exiting without more ado")
	os.Exit(0)
}
