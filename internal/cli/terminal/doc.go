// Package terminal writes lines for people: how something goes, and what an API
// server said.
//
// It promises that nothing of what it is given can make a terminal do anything but show
// text, that a line stays one line, and that the spinner of a Progress never mixes with
// other output. It knows nothing of Kubernetes objects.
package terminal
