package pooledjob

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
	"github.com/pooledjob/pooledjob/internal/wakeup"
)

// state is what a PooledJob is in, with the rules that decide about it there.
type state struct {
	name  string
	holds func(*snapshot) bool
	rules []rule
}

// rule is one of the rules of a state.
type rule struct {
	name    string
	applies func(*snapshot) bool
	act     func(*snapshot) action
}

// states are all of them. The first that holds is the one that a PooledJob is in.
var states = []state{
	{"deleting", (*snapshot).isDeleted, whenDeleting},
	{"stripped", (*snapshot).isStripped, whenStripped},
	{"finished", (*snapshot).hasFinished, whenFinished},
	{"observed", func(s *snapshot) bool { return s.remote != nil && isSameJob(s) }, whenObserved},
	{"gone", (*snapshot).endedBeforeItWent, whenGone},
	{"missing", (*snapshot).hasLostItsJob, whenMissing},
	{"undispatched", always, whenUndispatched},
}

// decide says what to do about a PooledJob. It is pure: of the state that it is in, the first rule that
// applies decides.
func decide(s *snapshot) action {
	for _, state := range states {
		if !state.holds(s) {
			continue
		}
		for _, rule := range state.rules {
			if rule.applies(s) {
				a := rule.act(s)
				a.rule = state.name + "/" + rule.name
				return a
			}
		}
	}
	panic("no rule applies: the last one of each state always does")
}

func always(*snapshot) bool { return true }

// just is an action that needs no more words.
func just(v verb) func(*snapshot) action {
	return func(*snapshot) action { return action{verb: v} }
}

func (s *snapshot) isDeleted() bool { return !s.job.DeletionTimestamp.IsZero() }

func (s *snapshot) hasFinished() bool { return jobstatus.Finished(&s.job.Status) }

// isStripped reports whether finalizer and intent are to be written again: without them the PooledJob could
// go without its Job.
func (s *snapshot) isStripped() bool { return s.stripped && (s.wasObserved() || !s.hasFinished()) }

// hasLostItsJob reports whether there was a Job, which is not in view.
func (s *snapshot) hasLostItsJob() bool {
	return s.wasObserved() || (s.bound && slices.ContainsFunc(s.pods, s.provesJob))
}

var whenStripped = []rule{{"write finalizer and intent again", always, just(restore)}}

var whenFinished = []rule{{"nothing changes any more", always, just(settle)}}

var whenGone = []rule{{"its verdict was seen", always, just(observeGone)}}

// whenDeleting: the PooledJob goes when its Job is proven gone.
var whenDeleting = []rule{
	{"no finalizer", func(s *snapshot) bool { return !controllerutil.ContainsFinalizer(s.job, v1alpha1.FinalizerPooledJob) }, just(settle)},
	{
		"just released", func(s *snapshot) bool { return s.now.Sub(s.memory.releasedAt) < informerGrace },
		func(*snapshot) action { return action{verb: settle, after: informerGrace} }, // the cache will show it
	},
	{"never placed", func(s *snapshot) bool { return s.cluster == "" }, just(release)},
	{"abandoned", (*snapshot).isAbandoned, just(abandon)},
	{"connection being made", func(s *snapshot) bool { return s.connecting }, just(settle)},
	{"no ClusterConnection", func(s *snapshot) bool { return s.connection == nil }, func(s *snapshot) action {
		return deleting(wait, v1alpha1.ReasonClusterNotFound, fmt.Sprintf(
			"The remote Job cannot be deleted: ClusterConnection %q does not exist. Create it again%s", s.cluster, s.orAbandon()))
	}},
	{"away", func(s *snapshot) bool { return s.notReady != "" }, func(s *snapshot) action {
		return deleting(wait, s.notReadyReason, fmt.Sprintf(
			"The remote Job cannot be deleted: %s. Wait until it can%s", strings.TrimSuffix(s.notReady, "."), s.orAbandon()))
	}},
	{"policy Orphan", func(s *snapshot) bool { return s.job.Spec.DeletionPolicy == v1alpha1.DeletionPolicyOrphan }, just(orphanJob)},
	{
		"Job not in view", func(s *snapshot) bool { return s.remote == nil && (len(s.pods) == 0 || !allBeingDeleted(s.pods)) },
		just(confirmGone), // to let it go, or to delete the Pods that the Job left
	},
	{"a lost request may arrive", (*snapshot).nameIsNeeded, holdName},
	{"Job in view", (*snapshot).remoteStays, just(deleteRemote)},
	{"Job just began to go", (*snapshot).podsHaveTime, func(s *snapshot) action {
		return action{verb: awaitDeletion, after: s.podsTimeLeft()}
	}},
	{"Pods are slow to stop", always, func(s *snapshot) action {
		return deleting(awaitDeletion, v1alpha1.ReasonWaitingForPods, fmt.Sprintf(
			"Waiting for %d Pods of Job %s/%s to stop.", len(s.pods), s.intent.Namespace, s.intent.JobName))
	}},
}

