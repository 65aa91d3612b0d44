package decision

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/placement"
	"github.com/pooledjob/pooledjob/internal/requeue"
)

// state is what a PooledJob is in, with the rules that decide about it there.
type state struct {
	name  string
	holds func(*Snapshot) bool
	rules []rule
}

// rule is one of the rules of a state.
type rule struct {
	name    string
	applies func(*Snapshot) bool
	act     func(*Snapshot) Action
}

// states are all of them. The first that holds is the one that a PooledJob is in.
var states = []state{
	{"deleting", (*Snapshot).isDeleted, whenDeleting},
	{"stripped", (*Snapshot).isStripped, whenStripped},
	{"finished", (*Snapshot).hasFinished, whenFinished},
	{"observed", func(s *Snapshot) bool { return s.Remote != nil && isSameJob(s) }, whenObserved},
	{"gone", (*Snapshot).endedBeforeItWent, whenGone},
	{"missing", (*Snapshot).hasLostItsJob, whenMissing},
	{"undispatched", always, whenUndispatched},
}

// Decide returns what to do about a PooledJob. It is pure: of the state that it is in, the first rule that
// applies decides.
func Decide(s *Snapshot) Action {
	for _, state := range states {
		if !state.holds(s) {
			continue
		}
		for _, rule := range state.rules {
			if rule.applies(s) {
				a := rule.act(s)
				a.Rule = state.name + "/" + rule.name
				return a
			}
		}
	}
	panic("no rule applies: the last one of each state always does")
}

func always(*Snapshot) bool { return true }

// just returns an action that needs no more words.
func just(v Verb) func(*Snapshot) Action {
	return func(*Snapshot) Action { return Action{Verb: v} }
}

func (s *Snapshot) isDeleted() bool { return !s.Job.DeletionTimestamp.IsZero() }

func (s *Snapshot) hasFinished() bool { return jobstatus.Finished(&s.Job.Status) }

// isStripped reports whether finalizer and intent are to be written again: without them the PooledJob could
// go without its Job.
func (s *Snapshot) isStripped() bool { return s.Stripped && (s.WasObserved() || !s.hasFinished()) }

// hasLostItsJob reports whether there was a Job, which is not in view.
func (s *Snapshot) hasLostItsJob() bool {
	return s.WasObserved() || (s.Bound && slices.ContainsFunc(s.Pods, s.provesJob))
}

var whenStripped = []rule{{"write finalizer and intent again", always, just(Restore)}}

var whenFinished = []rule{{"nothing changes any more", always, just(Settle)}}

var whenGone = []rule{{"its verdict was seen", always, just(ObserveGone)}}

// whenDeleting: the PooledJob goes when its Job is proven gone.
var whenDeleting = []rule{
	{"no finalizer", func(s *Snapshot) bool { return !controllerutil.ContainsFinalizer(s.Job, v1alpha1.FinalizerPooledJob) }, just(Settle)},
	{
		"just released", func(s *Snapshot) bool { return s.Time.Sub(s.Memory.ReleasedAt) < InformerGrace },
		func(*Snapshot) Action { return Action{Verb: Settle, After: InformerGrace} }, // the cache will show it
	},
	{"never placed", func(s *Snapshot) bool { return s.Cluster == "" }, just(Release)},
	{"abandoned", (*Snapshot).isAbandoned, just(Abandon)},
	{"connection being made", func(s *Snapshot) bool { return s.Contact == Connecting }, just(Settle)},
	{"no ClusterConnection", func(s *Snapshot) bool { return s.Connection == nil }, func(s *Snapshot) Action {
		return deleting(Wait, v1alpha1.ReasonClusterNotFound, fmt.Sprintf(
			"The remote Job cannot be deleted: ClusterConnection %q does not exist. Create it again%s", s.Cluster, s.orAbandon()))
	}},
	{"away", func(s *Snapshot) bool { return s.Contact != Reached }, func(s *Snapshot) Action {
		return deleting(Wait, s.ContactReason, fmt.Sprintf(
			"The remote Job cannot be deleted: %s. Wait until it can%s", strings.TrimSuffix(s.ContactMessage, "."), s.orAbandon()))
	}},
	{"policy Orphan", func(s *Snapshot) bool { return s.Job.Spec.DeletionPolicy == v1alpha1.DeletionPolicyOrphan }, just(OrphanJob)},
	{
		"Job not in view", func(s *Snapshot) bool { return s.Remote == nil && (len(s.Pods) == 0 || !allBeingDeleted(s.Pods)) },
		just(ConfirmGone), // to let it go, or to delete the Pods that the Job left
	},
	{"a lost request may arrive", (*Snapshot).nameIsNeeded, holdName},
	{"Job in view", (*Snapshot).remoteStays, just(DeleteRemote)},
	{"Job just began to go", (*Snapshot).podsHaveTime, func(s *Snapshot) Action {
		return Action{Verb: AwaitDeletion, After: s.podsTimeLeft()}
	}},
	{"Pods are slow to stop", always, func(s *Snapshot) Action {
		return deleting(AwaitDeletion, v1alpha1.ReasonWaitingForPods, fmt.Sprintf(
			"Waiting for %d Pods of Job %s/%s to stop.", len(s.Pods), s.Intent.Namespace, s.Intent.JobName))
	}},
}

