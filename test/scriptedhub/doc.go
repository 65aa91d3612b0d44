// Package scriptedhub is an API server for unit tests, as far as the plugin needs one. It
// has one PooledJob and answers as a test says.
//
// It promises that a test can do to the plugin what a real hub does only by accident:
// refuse, stay silent, end watches, replace the run by another of its name.
package scriptedhub
