package pooledjob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/metrics"
	"github.com/pooledjob/pooledjob/internal/requeue"
)

// busyPause is the wait when as many requests to the target are under way as may be.
// The pool wakes us when there is room; this is for when that goes by unused.
const busyPause = 5 * time.Second

// notSentPause is the wait when there is no TCP connection to the target, before the
// pool knows whether it is Unreachable.
const notSentPause = 2 * time.Second

// run is one reconcile of one PooledJob.
type run struct {
	*Reconciler
	*decision.Snapshot
	lease  *connpool.Lease // nil unless Contact of the Snapshot is Reached
	before *v1alpha1.PooledJobStatus
	writer *jobstatus.Writer
	// wokenAt is when the news came that this looks into; zero if none did.
	wokenAt time.Time
	// lookAgain is when what was found is to be looked at again; 0 on a change.
	lookAgain time.Duration
	// released is true if the finalizer is off: the PooledJob may be gone.
	released bool
}

// act does what was decided. It returns when to look again, if not only on a
// change.
func (r *run) act(ctx context.Context, a decision.Action) (after time.Duration, err error) {
	if r.Remote != nil && !r.Memory.Seen && r.Memory.JobUID != "" {
		r.remember(func(m *decision.Memory) { m.Seen = true })
	}
	switch a.Verb {
	case decision.Settle:
		return a.After, nil
	case decision.Wait:
		r.recordWait(a)
		return a.After, nil
	case decision.Accept:
		r.accept()
		return a.After, nil
	case decision.Refuse:
		after, err = r.refuse(ctx, a)
	case decision.Restore:
		after, err = r.restore(ctx)
	case decision.Place, decision.Bind:
		after, err = r.begin(ctx, a.Verb)
	case decision.Create:
		after, err = r.claimAndCreate(ctx)
	case decision.Observe:
		after, err = a.After, r.observe(ctx, r.Remote)
	case decision.ObserveGone:
		err = r.observe(ctx, r.Memory.Gone.Job)
	case decision.KeepJob:
		if err = r.observe(ctx, r.Remote); err == nil {
			after, err = r.keepFinished(ctx, r.Remote)
		}
	case decision.PatchRemote:
		after, err = r.patchRemote(ctx, a)
	case decision.MoveAway:
		r.writer.Move(a.Message) // it is placed anew when that is written, and only then
	case decision.ConfirmLoss:
		after, err = r.confirmLoss(ctx)
	case decision.DeleteRemote:
		after, err = r.deleteRemote(ctx, r.Remote.UID)
	case decision.ConfirmGone:
		after, err = r.confirmGone(ctx)
	case decision.AwaitDeletion:
		r.recordWait(a)
		after = a.After
	case decision.OrphanJob:
		after, err = r.orphan(ctx)
	case decision.Abandon:
		err = r.abandon(ctx)
	case decision.Release:
		err = r.release(ctx)
	}
	return r.reportFailure(requeue.Earliest(after, r.lookAgain), err)
}

// targetError is the failure of a request to the target, as against one to the hub.
type targetError struct {
	doing string
	err   error
	// changes is true if the request was to change something, not to find out.
	changes bool
}

func (e *targetError) Error() string { return e.doing + ": " + e.err.Error() }
func (e *targetError) Unwrap() error { return e.err }

// wasNotSent reports whether a request to the target failed before it was sent; reportFailure says when
// to try again.
func wasNotSent(err error) bool {
	return errors.Is(err, connpool.ErrClosed) || errors.Is(err, connpool.ErrBusy) || errors.Is(err, connpool.ErrNotSent)
}

// reportFailure records a target's failure where the user can see it. It turns an end of
// the connection, which the pool wakes us from, a full one and one that is being made
// into no error.
func (r *run) reportFailure(after time.Duration, err error) (time.Duration, error) {
	var failed *targetError
	if errors.As(err, &failed) && failed.changes && wasNotSent(err) {
		r.writer.Unsent()
	}
	switch {
	case errors.Is(err, connpool.ErrClosed):
		return 0, nil
	case errors.Is(err, connpool.ErrBusy):
		return busyPause, nil
	case errors.Is(err, connpool.ErrNotSent):
		return notSentPause, nil
	case !errors.As(err, &failed):
		return after, err
	case !r.Job.DeletionTimestamp.IsZero():
		r.writer.Deleting(v1alpha1.ReasonTargetError, failed.Error())
	case failed.changes:
		r.writer.Unfulfilled(decision.UnfulfilledReason(failed.err), failed.Error())
	case r.WasObserved() && !r.MovesAfterLoss(): // what says since when it was away must stay
		r.writer.NotSynced(v1alpha1.ReasonTargetError, failed.Error())
	}
	return after, err
}

// remember changes what this process remembers of the PooledJob.
func (r *run) remember(change func(*decision.Memory)) { r.Memory = r.memories.update(r.Job, change) }

