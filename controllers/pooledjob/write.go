package pooledjob

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/metrics"
)

const (
	// writeInterval is the shortest time between two writes of a PooledJob that
	// is not finished: what happens in between is written together.
	writeInterval = time.Second
	// CountersInterval is how long a status waits of which only counters and times
	// changed. A Job's counters move several times within the seconds of its start and of
	// its end, and the writes that follow carry them.
	CountersInterval = 10 * time.Second
)

// writeMeta writes changed metadata of the PooledJob, if nobody has written it since it was
// read. What is known of it is from then on what was written.
func (r *run) writeMeta(ctx context.Context, kind metrics.Write, changed *metav1.ObjectMeta) error {
	before := &v1alpha1.PooledJob{ObjectMeta: r.Job.ObjectMeta}
	written, err := r.send(ctx, before, &v1alpha1.PooledJob{ObjectMeta: *changed})
	if err != nil {
		return err
	}
	r.wrote(kind, written, r.before)
	return nil
}

// writeStatus writes the status if it changed: a final one at once, one with news
// when enough time has passed since the last write, and any other when it has waited for
// long enough. It returns the time until then.
func (r *run) writeStatus(ctx context.Context) (wait time.Duration, err error) {
	r.writer.Seal()
	if r.released || equality.Semantic.DeepEqual(*r.before, r.Job.Status) {
		return 0, nil
	}
	finished, more := jobstatus.Finished(&r.Job.Status), tellsMore(r.before, &r.Job.Status)
	if !finished && !more && r.Memory.WaitsSince.IsZero() {
		r.remember(func(m *decision.Memory) { m.WaitsSince = r.Time })
	}
	due := r.Memory.WrittenAt.Add(writeInterval)
	if !more {
		due = r.Memory.WaitsSince.Add(CountersInterval)
	}
	if left := due.Sub(r.Time); left > 0 && !finished {
		return left, nil
	}
	before := &v1alpha1.PooledJob{ObjectMeta: r.Job.ObjectMeta, Status: *r.before}
	after := &v1alpha1.PooledJob{ObjectMeta: r.Job.ObjectMeta, Status: r.Job.Status}
	written, err := r.send(ctx, before, after, "status")
	if err != nil {
		return 0, client.IgnoreNotFound(fmt.Errorf("writing the status: %w", err))
	}
	r.logPhase(ctx)
	if !finished || jobstatus.Finished(r.before) {
		r.wrote(metrics.WriteStatus, written, &r.Job.Status)
		r.announceMove()
		return 0, nil
	}
	r.wrote(metrics.WriteTerminal, written, &r.Job.Status)
	r.forgetGone()
	r.countEnd()
	r.announceFailure()
	return 0, nil
}

// logPhase logs a change of the phase that was written.
func (r *run) logPhase(ctx context.Context) {
	if from, to := r.before.Phase, r.Job.Status.Phase; from != to {
		logf.FromContext(ctx).Info("The phase changed", "from", from, "to", to, "cluster", r.Cluster)
	}
}

// send patches the difference between two PooledJobs that have no spec, and returns the
// metadata after that. The hub is not asked for the rest: that is what was sent.
func (r *run) send(ctx context.Context, before, after *v1alpha1.PooledJob, subresources ...string) (*metav1.ObjectMeta, error) {
	data, err := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}).Data(after)
	if err != nil {
		return nil, fmt.Errorf("encoding a patch: %w", err)
	}
	written, err := r.PooledJobs.Patch(ctx, &before.ObjectMeta, data, subresources...)
	if err != nil {
		r.announceTooLarge(err)
	}
	if apierrors.IsConflict(err) {
		r.memories.outdated(client.ObjectKeyFromObject(r.Job))
	}
	return written, err
}

// wrote notes a write that the hub has acknowledged, and what the PooledJob is since.
func (r *run) wrote(kind metrics.Write, written *metav1.ObjectMeta, status *v1alpha1.PooledJobStatus) {
	r.Metrics.Wrote(kind)
	over := r.Job.ResourceVersion
	r.Job.ObjectMeta = *written
	// Nobody changes what it shares with r.Job: metadata are replaced as a whole, and the
	// status is not touched after it was written.
	latest := &v1alpha1.PooledJob{TypeMeta: r.Job.TypeMeta, ObjectMeta: *written, Spec: r.Job.Spec, Status: *status}
	r.remember(func(m *decision.Memory) {
		m.WrittenAt = r.Time
		if kind == metrics.WriteStatus || kind == metrics.WriteTerminal {
			m.WaitsSince = time.Time{}
		}
		if over != written.ResourceVersion {
			m.WrittenOver, m.Written = append(slices.Clip(m.WrittenOver), over), latest
		}
	})
}

// forgetGone drops what is remembered of a Job that is gone, once its run's end is written.
func (r *run) forgetGone() {
	if r.lease != nil {
		r.lease.ForgetJob(r.Intent.Namespace)
	}
	r.remember(func(m *decision.Memory) {
		m.Gone = decision.Gone{}
		m.Warnings, m.Standstill = nil, decision.Standstill{}
	})
}

// countEnd counts a run whose final status is on the hub.
func (r *run) countEnd() {
	r.arrivals.Take(r.Job.UID) // it may never have had a Job
	r.Metrics.RunFinished(r.Cluster, r.Job.Status.Phase)
	if ended := r.Memory.EndedAt; !ended.IsZero() {
		r.Metrics.EndWritten(r.Cluster, r.Clock.Now().Sub(ended))
	}
}

// tellsMore reports whether a status says something new that somebody waits for, as
// against other counters or the end of a trouble.
func tellsMore(before, after *v1alpha1.PooledJobStatus) bool {
	return before.JobRef.UID != after.JobRef.UID || !equality.Semantic.DeepEqual(before.Conditions, after.Conditions) ||
		(after.Result.Reason != "" && after.Result.Reason != before.Result.Reason)
}

// announceMove emits an Event for a run that was moved away from a cluster.
func (r *run) announceMove() {
	moved := meta.FindStatusCondition(r.Job.Status.Conditions, v1alpha1.ConditionDispatched)
	if r.Job.Status.Attempt > r.before.Attempt && moved != nil {
		r.Recorder.Eventf(r.Job, nil, corev1.EventTypeWarning, v1alpha1.ReasonFailedOver, "Move", "%s", jobstatus.Truncate(moved.Message, jobstatus.MaxEventNote))
	}
}

// announceFailure emits an Event for a run that has failed.
func (r *run) announceFailure() {
	failed := meta.FindStatusCondition(r.Job.Status.Conditions, v1alpha1.ConditionFailed)
	if failed != nil {
		r.Recorder.Eventf(r.Job, nil, corev1.EventTypeWarning, failed.Reason, "Run", "%s", jobstatus.Truncate(failed.Message, jobstatus.MaxEventNote))
	}
}
