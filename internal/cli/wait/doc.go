// Package wait waits for runs: it follows what the hub says of one, and has the command
// wait.
//
// It promises that a wait outlives restarts of the hub's API server and refusals that
// pass, and that it never takes another run of the same name for the one that is meant.
package wait
