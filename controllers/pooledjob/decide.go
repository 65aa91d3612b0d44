package pooledjob

import (
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/wakeup"
)

const (
	// PodsGrace is how long a deletion may wait for Pods before it says so: the
	// default grace period of a Pod is 30 s, and some ask for more.
	PodsGrace = time.Minute
	// informerGrace is how long the informer may take to show a Job that the
	// target has just created, before the target is asked about it.
	informerGrace = 30 * time.Second
)

// verb is what to do about a PooledJob.
type verb int

const (
	// settle: there is nothing to do.
	settle verb = iota
	// wait: something is missing; record what.
	wait
	// accept: take back that there is no cluster for it, or that it may not run there.
	accept
	// refuse: end the run before it has a remote Job.
	refuse
	// restore: write finalizer and intent again.
	restore
	// place: choose a cluster, and record the intent.
	place
	// bind: record the intent, then create.
	bind
	// create: ask the target for the remote Job.
	create
	// observe: record what the remote Job and its Pods say.
	observe
	// observeGone: record what the Job said before it went.
	observeGone
	// keepJob: record what the Job says, and have the target keep it when it has finished.
	keepJob
	// patchRemote: record what the Job says, and change it.
	patchRemote
	// moveAway: end the attempt, so that the run is placed anew.
	moveAway
	// confirmLoss: the Job was seen and is not in view; find out.
	confirmLoss
	// deleteRemote: ask the target to delete the Job.
	deleteRemote
	// confirmGone: the Job is not in view; find out, to let the PooledJob go, or
	// to delete the Pods that it left.
	confirmGone
	// awaitDeletion: the Job is being deleted on the target.
	awaitDeletion
	// orphanJob: take the hub's label off the Job, then release.
	orphanJob
	// abandon: release, although the Job may exist.
	abandon
	// release: take the finalizer off.
	release
)

// What patchRemote is doing.
const (
	doingCancel  = "cancelling the remote Job"
	doingSuspend = "suspending the remote Job"
	doingResume  = "resuming the remote Job"
)

// action is a decision.
type action struct {
	verb verb
	// condition is the one that wait and awaitDeletion record, for reason and
	// message.
	condition string
	reason    string
	message   string
	// after is when to look again; 0 is when something changes.
	after time.Duration
	// patch is what patchRemote sends, and doing what for.
	patch string
	doing string
}

// decide tells what to do about a PooledJob. It is pure: the first rule that
// applies wins.
func decide(s *snapshot) action {
	switch {
	case !s.job.DeletionTimestamp.IsZero():
		return decideDeletion(s)
	case s.stripped && (s.wasObserved() || !jobstatus.Finished(&s.job.Status)):
		return action{verb: restore} // without them it could go without its Job
	case jobstatus.Finished(&s.job.Status):
		return action{verb: settle}
	case s.remote != nil && isSameJob(s):
		return decideObserved(s)
	case s.endedBeforeItWent():
		return action{verb: observeGone}
	case s.wasObserved() || (s.bound && slices.ContainsFunc(s.pods, s.provesJob)):
		return decideMissing(s)
	default:
		return decideDispatch(s)
	}
}

// wasObserved reports whether the remote Job is known to have existed.
func (s *snapshot) wasObserved() bool {
	return s.observedUID() != ""
}

// observedUID is the UID of the Job that was observed; empty if none was.
func (s *snapshot) observedUID() types.UID {
	if uid := s.job.Status.JobRef.UID; uid != "" {
		return types.UID(uid)
	}
	if s.memory.jobUID == "" && s.memory.gone != nil {
		return s.memory.gone.UID
	}
	return s.memory.jobUID
}

// isSameJob reports whether the Job in view is the one that was observed before, if
// one was.
func isSameJob(s *snapshot) bool { return isKnown(s, s.remote) }

func (s *snapshot) provesJob(pod *corev1.Pod) bool { return provesJob(s.intent.JobName, pod) }

