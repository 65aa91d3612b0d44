package transport

import (
	"errors"
	"syscall"

	"github.com/pooledjob/pooledjob/internal/prune"
)

// ErrClosed is the error of every call on a Lease whose session has ended.
var ErrClosed = errors.New("the connection was closed")

// ErrNotSent is the error of a call for which no TCP connection to the target could be
// had, or none that leads to the cluster from before. Nothing was sent.
var ErrNotSent = errors.New("the target could not be reached, or not proven to be the same")

// notSentError says why a request was not sent. It hides what it holds: the answer to
// the proof of a connection must not be taken for the answer to the request.
type notSentError struct{ cause error }

func (e *notSentError) Error() string { return e.cause.Error() }

// Is reports whether the target is ErrNotSent. It implements the interface of errors.Is.
func (e *notSentError) Is(target error) bool { return target == ErrNotSent }

// As shows of what it hides the error number of the operating system, and Timeout
// whether the time was up: a reflector goes on with its watch after such an error, where
// after any other it lists anew.
func (e *notSentError) As(target any) bool {
	errno, ok := target.(*syscall.Errno)
	return ok && errors.As(e.cause, errno)
}

// Timeout is described at As.
func (e *notSentError) Timeout() bool {
	var timeout interface{ Timeout() bool }
	return errors.As(e.cause, &timeout) && timeout.Timeout()
}

// Uncover is the error that a notSentError hides, for those who ask about the
// connection and not about their request.
func Uncover(err error) error {
	var hidden *notSentError
	if errors.As(err, &hidden) {
		return hidden.cause
	}
	return err
}

var (
	// ErrOtherCluster is the error of a new TCP connection that leads to another cluster.
	ErrOtherCluster = errors.New("another cluster answers over a new TCP connection than over the one before")
	// ErrNotKube is the error of an answer that no API server gives.
	ErrNotKube = prune.ErrMalformed
	errNoRoom  = errors.New("the server ends its connections before a request can be sent")
)
