package main

import (
	"os"
	"strconv"
	"syscall"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

const (
	// exitOwnError is for errors of the plugin itself, and for a run that failed
	// without an exit code of its own.
	exitOwnError = 1
	// exitSignal is added to the number of the signal that ended us, as shells do.
	exitSignal = 128
)

// exitCode is an error about which everything was said already.
type exitCode int

func (c exitCode) Error() string { return "exit code " + strconv.Itoa(int(c)) }

// exitOf is the exit code of a run that has ended, as an error; nil for success.
func exitOf(job *v1alpha1.PooledJob) error {
	if job.Status.Phase == v1alpha1.PooledJobSucceeded {
		return nil
	}
	// A Job can fail although the container that speaks for it ended with 0. A shell
	// sees the low byte only: what would look like another code, or like success, is
	// not passed on.
	if code := job.Status.Result.ExitCode; code != nil && *code >= 1 && *code <= 255 {
		return exitCode(*code)
	}
	return exitCode(exitOwnError)
}

// exitAfter is exitOf for a run that was cancelled by a signal: without an exit code
// of its own it is that of the signal.
func exitAfter(job *v1alpha1.PooledJob, interrupt os.Signal) error {
	err := exitOf(job)
	number, ok := interrupt.(syscall.Signal)
	if err != nil && ok && job.Status.Result.ExitCode == nil {
		return exitCode(exitSignal + int(number))
	}
	return err
}