// endedBeforeItWent reports whether the Job is gone and its own verdict was seen before.
func (s *snapshot) endedBeforeItWent() bool {
	gone := s.memory.gone
	return gone != nil && isKnown(s, gone) && jobstatus.Verdict(gone) != nil
}

// holdName: a request to create the Job may still be under way, and nothing but the
// Job's name keeps it from creating another. So the Job is stopped first, and deleted
// when none can arrive any more.
func holdName(s *snapshot) action {
	left := s.requestsInFlight()
	if jobstatus.Verdict(s.remote) == nil && !jobspec.Cancelled(s.remote) && !isSuspended(s.remote) {
		return action{verb: patchRemote, patch: string(jobspec.CancelPatch(s.remote.UID)), doing: "stopping the remote Job", after: left}
	}
	return action{
		verb: wait, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonCreating, after: left,
		message: "The remote Job is stopped, and is deleted when no earlier request to create it can arrive any more.",
	}
}

// cancelled reports whether the run is to be stopped.
func (s *snapshot) cancelled() bool { return s.job.Spec.Cancel != nil && *s.job.Spec.Cancel }

// decideObserved: the Job is in view.
func decideObserved(s *snapshot) action {
	ended := jobstatus.Verdict(s.remote) != nil || !s.remote.DeletionTimestamp.IsZero()
	suspend, ask := jobspec.SuspendWanted(s.job, s.remote)
	switch {
	case ended || (s.cancelled() && jobspec.Cancelled(s.remote) && !isSuspended(s.remote)):
		return action{verb: observe}
	case s.cancelled() && isSuspended(s.remote) && s.requestsInFlight() > 0:
		return action{verb: observe, after: s.requestsInFlight()} // see holdName
	case s.cancelled() && isSuspended(s.remote):
		return action{verb: deleteRemote} // the clock of its deadline stands still
	case s.cancelled():
		return action{verb: patchRemote, patch: string(jobspec.CancelPatch(s.remote.UID)), doing: doingCancel}
	case ask && suspend:
		return action{verb: patchRemote, patch: string(jobspec.SuspendPatch(s.remote.UID, true)), doing: doingSuspend}
	case ask:
		return action{verb: patchRemote, patch: string(jobspec.SuspendPatch(s.remote.UID, false)), doing: doingResume}
	case jobspec.ExpiresSoon(s.remote) && !s.memory.ttlRefused:
		return action{verb: keepJob}
	default:
		return action{verb: observe}
	}
}

// isSuspended reports whether a Job is, or is about to be, suspended.
func isSuspended(remote *batchv1.Job) bool {
	return remote.Spec.Suspend != nil && *remote.Spec.Suspend
}

