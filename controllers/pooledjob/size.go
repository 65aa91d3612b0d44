package pooledjob

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/hubcache"
)

const (
	// MaxObjectSize is how large a PooledJob may be before its run begins, in bytes of JSON. etcd
	// takes requests of 1.5 MiB (its flag --max-request-bytes); a status with all that may be in it
	// needs the rest.
	MaxObjectSize = 1280 << 10
)

// whyTooLarge returns why the PooledJob is so large that its status might not fit into it; empty if it
// is not. Then the run must not begin: neither could its end be written nor, with the finalizer on
// it, its deletion begin.
func (r *run) whyTooLarge(ctx context.Context) (why string, err error) {
	if r.Job.Status.Attempt > 0 {
		return "", nil
	}
	if n := len(r.Job.Finalizers); n > hubcache.MaxFinalizers {
		return fmt.Sprintf("The PooledJob has more than %d finalizers; take some off.", hubcache.MaxFinalizers), nil
	}
	size, err := r.PooledJobs.Size(ctx, r.Job)
	switch {
	case err != nil:
		return "", fmt.Errorf("reading the PooledJob's size: %w", err)
	case size > MaxObjectSize:
		return fmt.Sprintf("The PooledJob has %d bytes, and its status might not fit into it: at most %d can be run. Shorten spec.template, "+
			"for example by a ConfigMap on the cluster.", size, MaxObjectSize), nil
	}
	return "", nil
}

// announceTooLarge emits an Event for a PooledJob that cannot be written because of what is in it.
func (r *run) announceTooLarge(err error) {
	if errors.Is(err, hubcache.ErrTooManyFinalizers) {
		r.Recorder.Eventf(r.Job, nil, corev1.EventTypeWarning, v1alpha1.ReasonTooLarge, "Run", "The PooledJob cannot be written: %v.", err)
	}
	if apierrors.IsRequestEntityTooLargeError(err) || strings.Contains(err.Error(), "request is too large") {
		r.Recorder.Eventf(r.Job, nil, corev1.EventTypeWarning, v1alpha1.ReasonTooLarge, "Run",
			"The PooledJob is so large that it cannot be written. Delete it, and shorten spec.template.")
	}
}
