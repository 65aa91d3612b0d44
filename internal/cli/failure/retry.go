package failure

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
)

// NewBackoff returns how long to wait between attempts while a server does not answer.
func NewBackoff() wait.Backoff {
	return wait.Backoff{Duration: 250 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 6, Cap: 5 * time.Second}
}

// Pause waits between two attempts, or until the context ends.
func Pause(ctx context.Context, backoff *wait.Backoff) error {
	timer := time.NewTimer(backoff.Step())
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// MayPass reports whether an error of a request may go away by itself.
func MayPass(err error) bool {
	var status apierrors.APIStatus
	var deleted DeletedError
	switch {
	case errors.As(err, &deleted):
		return false
	case !errors.As(err, &status):
		return true // no answer, or a broken one
	}
	code := status.Status().Code
	return code == 429 || code >= 500 || apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}

// UnlessItMayPass returns an error that ends a wait, and nil for one that may go away by
// itself.
func UnlessItMayPass(err error) error {
	if err != nil && MayPass(err) {
		return nil
	}
	return err
}

// IsRefusal reports whether an answer is one that a hub also gives for a moment: while a
// token is renewed, or when an API server that has just started does not know the roles
// yet. To one who was let in before it is not the last word.
func IsRefusal(err error) bool { return apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) }

// MaxRefusals is how many refusals in a row are the last word.
const MaxRefusals = 6

// Refusals counts the refusals in a row of a hub that has let us in before.
type Refusals int

// MayTryAgain counts an error, and reports whether to try again after it.
func (r *Refusals) MayTryAgain(err error) bool {
	if !IsRefusal(err) {
		return MayPass(err)
	}
	*r++
	return *r < MaxRefusals
}

// DeletedError is the error when the run that is meant was deleted, or when another run
// has its name.
type DeletedError struct {
	// Run is the namespace and the name of the run.
	Run types.NamespacedName
}

func (e DeletedError) Error() string {
	return fmt.Sprintf("PooledJob %s was deleted before its end was seen; a new run is a new PooledJob", e.Run)
}
