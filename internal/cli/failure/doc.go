// Package failure knows what becomes of an error: whether another attempt may help, what
// a person is told to do about it, and the exit code that the program ends with.
//
// It promises that a run that has failed never looks like one that has succeeded, and
// that an error that says what to do already is not explained again.
package failure