func deleting(v Verb, reason, message string) Action {
	return Action{Verb: v, Condition: v1alpha1.ConditionDeleting, Reason: reason, Message: message}
}

// isAbandoned reports whether a person has said that the Job is to be given up, which cannot be reached.
func (s *Snapshot) isAbandoned() bool {
	return s.Contact != Reached && s.Contact != Connecting && s.Intent.ClusterUID != "" && s.Job.Annotations[v1alpha1.AnnotationAbandon] == s.Intent.ClusterUID
}

// remoteStays reports whether a Job is in view that is not being deleted, and nameIsNeeded whether its name
// is needed for longer.
func (s *Snapshot) remoteStays() bool { return s.Remote != nil && s.Remote.DeletionTimestamp.IsZero() }

func (s *Snapshot) nameIsNeeded() bool {
	return s.remoteStays() && s.RequestsInFlight() > 0 && isSameJob(s)
}

func (s *Snapshot) podsTimeLeft() time.Duration {
	return PodsGrace - s.Time.Sub(s.Job.DeletionTimestamp.Time)
}

func (s *Snapshot) podsHaveTime() bool {
	return s.podsTimeLeft() > 0 && !hasCondition(s.Job, v1alpha1.ConditionDeleting)
}

// whenObserved: the Job is in view.
var whenObserved = []rule{
	{"Job has ended, or goes", func(s *Snapshot) bool {
		return jobstatus.Verdict(s.Remote) != nil || !s.Remote.DeletionTimestamp.IsZero()
	}, just(Observe)},
	{"cancel is on its way", func(s *Snapshot) bool {
		return s.Cancelled() && jobspec.Cancelled(s.Remote) && !IsSuspended(s.Remote)
	}, just(Observe)},
	{"cancel of a suspended Job, a lost request may arrive", func(s *Snapshot) bool {
		return s.Cancelled() && IsSuspended(s.Remote) && s.RequestsInFlight() > 0
	}, func(s *Snapshot) Action { return Action{Verb: Observe, After: s.RequestsInFlight()} }}, // see holdName
	{
		"cancel of a suspended Job", func(s *Snapshot) bool { return s.Cancelled() && IsSuspended(s.Remote) },
		just(DeleteRemote), // the clock of its deadline stands still
	},
	{"cancel", (*Snapshot).Cancelled, func(s *Snapshot) Action {
		return Action{Verb: PatchRemote, Patch: string(jobspec.CancelPatch(s.Remote.UID)), Doing: DoingCancel}
	}},
	{"suspend", func(s *Snapshot) bool { return s.asksFor(true) }, func(s *Snapshot) Action {
		return Action{Verb: PatchRemote, Patch: string(jobspec.SuspendPatch(s.Remote.UID, true)), Doing: DoingSuspend}
	}},
	{"resume", func(s *Snapshot) bool { return s.asksFor(false) }, func(s *Snapshot) Action {
		return Action{Verb: PatchRemote, Patch: string(jobspec.SuspendPatch(s.Remote.UID, false)), Doing: DoingResume}
	}},
	{"Job has a short TTL", func(s *Snapshot) bool { return jobspec.ExpiresSoon(s.Remote) && !s.Memory.TTLRefused }, just(KeepJob)},
	{"Job goes on", always, just(Observe)},
}

// asksFor reports whether the target is to be asked to suspend the Job, or to resume it.
func (s *Snapshot) asksFor(suspended bool) bool {
	suspend, ask := jobspec.SuspendWanted(s.Job, s.Remote)
	return ask && suspend == suspended
}

// whenMissing: the Job was observed and is not in view.
var whenMissing = []rule{
	{
		"connection being made", func(s *Snapshot) bool { return s.Connection != nil && s.Contact == Connecting },
		just(Settle), // what was written before may still be true
	},
	{"away", (*Snapshot).isAway, func(s *Snapshot) Action {
		return DecideFailover(s, waitForConnection(s, v1alpha1.ConditionSynced))
	}},
	{"just created", func(s *Snapshot) bool { return s.viewTimeLeft() > 0 }, func(s *Snapshot) Action {
		return Action{Verb: Settle, After: s.viewTimeLeft()}
	}},
	{"Job not in view", always, just(ConfirmLoss)},
}

