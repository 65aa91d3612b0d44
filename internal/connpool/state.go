package connpool

import (
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// State is the state of a connection.
type State string

// The states of a connection.
const (
	// Connecting: the first session has not come to a result.
	Connecting State = "Connecting"
	// Ready: the informers have the whole view and requests can be made.
	Ready State = "Ready"
	// Unreachable: the target does not answer, or not as an API server would.
	Unreachable State = "Unreachable"
	// Rejected: the target does not accept the credentials.
	Rejected State = "Rejected"
	// Forbidden: the target denies a right that watching needs.
	Forbidden State = "Forbidden"
	// IdentityChanged: another cluster answers than the expected one.
	IdentityChanged State = "IdentityChanged"
)

// Status is what is known of a connection.
type Status struct {
	State State
	// Err says why the connection is not Ready; nil when it is.
	Err error
	// KubernetesVersion and ClusterUID are what the target last told of
	// itself; empty before.
	KubernetesVersion, ClusterUID string
	// LastContact is when the target last answered; zero if it never has.
	LastContact time.Time
}

// ErrClosed is the error of every call on a Lease whose session has ended.
var ErrClosed = errors.New("the connection was closed")

// ErrBusy is the error of a call on a Lease while Options.MaxInFlight others are
// under way to the same target. Nothing was sent.
var ErrBusy = errors.New("too many requests to the target are under way")

// NotReadyError is the error of Pool.Lease for a connection that is not Ready.
type NotReadyError struct {
	Connection string
	Status     Status
}

func (e *NotReadyError) Error() string {
	if e.Status.Err == nil {
		return fmt.Sprintf("connection %s is %s", e.Connection, e.Status.State)
	}
	return fmt.Sprintf("connection %s is %s: %v", e.Connection, e.Status.State, e.Status.Err)
}

func (e *NotReadyError) Unwrap() error { return e.Status.Err }

// identityError is the end of a session that met another cluster.
type identityError struct{ want, got string }

func (e *identityError) Error() string {
	return fmt.Sprintf("the cluster at this address has the UID %s (of its namespace kube-system), not %s as before", e.got, e.want)
}

// stateAfter is the state of a connection whose session ended with err.
func stateAfter(err error) State {
	var identity *identityError
	switch {
	case errors.As(err, &identity):
		return IdentityChanged
	case apierrors.IsUnauthorized(err):
		return Rejected
	case apierrors.IsForbidden(err):
		return Forbidden
	default:
		return Unreachable
	}
}
