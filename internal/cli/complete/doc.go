// Package complete completes arguments in a shell.
//
// It promises that a shell never waits for long and never shows an error: without an
// answer of the hub, or without the right to ask, there is nothing to offer.
package complete
