package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/jobspec"
)

// create asks the target for the remote Job. The name makes it safe to ask again.
func (r *run) create(ctx context.Context) (time.Duration, error) {
	r.accept()
	created, err := r.lease.CreateJob(ctx, jobspec.Build(r.job, r.HubID, r.intent))
	switch {
	case err == nil:
		r.found(created)
		return 0, nil
	case errors.Is(err, connpool.ErrClosed) || errors.Is(err, connpool.ErrBusy) || errors.Is(err, connpool.ErrNotSent):
		return 0, err // nothing was sent
	case apierrors.IsAlreadyExists(err):
		return r.adopt(ctx)
	default:
		return r.refused(ctx, classify(err))
	}
}

// found records that the Job exists.
func (r *run) found(job *batchv1.Job) {
	r.remember(func(m *memory) {
		m.jobUID, m.createdAt = job.UID, r.now
		m.refusal, m.refusals = nil, 0
	})
	r.writer.Observe(job, nil)
}

// adopt looks at the Job that has our name already: it is ours if it carries our
// labels, and then an earlier request has created it. (Also when it is being
// deleted: then it is a Job that was, and its absence will be loss.)
func (r *run) adopt(ctx context.Context) (time.Duration, error) {
	existing, err := r.lease.GetJob(ctx, r.intent.Namespace, r.intent.JobName)
	if isAPIServerNotFound(err) {
		return r.refused(ctx, refusal{
			reason:  v1alpha1.ReasonTargetError,
			message: "A Job of that name was there and is gone; looking again.",
			unknown: true,
		})
	}
	if err != nil {
		return 0, &targetError{"reading the Job that has our name", err}
	}
	if jobspec.Owns(r.HubID, r.job, existing.Labels) {
		r.found(existing)
		return 0, nil
	}
	r.failNameConflict()
	return 0, nil
}

// failNameConflict ends the run because a Job that is not ours has its Job's name.
func (r *run) failNameConflict() {
	r.writer.Fail(v1alpha1.ReasonNameConflict, fmt.Sprintf(
		"Job %s/%s exists on the cluster and does not belong to this PooledJob; it was left alone.", r.intent.Namespace, r.intent.JobName))
}

// refused acts on the target's refusal: a final one ends the run, if no earlier
// request can have created the Job; any other is tried again.
func (r *run) refused(ctx context.Context, answer refusal) (time.Duration, error) {
	if answer.final {
		return r.refuse(ctx, action{reason: answer.reason, message: answer.message})
	}
	r.remember(func(m *memory) {
		m.refusal, m.retryAt = &answer, r.now.Add(backoff(m.refusals))
		m.refusals++
		if answer.unknown {
			m.unknownSince = r.Now()
		}
	})
	r.writer.Waiting(answer.reason, answer.message)
	left, _ := r.dispatchTimeLeft()
	return earliest(r.memory.retryAt.Sub(r.now), max(left, 0)), nil
}

// refuse ends the run before it has a remote Job. A run that is bound may have one
// all the same; then its absence must be proven first.
func (r *run) refuse(ctx context.Context, a action) (time.Duration, error) {
	if a.reason == v1alpha1.ReasonNotPermitted {
		if permitted, err := r.permittedLive(ctx); permitted || err != nil {
			return 100 * time.Millisecond, err // the cache will catch up
		}
	}
	if r.bound && !(r.memory.current && r.memory.unknownSince.IsZero()) {
		verdict, err := r.proveAbsence(ctx)
		if err != nil || verdict.outcome != absent {
			return r.notAbsent(verdict, err)
		}
	}
	if a.reason == v1alpha1.ReasonNotPermitted {
		r.writer.Accepted(metav1.ConditionFalse, a.reason, a.message)
	}
	r.writer.Fail(a.reason, a.message)
	return 0, nil
}

// permittedLive checks the access rules against the hub's API server: a refusal is
// final, and a cache may be behind a namespace's labels or a rule.
func (r *run) permittedLive(ctx context.Context) (bool, error) {
	connection := &v1alpha1.ClusterConnection{}
	if err := r.Live.Get(ctx, client.ObjectKey{Name: r.cluster}, connection); err != nil {
		if apierrors.IsNotFound(err) {
			return true, nil // it waits for the connection then
		}
		return false, fmt.Errorf("reading the access rules: %w", err)
	}
	live, err := r.checkAccess(ctx, r.Live, connection, r.job)
	return live.permitted, err
}
