package pooledjob

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
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

var verbs = [...]string{
	settle: "settle", wait: "wait", accept: "accept", refuse: "refuse", restore: "restore", place: "place", bind: "bind",
	create: "create", observe: "observe", observeGone: "observeGone", keepJob: "keepJob", patchRemote: "patchRemote",
	moveAway: "moveAway", confirmLoss: "confirmLoss", deleteRemote: "deleteRemote", confirmGone: "confirmGone",
	awaitDeletion: "awaitDeletion", orphanJob: "orphanJob", abandon: "abandon", release: "release",
}

// String implements fmt.Stringer.
func (v verb) String() string { return verbs[v] }

// What patchRemote is doing.
const (
	doingCancel  = "cancelling the remote Job"
	doingSuspend = "suspending the remote Job"
	doingResume  = "resuming the remote Job"
)

// action is a decision.
type action struct {
	// rule is the name of the one that decided.
	rule string
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

// isSuspended reports whether a Job is, or is about to be, suspended.
func isSuspended(remote *batchv1.Job) bool {
	return remote.Spec.Suspend != nil && *remote.Spec.Suspend
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
