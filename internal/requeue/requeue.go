// Package requeue says when a reconcile is to look again.
package requeue

import (
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
)

// Result returns that of a reconcile that is to look again after a while, if that is not 0, or that failed on
// the hub. A lost race is another look: whoever won has changed the object, and the cache will show it.
func Result(after time.Duration, err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// Earliest returns the shorter of two delays, of which 0 means none.
func Earliest(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
