// Package cli is the kubectl plugin `kubectl pooledjob`: its command line, and what
// becomes of an error at its end.
//
// It promises that standard output has nothing but what a command is for, that an error
// is one line on standard error that a terminal can show, and that the exit code is that
// of the run where a command is about one. The commands are in packages below it: each
// speaks to the hub alone, with the rights of its user; only connect also speaks to a
// target.
package cli