func deleting(v verb, reason, message string) action {
	return action{verb: v, condition: v1alpha1.ConditionDeleting, reason: reason, message: message}
}

// isAbandoned reports whether a person has said that the Job is to be given up, which cannot be reached.
func (s *snapshot) isAbandoned() bool {
	return s.notReady != "" && !s.connecting && s.intent.ClusterUID != "" && s.job.Annotations[v1alpha1.AnnotationAbandon] == s.intent.ClusterUID
}

// remoteStays reports whether a Job is in view that is not being deleted, and nameIsNeeded whether its name
// is needed for longer.
func (s *snapshot) remoteStays() bool { return s.remote != nil && s.remote.DeletionTimestamp.IsZero() }

func (s *snapshot) nameIsNeeded() bool {
	return s.remoteStays() && s.requestsInFlight() > 0 && isSameJob(s)
}

func (s *snapshot) podsTimeLeft() time.Duration {
	return PodsGrace - s.now.Sub(s.job.DeletionTimestamp.Time)
}

func (s *snapshot) podsHaveTime() bool {
	return s.podsTimeLeft() > 0 && !hasCondition(s.job, v1alpha1.ConditionDeleting)
}

// whenObserved: the Job is in view.
var whenObserved = []rule{
	{"Job has ended, or goes", func(s *snapshot) bool {
		return jobstatus.Verdict(s.remote) != nil || !s.remote.DeletionTimestamp.IsZero()
	}, just(observe)},
	{"cancel is on its way", func(s *snapshot) bool {
		return s.cancelled() && jobspec.Cancelled(s.remote) && !isSuspended(s.remote)
	}, just(observe)},
	{"cancel of a suspended Job, a lost request may arrive", func(s *snapshot) bool {
		return s.cancelled() && isSuspended(s.remote) && s.requestsInFlight() > 0
	}, func(s *snapshot) action { return action{verb: observe, after: s.requestsInFlight()} }}, // see holdName
	{
		"cancel of a suspended Job", func(s *snapshot) bool { return s.cancelled() && isSuspended(s.remote) },
		just(deleteRemote), // the clock of its deadline stands still
	},
	{"cancel", (*snapshot).cancelled, func(s *snapshot) action {
		return action{verb: patchRemote, patch: string(jobspec.CancelPatch(s.remote.UID)), doing: doingCancel}
	}},
	{"suspend", func(s *snapshot) bool { return s.asksFor(true) }, func(s *snapshot) action {
		return action{verb: patchRemote, patch: string(jobspec.SuspendPatch(s.remote.UID, true)), doing: doingSuspend}
	}},
	{"resume", func(s *snapshot) bool { return s.asksFor(false) }, func(s *snapshot) action {
		return action{verb: patchRemote, patch: string(jobspec.SuspendPatch(s.remote.UID, false)), doing: doingResume}
	}},
	{"Job has a short TTL", func(s *snapshot) bool { return jobspec.ExpiresSoon(s.remote) && !s.memory.ttlRefused }, just(keepJob)},
	{"Job goes on", always, just(observe)},
}

// asksFor reports whether the target is to be asked to suspend the Job, or to resume it.
func (s *snapshot) asksFor(suspended bool) bool {
	suspend, ask := jobspec.SuspendWanted(s.job, s.remote)
	return ask && suspend == suspended
}

// whenMissing: the Job was observed and is not in view.
var whenMissing = []rule{
	{
		"connection being made", func(s *snapshot) bool { return s.connection != nil && s.connecting },
		just(settle), // what was written before may still be true
	},
	{"away", (*snapshot).isAway, func(s *snapshot) action {
		return decideFailover(s, waitForConnection(s, v1alpha1.ConditionSynced))
	}},
	{"just created", func(s *snapshot) bool { return s.viewTimeLeft() > 0 }, func(s *snapshot) action {
		return action{verb: settle, after: s.viewTimeLeft()}
	}},
	{"Job not in view", always, just(confirmLoss)},
}

