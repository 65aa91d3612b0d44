package connpool

import (
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/internal/connpool/transport"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// State is the state of a connection.
type State string

// The states of a connection.
const (
	// Connecting: the first session has not come to a result, or one that was
	// Idle is wanted again.
	Connecting State = "Connecting"
	// Ready: the informers have the whole view and requests can be made.
	Ready State = "Ready"
	// Idle: nobody needs it, and it is closed. A call of Lease wakes it.
	Idle State = "Idle"
	// Unreachable: the target does not answer, or not as an API server would.
	Unreachable State = "Unreachable"
	// Rejected: the target does not accept the credentials.
	Rejected State = "Rejected"
	// Forbidden: the target denies a right that watching needs.
	Forbidden State = "Forbidden"
	// Stale: the target answers, but its watches are silent.
	Stale State = "Stale"
	// LimitExceeded: the target's answers are larger than an API server's, or there are more Jobs
	// and Pods of this hub than can be held.
	LimitExceeded State = "LimitExceeded"
	// IdentityChanged: another cluster answers than the expected one.
	IdentityChanged State = "IdentityChanged"
)

var states = []State{Connecting, Ready, Idle, Unreachable, Rejected, Forbidden, Stale, LimitExceeded, IdentityChanged}

// Status is what is known of a connection.
type Status struct {
	State State
	// Err says why the connection is not Ready; nil when it is.
	Err error
	// IdentityHash is the key of the identity in use. Connections with the same
	// one share everything.
	IdentityHash string
	// Server is the address in use.
	Server string
	// ExpiresAt is when the credential in use ends, as its Config said.
	ExpiresAt time.Time
	// KubernetesVersion and ClusterUID are what the target last reported of
	// itself; empty before.
	KubernetesVersion, ClusterUID string
	// LastContact is when the target last answered; zero if it never has.
	LastContact time.Time
	// Next is what is known of the identity that the last Connect brought, while
	// the one before it is in use.
	Next *Attempt

	views string // what is watched, and the state of each view
}

// Attempt is what is known of an identity that is not in use yet.
type Attempt struct {
	State State
	// Err says why it is not in use; nil while that is being tried.
	Err error
	// ClusterUID is that of the cluster that it reaches; empty if it does not.
	ClusterUID string
}

// ErrClosed is the error of every call on a Lease whose session has ended.
var ErrClosed = transport.ErrClosed

// ErrNotSent is the error of a call for which no TCP connection to the target could be
// had, or none that leads to the cluster from before. Nothing was sent.
var ErrNotSent = transport.ErrNotSent

// ErrBusy is the error of a call on a Lease while as many others are under way to
// the same target, or were made within the last second, as may be. Nothing was sent.
// OnChange is called when there is room.
var ErrBusy = errors.New("too many requests to the target are under way")

// ErrNotWatched is the error of a question about objects in a namespace that the
// connection does not watch.
var ErrNotWatched = errors.New("the connection does not watch the namespace")

// ExceedsLimit reports whether a limit is why something was not read: of a target's answer, or of the
// memory that there is for what it holds.
func ExceedsLimit(err error) bool { return prune.ExceedsLimit(err) }

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

// identityError is why a target is not the expected cluster.
type identityError struct{ want, got string }

func (e *identityError) Error() string {
	return fmt.Sprintf("the cluster at this address has the UID %s (of its namespace kube-system), not %s as before", e.got, e.want)
}

var (
	// errIdle ends the session of a connection that nobody needs.
	errIdle     = errors.New("nobody needs the connection")
	errSlowList = errors.New("the first list of Jobs and Pods took too long")
	errStale    = errors.New("the target answers, but its watches have been silent for too long, without even a bookmark")
)

// stateAfter returns the state of a connection whose session ended with err.
func stateAfter(err error) State {
	var other *identityError
	switch {
	case errors.As(err, &other):
		return IdentityChanged
	case errors.Is(err, errIdle):
		return Idle
	case errors.Is(err, transport.ErrOtherCluster):
		return Connecting
	case apierrors.IsUnauthorized(err):
		return Rejected
	case isForbidden(err):
		return Forbidden
	case ExceedsLimit(err):
		return LimitExceeded
	default:
		return Unreachable
	}
}

// isForbidden reports whether an API server denied a right; a proxy's page with the
// same code says nothing about rights.
func isForbidden(err error) bool {
	return apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}
