package decision

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
	// InformerGrace is how long the informer may take to show a Job that the
	// target has just created, before the target is asked about it.
	InformerGrace = 30 * time.Second
)

// Verb is what to do about a PooledJob.
type Verb int

// The verbs.
const (
	// Settle: there is nothing to do.
	Settle Verb = iota
	// Wait: something is missing; record what.
	Wait
	// Accept: take back that there is no cluster for it, or that it may not run there.
	Accept
	// Refuse: end the run before it has a remote Job.
	Refuse
	// Restore: write finalizer and intent again.
	Restore
	// Place: choose a cluster, and record the intent.
	Place
	// Bind: record the intent, then create.
	Bind
	// Create: ask the target for the remote Job.
	Create
	// Observe: record what the remote Job and its Pods say.
	Observe
	// ObserveGone: record what the Job said before it went.
	ObserveGone
	// KeepJob: record what the Job says, and have the target keep it when it has finished.
	KeepJob
	// PatchRemote: record what the Job says, and change it.
	PatchRemote
	// MoveAway: end the attempt, so that the run is placed anew.
	MoveAway
	// ConfirmLoss: the Job was seen and is not in view; find out.
	ConfirmLoss
	// DeleteRemote: ask the target to delete the Job.
	DeleteRemote
	// ConfirmGone: the Job is not in view; find out, to let the PooledJob go, or
	// to delete the Pods that it left.
	ConfirmGone
	// AwaitDeletion: the Job is being deleted on the target.
	AwaitDeletion
	// OrphanJob: take the hub's label off the Job, then release.
	OrphanJob
	// Abandon: release, although the Job may exist.
	Abandon
	// Release: take the finalizer off.
	Release
)

var verbs = [...]string{
	Settle: "settle", Wait: "wait", Accept: "accept", Refuse: "refuse", Restore: "restore", Place: "place", Bind: "bind",
	Create: "create", Observe: "observe", ObserveGone: "observeGone", KeepJob: "keepJob", PatchRemote: "patchRemote",
	MoveAway: "moveAway", ConfirmLoss: "confirmLoss", DeleteRemote: "deleteRemote", ConfirmGone: "confirmGone",
	AwaitDeletion: "awaitDeletion", OrphanJob: "orphanJob", Abandon: "abandon", Release: "release",
}

// String implements fmt.Stringer.
func (v Verb) String() string { return verbs[v] }

// What patchRemote is doing.
const (
	DoingCancel  = "cancelling the remote Job"
	DoingSuspend = "suspending the remote Job"
	DoingResume  = "resuming the remote Job"
)

// Action is a decision.
type Action struct {
	// Rule is the name of the one that decided.
	Rule string
	Verb Verb
	// Condition is the one that Wait and AwaitDeletion record, with Reason and
	// Message.
	Condition string
	Reason    string
	Message   string
	// After is when to look again; 0 is when something changes.
	After time.Duration
	// Patch is what PatchRemote sends, and Doing says what for.
	Patch string
	Doing string
}

// WasObserved reports whether the remote Job is known to have existed.
func (s *Snapshot) WasObserved() bool {
	return s.ObservedUID() != ""
}

// ObservedUID returns the UID of the Job that was observed; empty if none was.
func (s *Snapshot) ObservedUID() types.UID {
	if uid := s.Job.Status.JobRef.UID; uid != "" {
		return types.UID(uid)
	}
	if s.Memory.JobUID == "" && s.Memory.Gone.Job != nil {
		return s.Memory.Gone.Job.UID
	}
	return s.Memory.JobUID
}

// isSameJob reports whether the Job in view is the one that was observed before, if
// one was.
func isSameJob(s *Snapshot) bool { return IsKnown(s, s.Remote) }

func (s *Snapshot) provesJob(pod *corev1.Pod) bool { return provesJob(s.Intent.JobName, pod) }

// endedBeforeItWent reports whether the Job is gone and its own verdict was seen before.
func (s *Snapshot) endedBeforeItWent() bool {
	gone := s.Memory.Gone.Job
	return gone != nil && IsKnown(s, gone) && jobstatus.Verdict(gone) != nil
}

