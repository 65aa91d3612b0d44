// Package run has the commands that start and stop runs: run, rerun and cancel.
//
// It promises that a name is one run, however often a command line is repeated; that the
// output of the command is that of the run, and its exit code the run's; and that no
// signal leaves a run going without a word.
package run
