package failure

import (
	"os"
	"strconv"
	"syscall"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// ExitOwnError is the exit code for errors of the plugin itself, and for a run that
// failed without an exit code of its own.
const ExitOwnError ExitCode = 1

// exitSignal is added to the number of the signal that ended us, as shells do.
const exitSignal = 128

// ExitCode is an error about which everything was said already: the program ends with it.
type ExitCode int

func (c ExitCode) Error() string { return "exit code " + strconv.Itoa(int(c)) }

// ExitOfSignal returns the exit code of a program that a signal ended.
func ExitOfSignal(signal syscall.Signal) ExitCode { return ExitCode(exitSignal + int(signal)) }

// ExitOfRun returns the exit code of a run that has ended, as an error; nil for success.
func ExitOfRun(job *v1alpha1.PooledJob) error {
	if job.Status.Phase == v1alpha1.PooledJobSucceeded {
		return nil
	}
	// A Job can fail although the container that speaks for it ended with 0. A shell
	// sees the low byte only: what would look like another code, or like success, is
	// not passed on.
	if code := job.Status.Result.ExitCode; code != nil && *code >= 1 && *code <= 255 {
		return ExitCode(*code)
	}
	return ExitOwnError
}

// ExitOfInterrupted is ExitOfRun for a run that was cancelled by a signal: without an
// exit code of its own it is that of the signal.
func ExitOfInterrupted(job *v1alpha1.PooledJob, interrupt os.Signal) error {
	err := ExitOfRun(job)
	number, ok := interrupt.(syscall.Signal)
	if err != nil && ok && job.Status.Result.ExitCode == nil {
		return ExitOfSignal(number)
	}
	return err
}