// isAway reports whether there is no lease, for whatever reason.
func (s *snapshot) isAway() bool { return s.connection == nil || s.notReady != "" }

// viewTimeLeft is how much longer the view may take to show the Job that was created; 0 once it has.
func (s *snapshot) viewTimeLeft() time.Duration {
	if s.job.Status.JobRef.UID != "" || s.memory.seen {
		return 0
	}
	return max(0, informerGrace-s.now.Sub(s.memory.createdAt))
}

// whenUndispatched: no Job was observed yet.
var whenUndispatched = []rule{
	{
		"fenced", func(s *snapshot) bool { return s.bound && s.fenced && s.failoverAfter() > 0 },
		func(s *snapshot) action { return decideFailover(s, action{}) }, // whatever else is to become of it, not there
	},
	{"cancel", (*snapshot).cancelled, refuseCancelled},
	{"not permitted", func(s *snapshot) bool { return s.connection != nil && !s.access.Permitted }, func(s *snapshot) action {
		return action{verb: refuse, reason: v1alpha1.ReasonNotPermitted, message: whyNotPermitted(s)}
	}},
	{"dispatch deadline over", (*snapshot).dispatchIsLate, func(s *snapshot) action {
		return action{verb: refuse, reason: v1alpha1.ReasonDispatchDeadlineExceeded, message: fmt.Sprintf(
			"No remote Job existed %d seconds after the PooledJob was created. %s", s.job.Spec.DispatchDeadlineSeconds, lastObstacle(s))}
	}},
	{"unplaced", func(s *snapshot) bool { return s.cluster == "" && s.canBePlaced() }, just(place)},
	{"no cluster to be placed on", func(s *snapshot) bool { return s.cluster == "" }, func(s *snapshot) action {
		return s.waiting(v1alpha1.ConditionAccepted, v1alpha1.ReasonNoClusterMatches, whyNoCluster(s))
	}},
	{"no ClusterConnection", func(s *snapshot) bool { return s.connection == nil }, func(s *snapshot) action {
		return decideFailover(s, waitForConnection(s, v1alpha1.ConditionAccepted))
	}},
	{"connection being made", func(s *snapshot) bool { return s.connecting && s.connection.DeletionTimestamp.IsZero() }, whileConnecting},
	{"away", func(s *snapshot) bool { return s.notReady != "" || !s.connection.DeletionTimestamp.IsZero() }, func(s *snapshot) action {
		return decideFailover(s, waitForConnection(s, v1alpha1.ConditionDispatched))
	}},
	{"credential expired", func(s *snapshot) bool { return !s.expiredAt.IsZero() }, func(s *snapshot) action {
		return decideFailover(s, s.waiting(v1alpha1.ConditionDispatched, v1alpha1.ReasonClusterNotReady, s.whyExpired()))
	}},
	{"refused for now", func(s *snapshot) bool { return s.memory.refusal != nil && s.now.Before(s.memory.retryAt) }, untilRetry},
	{"unbound", func(s *snapshot) bool { return !s.bound }, just(bind)},
	{"bound", always, just(create)},
}

func refuseCancelled(s *snapshot) action {
	message := "The run was cancelled before it had a remote Job."
	if s.job.Status.Attempt > 0 {
		message = "The run was cancelled before it had a remote Job on another cluster."
	}
	return action{verb: refuse, reason: v1alpha1.ReasonCancelled, message: message}
}

func (s *snapshot) dispatchIsLate() bool {
	left, ok := s.dispatchTimeLeft()
	return ok && left <= 0
}

func (s *snapshot) canBePlaced() bool {
	return slices.ContainsFunc(s.candidates, func(c placement.Candidate) bool { return c.Usable() })
}

// whileConnecting writes nothing but that what is no longer true is not.
func whileConnecting(s *snapshot) action {
	left, _ := s.dispatchTimeLeft()
	if meta.IsStatusConditionFalse(s.job.Status.Conditions, v1alpha1.ConditionAccepted) {
		return action{verb: accept, after: left} // the contact may take its time
	}
	return action{verb: settle, after: left}
}

func untilRetry(s *snapshot) action {
	a := s.waiting(v1alpha1.ConditionDispatched, s.memory.refusal.reason, s.memory.refusal.message)
	a.after = wakeup.Earliest(a.after, s.memory.retryAt.Sub(s.now))
	return a
}