// isAway reports whether there is no lease, for whatever reason.
func (s *Snapshot) isAway() bool { return s.Connection == nil || s.Contact != Reached }

// viewTimeLeft returns how much longer the view may take to show the Job that was created; 0 once it has.
func (s *Snapshot) viewTimeLeft() time.Duration {
	if s.Job.Status.JobRef.UID != "" || s.Memory.Seen {
		return 0
	}
	return max(0, InformerGrace-s.Time.Sub(s.Memory.CreatedAt))
}

// whenUndispatched: no Job was observed yet.
var whenUndispatched = []rule{
	{
		"fenced", func(s *Snapshot) bool { return s.Bound && s.Contact == Fenced && s.failoverAfter() > 0 },
		func(s *Snapshot) Action { return DecideFailover(s, Action{}) }, // whatever else is to become of it, not there
	},
	{"cancel", (*Snapshot).Cancelled, refuseCancelled},
	{"not permitted", func(s *Snapshot) bool { return s.Connection != nil && !s.Access.Permitted }, func(s *Snapshot) Action {
		return Action{Verb: Refuse, Reason: v1alpha1.ReasonNotPermitted, Message: whyNotPermitted(s)}
	}},
	{"dispatch deadline over", (*Snapshot).dispatchIsLate, func(s *Snapshot) Action {
		return Action{Verb: Refuse, Reason: v1alpha1.ReasonDispatchDeadlineExceeded, Message: fmt.Sprintf(
			"No remote Job existed %d seconds after the PooledJob was created. %s", s.Job.Spec.DispatchDeadlineSeconds, lastObstacle(s))}
	}},
	{"unplaced", func(s *Snapshot) bool { return s.Cluster == "" && s.canBePlaced() }, just(Place)},
	{"no cluster to be placed on", func(s *Snapshot) bool { return s.Cluster == "" }, func(s *Snapshot) Action {
		return s.waiting(v1alpha1.ConditionAccepted, v1alpha1.ReasonNoClusterMatches, whyNoCluster(s))
	}},
	{"no ClusterConnection", func(s *Snapshot) bool { return s.Connection == nil }, func(s *Snapshot) Action {
		return DecideFailover(s, waitForConnection(s, v1alpha1.ConditionAccepted))
	}},
	{"connection being made", func(s *Snapshot) bool { return s.Contact == Connecting && s.Connection.DeletionTimestamp.IsZero() }, whileConnecting},
	{"away", func(s *Snapshot) bool { return s.Contact != Reached || !s.Connection.DeletionTimestamp.IsZero() }, func(s *Snapshot) Action {
		return DecideFailover(s, waitForConnection(s, v1alpha1.ConditionDispatched))
	}},
	{"credential expired", func(s *Snapshot) bool { return !s.ExpiredAt.IsZero() }, func(s *Snapshot) Action {
		return DecideFailover(s, s.waiting(v1alpha1.ConditionDispatched, v1alpha1.ReasonClusterNotReady, s.whyExpired()))
	}},
	{"refused for now", func(s *Snapshot) bool { return s.Memory.Refusal != nil && s.Time.Before(s.Memory.RetryAt) }, untilRetry},
	{"unbound", func(s *Snapshot) bool { return !s.Bound }, just(Bind)},
	{"bound", always, just(Create)},
}

func refuseCancelled(s *Snapshot) Action {
	message := "The run was cancelled before it had a remote Job."
	if s.Job.Status.Attempt > 0 {
		message = "The run was cancelled before it had a remote Job on another cluster."
	}
	return Action{Verb: Refuse, Reason: v1alpha1.ReasonCancelled, Message: message}
}

func (s *Snapshot) dispatchIsLate() bool {
	left, ok := s.DispatchTimeLeft()
	return ok && left <= 0
}

func (s *Snapshot) canBePlaced() bool {
	return slices.ContainsFunc(s.Candidates, func(c placement.Candidate) bool { return c.Usable() })
}

// whileConnecting writes nothing but that what is no longer true is not.
func whileConnecting(s *Snapshot) Action {
	left, _ := s.DispatchTimeLeft()
	if meta.IsStatusConditionFalse(s.Job.Status.Conditions, v1alpha1.ConditionAccepted) {
		return Action{Verb: Accept, After: left} // the contact may take its time
	}
	return Action{Verb: Settle, After: left}
}

func untilRetry(s *Snapshot) Action {
	a := s.waiting(v1alpha1.ConditionDispatched, s.Memory.Refusal.Reason, s.Memory.Refusal.Message)
	a.After = requeue.Earliest(a.After, s.Memory.RetryAt.Sub(s.Time))
	return a
}