// holdName: a request to create the Job may still be under way, and nothing but the
// Job's name keeps it from creating another. So the Job is stopped first, and deleted
// when none can arrive any more.
func holdName(s *Snapshot) Action {
	left := s.RequestsInFlight()
	if jobstatus.Verdict(s.Remote) == nil && !jobspec.Cancelled(s.Remote) && !IsSuspended(s.Remote) {
		return Action{Verb: PatchRemote, Patch: string(jobspec.CancelPatch(s.Remote.UID)), Doing: "stopping the remote Job", After: left}
	}
	return Action{
		Verb: Wait, Condition: v1alpha1.ConditionDeleting, Reason: v1alpha1.ReasonCreating, After: left,
		Message: "The remote Job is stopped, and is deleted when no earlier request to create it can arrive any more.",
	}
}

// Cancelled reports whether the run is to be stopped.
func (s *Snapshot) Cancelled() bool { return s.Job.Spec.Cancel != nil && *s.Job.Spec.Cancel }

// IsSuspended reports whether a Job is, or is about to be, suspended.
func IsSuspended(remote *batchv1.Job) bool {
	return remote.Spec.Suspend != nil && *remote.Spec.Suspend
}

// orAbandon returns the end of a sentence that says how to give the remote Job up.
func (s *Snapshot) orAbandon() string {
	if s.Intent.ClusterUID == "" {
		return "."
	}
	return fmt.Sprintf(", or give the Job up: annotate the PooledJob with %s=%s.", v1alpha1.AnnotationAbandon, s.Intent.ClusterUID)
}

func allBeingDeleted(pods []*corev1.Pod) bool {
	return !slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return pod.DeletionTimestamp.IsZero() })
}

// hasCondition reports whether something was said already that must not stay as it is.
func hasCondition(job *v1alpha1.PooledJob, kind string) bool {
	return meta.FindStatusCondition(job.Status.Conditions, kind) != nil
}

func whyNotPermitted(s *Snapshot) string {
	why := fmt.Sprintf("ClusterConnection %q does not let hub namespace %q use namespace %q of its cluster. A rule in its spec.access would.",
		s.Connection.Name, s.Job.Namespace, s.Intent.Namespace)
	if s.Access.Problem != nil {
		why += fmt.Sprintf(" (One of its rules cannot be used: %v.)", s.Access.Problem)
	}
	return why
}

// waitForConnection waits until the pool or the ClusterConnection changes.
func waitForConnection(s *Snapshot, condition string) Action {
	switch {
	case s.Connection == nil:
		return s.waiting(condition, v1alpha1.ReasonClusterNotFound, fmt.Sprintf(
			"ClusterConnection %q does not exist.", s.Cluster))
	case !s.Connection.DeletionTimestamp.IsZero() && condition == v1alpha1.ConditionDispatched:
		return s.waiting(condition, v1alpha1.ReasonClusterNotReady, fmt.Sprintf(
			"ClusterConnection %q is being deleted.", s.Connection.Name))
	default:
		return s.waiting(condition, s.ContactReason, s.ContactMessage)
	}
}

func (s *Snapshot) whyExpired() string {
	return fmt.Sprintf("the credentials of connection %s expired at %s; a new kubeconfig in its Secret lets the run go on",
		s.Cluster, s.ExpiredAt.UTC().Format(time.RFC3339))
}

// waiting waits, but not beyond the dispatch deadline.
func (s *Snapshot) waiting(condition, reason, message string) Action {
	a := Action{Verb: Wait, Condition: condition, Reason: reason, Message: message}
	if left, ok := s.DispatchTimeLeft(); ok && !s.WasObserved() {
		a.After = left
	}
	return a
}

// DispatchTimeLeft returns the time until the dispatch deadline; ok is false without
// one. A run that was moved to another cluster has none: its Job was there in time, or
// the deadline is over anyhow.
func (s *Snapshot) DispatchTimeLeft() (left time.Duration, ok bool) {
	if s.Job.Spec.DispatchDeadlineSeconds == 0 || s.Job.Status.Attempt > 0 {
		return 0, false
	}
	deadline := s.Job.CreationTimestamp.Add(time.Duration(s.Job.Spec.DispatchDeadlineSeconds) * time.Second)
	return deadline.Sub(s.Time), true
}

// lastObstacle returns what kept the run from its Job.
func lastObstacle(s *Snapshot) string {
	switch {
	case s.Cluster == "":
		return whyNoCluster(s)
	case s.Connection == nil:
		return fmt.Sprintf("ClusterConnection %q does not exist.", s.Cluster)
	case s.Contact != Reached:
		return s.ContactMessage
	case !s.ExpiredAt.IsZero():
		return s.whyExpired()
	case s.Memory.Refusal != nil:
		return s.Memory.Refusal.Message
	default:
		return ""
	}
}