// recordWait records what the PooledJob waits for.
func (r *run) recordWait(a decision.Action) {
	if a.Reason == "" {
		return
	}
	switch a.Condition {
	case v1alpha1.ConditionAccepted:
		r.writer.Accepted(metav1.ConditionFalse, a.Reason, a.Message)
	case v1alpha1.ConditionDispatched:
		r.accept()
		r.writer.Waiting(a.Reason, a.Message)
	case v1alpha1.ConditionSynced:
		r.writer.NotSynced(a.Reason, a.Message)
	case v1alpha1.ConditionDeleting:
		r.writer.Deleting(a.Reason, a.Message)
	}
}

// nameCluster records which cluster the run is bound to.
func (r *run) nameCluster() {
	r.Job.Status.ClusterName, r.Job.Status.ClusterUID = r.Intent.Cluster, r.Intent.ClusterUID
}

// accept records that the access rules permit the run.
func (r *run) accept() {
	if r.Bound {
		r.nameCluster()
	}
	r.writer.Accepted(metav1.ConditionTrue, v1alpha1.ReasonAccepted, "The ClusterConnection's access rules permit the run.")
}

// begin binds the run to a cluster, by placement or as it was asked for.
func (r *run) begin(ctx context.Context, how decision.Verb) (time.Duration, error) {
	tooLarge, err := r.whyTooLarge(ctx)
	switch {
	case err != nil:
		return 0, client.IgnoreNotFound(err)
	case tooLarge != "":
		return r.refuse(ctx, decision.Action{Reason: v1alpha1.ReasonTooLarge, Message: tooLarge})
	case how == decision.Place:
		return 0, r.place(ctx)
	}
	return r.bind(ctx)
}

// bind records where the Job is to be, and creates it.
func (r *run) bind(ctx context.Context) (time.Duration, error) {
	if err := r.writeIntent(ctx, jobspec.RunOf(r.HubID, r.Job).NewIntent(r.Cluster, r.lease.ClusterUID())); err != nil || !r.Bound {
		return 0, err
	}
	return r.create(ctx)
}

// writeIntent writes the finalizer and the intent, in one patch, before anything is
// sent to the target. The run is not bound if the PooledJob is gone.
func (r *run) writeIntent(ctx context.Context, intent binding.Intent) error {
	bound := r.Job.ObjectMeta.DeepCopy()
	addFinalizer(bound)
	metav1.SetMetaDataAnnotation(bound, v1alpha1.AnnotationIntent, intent.Encode())
	metav1.SetMetaDataAnnotation(bound, v1alpha1.AnnotationCreator, r.process)
	if err := r.writeMeta(ctx, metrics.WriteIntent, bound); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("writing the intent: %w", err))
	}
	r.Intent, r.Bound = intent, true
	// The patch was refused had anybody else written the object: what we know
	// of it is all there is.
	r.remember(func(m *decision.Memory) {
		m.Current, m.CheckedAt, m.Creator, m.Intent, m.BoundAt = true, r.Time, r.process, intent, r.Time
	})
	return nil
}

// restore writes finalizer and intent again that somebody has taken off or changed, at most
// once in writeInterval: it may be a program that does. It does not claim the creation of
// the Job: what else was taken off is not known.
func (r *run) restore(ctx context.Context) (time.Duration, error) {
	if left := r.Memory.WrittenAt.Add(writeInterval).Sub(r.Time); left > 0 {
		return left, nil
	}
	restored := r.Job.ObjectMeta.DeepCopy()
	addFinalizer(restored)
	intent := jobspec.RunOf(r.HubID, r.Job).NewIntent(r.Intent.Cluster, r.Intent.ClusterUID)
	metav1.SetMetaDataAnnotation(restored, v1alpha1.AnnotationIntent, intent.Encode())
	if err := r.writeMeta(ctx, metrics.WriteRestore, restored); err != nil {
		return 0, client.IgnoreNotFound(fmt.Errorf("writing the intent again: %w", err))
	}
	return 0, nil
}

func addFinalizer(m *metav1.ObjectMeta) {
	if !slices.Contains(m.Finalizers, v1alpha1.FinalizerPooledJob) {
		m.Finalizers = append(m.Finalizers, v1alpha1.FinalizerPooledJob)
	}
}

