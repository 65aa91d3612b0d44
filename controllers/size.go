package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

const (
	// maxObjectSize is how large a PooledJob may be before its run begins, in bytes of JSON. etcd
	// takes requests of 1.5 MiB (its flag --max-request-bytes); a status with all that may be in it
	// needs the rest.
	maxObjectSize = 1280 << 10
	// sureSize is the size of a template, in bytes of protobuf, up to which the whole object cannot
	// be larger than that, with what else clients write into it.
	sureSize = 128 << 10
)

// whyTooLarge says why the PooledJob is so large that its status might not fit into it; empty if it
// is not. Then the run must not begin: neither could its end be written nor, with the finalizer on
// it, its deletion begin. The hub is asked for the size, for the cache does not have all of the
// object.
func (r *run) whyTooLarge(ctx context.Context) (why string, err error) {
	if template := r.job.Spec.Template; template == nil || template.Size() <= sureSize || r.job.Status.Attempt > 0 {
		return "", nil
	}
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PooledJob"))
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(r.job), live); err != nil {
		return "", fmt.Errorf("reading the PooledJob's size: %w", err)
	}
	data, err := json.Marshal(live.Object)
	if err != nil {
		return "", fmt.Errorf("reading the PooledJob's size: %w", err)
	}
	if len(data) <= maxObjectSize {
		return "", nil
	}
	return fmt.Sprintf("The PooledJob has %d bytes, and its status might not fit into it: at most %d can be run. Shorten spec.template, "+
		"for example by a ConfigMap on the cluster.", len(data), maxObjectSize), nil
}

// announceTooLarge emits an Event for a status that does not fit into the PooledJob.
func (r *run) announceTooLarge(err error) {
	if apierrors.IsRequestEntityTooLargeError(err) || strings.Contains(err.Error(), "request is too large") {
		r.Recorder.Eventf(r.job, nil, corev1.EventTypeWarning, v1alpha1.ReasonTooLarge, "Run",
			"The PooledJob is so large that its status cannot be written. Delete it, and shorten spec.template.")
	}
}