// decideDeletion: the PooledJob goes when its Job is proven gone.
func decideDeletion(s *snapshot) action {
	deleting := func(verb verb, reason, message string) action {
		return action{verb: verb, condition: v1alpha1.ConditionDeleting, reason: reason, message: message}
	}
	switch {
	case !controllerutil.ContainsFinalizer(s.job, v1alpha1.FinalizerPooledJob):
		return action{verb: settle}
	case s.now.Sub(s.memory.releasedAt) < informerGrace:
		return action{verb: settle, after: informerGrace} // the cache will show it
	case s.cluster == "":
		return action{verb: release} // it has no Job
	case s.notReady != "" && !s.connecting && s.intent.ClusterUID != "" && s.job.Annotations[v1alpha1.AnnotationAbandon] == s.intent.ClusterUID:
		return action{verb: abandon}
	case s.connecting:
		return action{verb: settle} // it will soon be known
	case s.connection == nil:
		return deleting(wait, v1alpha1.ReasonClusterNotFound, fmt.Sprintf(
			"The remote Job cannot be deleted: ClusterConnection %q does not exist. Create it again%s", s.cluster, s.orAbandon()))
	case s.notReady != "":
		return deleting(wait, s.notReadyReason, fmt.Sprintf(
			"The remote Job cannot be deleted: %s. Wait until it can%s", strings.TrimSuffix(s.notReady, "."), s.orAbandon()))
	case s.job.Spec.DeletionPolicy == v1alpha1.DeletionPolicyOrphan:
		return action{verb: orphanJob}
	case s.remote == nil && (len(s.pods) == 0 || !allBeingDeleted(s.pods)):
		return action{verb: confirmGone} // to let it go, or to delete the Pods that the Job left
	case s.remote != nil && s.remote.DeletionTimestamp.IsZero() && s.requestsInFlight() > 0 && isSameJob(s):
		return holdName(s)
	case s.remote != nil && s.remote.DeletionTimestamp.IsZero():
		return action{verb: deleteRemote}
	}
	if left := PodsGrace - s.now.Sub(s.job.DeletionTimestamp.Time); left > 0 && !hasCondition(s.job, v1alpha1.ConditionDeleting) {
		return action{verb: awaitDeletion, after: left}
	}
	return deleting(awaitDeletion, v1alpha1.ReasonWaitingForPods, fmt.Sprintf(
		"Waiting for %d Pods of Job %s/%s to stop.", len(s.pods), s.intent.Namespace, s.intent.JobName))
}

// orAbandon says how to give the remote Job up.
func (s *snapshot) orAbandon() string {
	if s.intent.ClusterUID == "" {
		return "."
	}
	return fmt.Sprintf(", or give the Job up: annotate the PooledJob with %s=%s.", v1alpha1.AnnotationAbandon, s.intent.ClusterUID)
}

func allBeingDeleted(pods []*corev1.Pod) bool {
	return !slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return pod.DeletionTimestamp.IsZero() })
}

// hasCondition reports whether something was said already that must not stay as it is.
func hasCondition(job *v1alpha1.PooledJob, kind string) bool {
	return meta.FindStatusCondition(job.Status.Conditions, kind) != nil
}

// decideMissing: the Job was observed and is not in view.
func decideMissing(s *snapshot) action {
	switch {
	case s.connection != nil && s.connecting:
		return action{verb: settle} // what was written before may still be true
	case s.connection == nil || s.notReady != "":
		return decideFailover(s, waitForConnection(s, v1alpha1.ConditionSynced))
	}
	if s.job.Status.JobRef.UID == "" && !s.memory.seen {
		if left := informerGrace - s.now.Sub(s.memory.createdAt); left > 0 {
			return action{verb: settle, after: left}
		}
	}
	return action{verb: confirmLoss}
}

// decideDispatch: no Job was observed yet.
func decideDispatch(s *snapshot) action {
	if s.bound && s.fenced && s.failoverAfter() > 0 {
		return decideFailover(s, action{}) // whatever else is to become of it, not there
	}
	if s.cancelled() {
		message := "The run was cancelled before it had a remote Job."
		if s.job.Status.Attempt > 0 {
			message = "The run was cancelled before it had a remote Job on another cluster."
		}
		return action{verb: refuse, reason: v1alpha1.ReasonCancelled, message: message}
	}
	if s.connection != nil && !s.access.Permitted {
		return action{verb: refuse, reason: v1alpha1.ReasonNotPermitted, message: whyNotPermitted(s)}
	}
	if left, ok := s.dispatchTimeLeft(); ok && left <= 0 {
		return action{verb: refuse, reason: v1alpha1.ReasonDispatchDeadlineExceeded, message: fmt.Sprintf(
			"No remote Job existed %d seconds after the PooledJob was created. %s", s.job.Spec.DispatchDeadlineSeconds, lastObstacle(s))}
	}
	switch {
	case s.cluster == "":
		return decidePlacement(s)
	case s.connection == nil:
		return decideFailover(s, waitForConnection(s, v1alpha1.ConditionAccepted))
	case s.connecting && s.connection.DeletionTimestamp.IsZero():
		left, _ := s.dispatchTimeLeft()
		if meta.IsStatusConditionFalse(s.job.Status.Conditions, v1alpha1.ConditionAccepted) {
			return action{verb: accept, after: left} // no longer true, and the contact may take its time
		}
		return action{verb: settle, after: left}
	case s.notReady != "" || !s.connection.DeletionTimestamp.IsZero():
		return decideFailover(s, waitForConnection(s, v1alpha1.ConditionDispatched))
	case !s.expiredAt.IsZero():
		return decideFailover(s, s.waiting(v1alpha1.ConditionDispatched, v1alpha1.ReasonClusterNotReady, s.whyExpired()))
	case s.memory.refusal != nil && s.now.Before(s.memory.retryAt):
		a := s.waiting(v1alpha1.ConditionDispatched, s.memory.refusal.reason, s.memory.refusal.message)
		a.after = wakeup.Earliest(a.after, s.memory.retryAt.Sub(s.now))
		return a
	case !s.bound:
		return action{verb: bind}
	default:
		return action{verb: create}
	}
}