// observe records what the remote Job says. When it has ended and its Pods are not
// in view, the target is asked: two watches have no common order.
func (r *run) observe(ctx context.Context, remote *batchv1.Job) error {
	r.recordTimes(remote)
	r.noteDeletion(remote)
	pods := slices.Concat(r.Pods, r.EndedPods, r.Memory.Gone.Pods)
	if r.lease != nil && !jobstatus.ResultKnown(remote, pods) {
		if r.Memory.PodsAsks > 0 && r.PodsWereLate() && r.MayAwaitPods() {
			r.lookAgain = decision.PodsPause // or with the event: the target has enough to send
			return nil
		}
		listed, err := r.lease.ListPods(ctx, r.Intent.Namespace)
		tooMany := errors.Is(err, connpool.ErrTooManyPods) // then the result is what the view knows
		if err != nil && !tooMany {
			return &targetError{doing: "reading the Pods of the ended Job", err: err}
		}
		pods = slices.Concat(pods, ofJob(listed, r.Intent.JobName), ofJob(r.lease.EndedPods(r.Intent.Namespace), r.Intent.JobName))
		if r.isBehind(remote, listed, tooMany) {
			r.remember(func(m *decision.Memory) { m.PodsAsks++ })
			r.lookAgain = decision.AskPause(r.Memory.PodsAsks) // or with the event
			return nil
		}
	}
	r.accept()
	r.noteUnanswered()
	r.writer.Warned(r.Memory.Warnings)
	r.explainStandstill(ctx, remote, pods)
	r.writer.Observe(remote, pods)
	if suspend, ask := jobspec.SuspendWanted(r.Job, remote); suspend && (ask || decision.IsSuspended(remote)) {
		r.writer.Suspending() // else somebody has resumed it there
	}
	return nil
}

// isBehind reports whether the view of the Pods is behind that of the Job: there are many that it does
// not show as they are, or it shows one that has not ended and that is not there any more. How that
// ended comes with the event of its going; it is waited for as long as a watch may take.
func (r *run) isBehind(remote *batchv1.Job, listed []*corev1.Pod, tooMany bool) bool {
	return r.MayAwaitPods() && (tooMany || r.showsPodThatIsGone(remote, listed))
}

// showsPodThatIsGone reports whether the view shows a Pod that has not ended, and that the target
// does not list.
func (r *run) showsPodThatIsGone(remote *batchv1.Job, listed []*corev1.Pod) bool {
	there := make(map[types.UID]bool, len(listed))
	for _, pod := range listed {
		there[pod.UID] = true
	}
	return slices.ContainsFunc(r.Pods, func(pod *corev1.Pod) bool {
		return !decision.HasEnded(pod) && metav1.IsControlledBy(pod, remote) && !there[pod.UID]
	})
}

// noteDeletion remembers that a Job was being deleted before it had ended.
func (r *run) noteDeletion(remote *batchv1.Job) {
	begun := !remote.DeletionTimestamp.IsZero() && !jobstatus.Decided(remote)
	if begun && r.Memory.DeletionSeen != remote.UID {
		r.remember(func(m *decision.Memory) { m.DeletionSeen = remote.UID })
	}
}

// recordTimes takes the times of a Job that exists: of its dispatch, which ends here, and of its
// status lag, which begins with the news of its end. That goes back further than this look,
// and at most to the first news since the look before, when it had not ended.
func (r *run) recordTimes(remote *batchv1.Job) {
	if seen := r.arrivals.Take(r.Job.UID); !seen.IsZero() {
		r.Metrics.RunDispatched(r.Cluster, r.Clock.Now().Sub(seen))
	}
	if r.Memory.EndedAt.IsZero() && jobstatus.Verdict(remote) != nil {
		r.remember(func(m *decision.Memory) { m.EndedAt = cmp.Or(r.wokenAt, r.Time) })
	}
}

// isUnchanged reports whether a Job is, after the answer to a patch, not as was asked for.
func isUnchanged(a decision.Action, answer *batchv1.Job) bool {
	switch a.Doing {
	case decision.DoingCancel:
		return !jobspec.Cancelled(answer)
	case decision.DoingSuspend:
		return !decision.IsSuspended(answer)
	case decision.DoingResume:
		return decision.IsSuspended(answer)
	}
	return false
}

// patchRemote records what the Job says, and then changes it. The watch shows when that
// has come about; the same change is not asked for again meanwhile.
func (r *run) patchRemote(ctx context.Context, a decision.Action) (time.Duration, error) {
	if err := r.observe(ctx, r.Remote); err != nil {
		return 0, err
	}
	if left := r.Memory.PatchedAt.Add(decision.InformerGrace).Sub(r.Time); left > 0 && r.Memory.Patch == a.Patch {
		r.writer.Unsent()
		return left, nil
	}
	patched, err := r.lease.PatchJob(ctx, r.Intent.Namespace, r.Intent.JobName, []byte(a.Patch))
	if err != nil && !decision.IsAPIServerNotFound(err) {
		return 0, &targetError{a.Doing, err, true}
	}
	r.remember(func(m *decision.Memory) { m.Patch, m.PatchedAt = a.Patch, r.Time })
	if err == nil && isUnchanged(a, patched) {
		r.writer.Unfulfilled(v1alpha1.ReasonChangeRefused, a.Doing+": the cluster took the request and left the Job as it was; a policy may undo it")
	}
	return requeue.Earliest(decision.InformerGrace, a.After), nil
}
