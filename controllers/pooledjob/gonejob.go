package pooledjob

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// This file says how a run ends whose Job is proven gone.

// lost ends a run whose Job is proven gone, unless it is to be moved: that is done only with
// one that is known not to have completed, by a view that shows all of its Pods.
func (r *run) lost(ctx context.Context) (time.Duration, error) {
	name := fmt.Sprintf("Job %s/%s", r.Intent.Namespace, r.Intent.JobName)
	if r.MovesAfterLoss() && r.NeverStarted() {
		moved, after, err := r.moveIdle(ctx, name)
		if moved || after > 0 || err != nil {
			return after, err
		}
	}
	deleted, after, err := r.wasDeleted(ctx)
	switch {
	case err != nil:
		return 0, err
	case after > 0:
		return after, nil
	case deleted && r.Cancelled():
		r.writer.Fail(v1alpha1.ReasonCancelled, "The run was cancelled, and "+name+" is gone."+r.LeftPods())
	case deleted:
		r.writer.Fail(v1alpha1.ReasonRemoteJobDeleted, "The deletion of "+name+" on the cluster began before it had finished. It is not run again."+r.LeftPods())
	default:
		message := name + " is gone from the cluster, and nobody saw how it ended: it may have completed before it was deleted. It is not run again."
		if r.Cancelled() {
			message += " (It was to be cancelled.)"
		}
		r.writer.Fail(v1alpha1.ReasonRemoteJobEndUnknown, message+r.LeftPods())
	}
	return 0, nil
}

// moveIdle moves a run whose Job is gone, and never started, if it certainly had no Pods. after is when to ask
// again, if that is not known now.
func (r *run) moveIdle(ctx context.Context, name string) (moved bool, after time.Duration, err error) {
	if left := r.PodsTimeLeft(); left > 0 && !r.Memory.Gone.Settled {
		return false, r.awaitPods(left), nil
	}
	if !r.showsAllPods() {
		return false, 0, nil
	}
	found, err := r.lookForPods(ctx)
	if err != nil || !r.hadNoPods(found) {
		return false, 0, err
	}
	r.writer.Move(fmt.Sprintf("Moved away from ClusterConnection %q: the run's status was unknown for longer than spec.failover.afterSeconds, "+
		"and %s was seen to be deleted before it had started.", r.Cluster, name))
	return true, 0, nil
}

// showsAllPods reports whether the view has shown, or shows, all Pods of the Job that is gone.
func (r *run) showsAllPods() bool {
	return r.Memory.Gone.Settled || r.ViewShows(r.Memory.Gone.At)
}

// hadNoPods reports whether the Job that is gone certainly had no Pods.
func (r *run) hadNoPods(found podsOfGone) bool {
	complete := r.Memory.Gone.Settled || (found.complete && r.showsAllPods())
	return complete && !found.tooMany && len(found.listed)+len(found.ended) == 0
}

// awaitPods remembers that nothing but the view is waited for, and returns for how long.
func (r *run) awaitPods(left time.Duration) time.Duration {
	if !r.Memory.Gone.Awaited {
		r.remember(func(m *decision.Memory) { m.Gone.Awaited = true })
	}
	return left
}

// wasDeleted reports whether the Job that is gone had not ended when it was deleted. It was seen to
// be deleted, or it left the view undecided, is proven absent at once, and no Pod of it has ended by
// itself since. (That it left the view proves too little: a Job that loses its labels leaves it,
// too, may complete, and may be deleted then.) after is when to ask again, if that is not known now.
func (r *run) wasDeleted(ctx context.Context) (deleted bool, after time.Duration, err error) {
	uid, gone, left := r.ObservedUID(), r.Memory.Gone.Job, r.PodsTimeLeft()
	switch {
	case uid != "" && r.Memory.DeletionSeen == uid:
		return true, 0, nil
	case gone == nil || gone.UID != uid || jobstatus.Decided(gone):
		return false, 0, nil // it was about to end, and may have
	case !gone.DeletionTimestamp.IsZero():
		return true, 0, nil
	case !r.Memory.Gone.Watched || r.Memory.Gone.PodsMissing || r.Memory.Gone.Forgotten || r.PodsWaitIsOver():
		return false, 0, nil
	case left > 0:
		return false, r.awaitPods(left), nil
	}
	found, err := r.lookForPods(ctx)
	switch {
	case err != nil:
		return false, 0, err
	case !found.complete:
		return false, 0, nil // how it ended is not known
	case !found.tooMany && !r.showsPodThatIsGone(gone, found.listed):
		pods := slices.Concat(found.listed, r.Pods, found.ended, r.EndedPods, r.Memory.Gone.Pods)
		return !jobstatus.MayHaveEnded(gone, withoutRepeats(pods)), 0, nil
	case r.MayAwaitGonePods():
		r.remember(func(m *decision.Memory) { m.Gone.Asks++ })
		return false, decision.AskPause(r.Memory.Gone.Asks), nil
	default:
		return false, 0, nil
	}
}

// podsOfGone are the Pods that there are of a Job that is gone.
type podsOfGone struct {
	listed  []*corev1.Pod // by the target
	tooMany bool          // to list
	ended   []*corev1.Pod // that the view has seen to go
	// complete says that ended has all.
	complete bool
}

// lookForPods asks the target for the Pods of the Job that is gone, and after that the view for those
// that have gone: one may come into view and go while the target is asked.
func (r *run) lookForPods(ctx context.Context) (found podsOfGone, err error) {
	listed, err := r.lease.ListPods(ctx, r.Intent.Namespace)
	found.tooMany = errors.Is(err, connpool.ErrTooManyPods)
	if err != nil && !found.tooMany {
		return found, &targetError{doing: "looking for Pods of the Job that is gone", err: err}
	}
	found.listed = ofJob(listed, r.Intent.JobName)
	found.ended = ofJob(r.lease.EndedPods(r.Intent.Namespace), r.Intent.JobName)
	gone := r.lease.GoneJob(r.Intent.Namespace, r.Intent.JobName)
	found.complete = gone != nil && !gone.PodsMissing
	return found, nil
}

// withoutRepeats returns the first of the Pods with each UID.
func withoutRepeats(pods []*corev1.Pod) []*corev1.Pod {
	seen := map[types.UID]bool{}
	return slices.DeleteFunc(pods, func(pod *corev1.Pod) bool {
		repeated := seen[pod.UID]
		seen[pod.UID] = true
		return repeated
	})
}