func whyNotPermitted(s *snapshot) string {
	why := fmt.Sprintf("ClusterConnection %q does not let hub namespace %q use namespace %q of its cluster. A rule in its spec.access would.",
		s.connection.Name, s.job.Namespace, s.intent.Namespace)
	if s.access.Problem != nil {
		why += fmt.Sprintf(" (One of its rules cannot be used: %v.)", s.access.Problem)
	}
	return why
}

// waitForConnection waits until the pool or the ClusterConnection changes.
func waitForConnection(s *snapshot, condition string) action {
	switch {
	case s.connection == nil:
		return s.waiting(condition, v1alpha1.ReasonClusterNotFound, fmt.Sprintf(
			"ClusterConnection %q does not exist.", s.cluster))
	case !s.connection.DeletionTimestamp.IsZero() && condition == v1alpha1.ConditionDispatched:
		return s.waiting(condition, v1alpha1.ReasonClusterNotReady, fmt.Sprintf(
			"ClusterConnection %q is being deleted.", s.connection.Name))
	default:
		return s.waiting(condition, s.notReadyReason, s.notReady)
	}
}

func (s *snapshot) whyExpired() string {
	return fmt.Sprintf("the credentials of connection %s expired at %s; a new kubeconfig in its Secret lets the run go on",
		s.cluster, s.expiredAt.UTC().Format(time.RFC3339))
}

// waiting waits, but not beyond the dispatch deadline.
func (s *snapshot) waiting(condition, reason, message string) action {
	a := action{verb: wait, condition: condition, reason: reason, message: message}
	if left, ok := s.dispatchTimeLeft(); ok && !s.wasObserved() {
		a.after = left
	}
	return a
}

// dispatchTimeLeft is the time until the dispatch deadline; ok is false without
// one. A run that was moved to another cluster has none: its Job was there in time, or
// the deadline is over anyhow.
func (s *snapshot) dispatchTimeLeft() (left time.Duration, ok bool) {
	if s.job.Spec.DispatchDeadlineSeconds == 0 || s.job.Status.Attempt > 0 {
		return 0, false
	}
	deadline := s.job.CreationTimestamp.Add(time.Duration(s.job.Spec.DispatchDeadlineSeconds) * time.Second)
	return deadline.Sub(s.now), true
}

// lastObstacle is what kept the run from its Job.
func lastObstacle(s *snapshot) string {
	switch {
	case s.cluster == "":
		return whyNoCluster(s)
	case s.connection == nil:
		return fmt.Sprintf("ClusterConnection %q does not exist.", s.cluster)
	case s.notReady != "":
		return s.notReady
	case !s.expiredAt.IsZero():
		return s.whyExpired()
	case s.memory.refusal != nil:
		return s.memory.refusal.message
	default:
		return ""
	}
}
