package decision

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/requeue"
)

// DecideFailover decides about a bound run whose cluster cannot be used. It returns the caller's wait
// action, a move to another cluster, or the wait action with a message that says what would let the run
// move.
func DecideFailover(s *Snapshot, wait Action) Action {
	after := s.failoverAfter()
	if after == 0 || !s.Bound {
		return wait
	}
	if s.Contact == Fenced {
		return Action{Verb: MoveAway, Message: fmt.Sprintf(
			"Moved away from ClusterConnection %q: its cluster (UID %s) was stated to be fenced.", s.Cluster, s.Intent.ClusterUID)}
	}
	since := s.awaySince()
	if since.IsZero() && s.Contact == Reached {
		return wait
	}
	if s.mayHaveJob() {
		wait.Message = fmt.Sprintf("%s. The run is not moved to another cluster, because its Job may be on this one. If it is certain that "+
			"nothing runs there any more, annotate ClusterConnection %q with %s=%s.",
			strings.TrimSuffix(wait.Message, "."), s.Cluster, v1alpha1.AnnotationFenced, s.Intent.ClusterUID)
		return wait
	}
	if since.IsZero() {
		return wait
	}
	if left := since.Add(after).Sub(s.Time); left > 0 {
		wait.After = requeue.Earliest(wait.After, left)
		return wait
	}
	return Action{Verb: MoveAway, Message: fmt.Sprintf(
		"Moved away from ClusterConnection %q: it has not been Ready since %s, and no request that could have created the Job was sent there.",
		s.Cluster, since.UTC().Format(time.RFC3339))}
}

func (s *Snapshot) failoverAfter() time.Duration {
	return time.Duration(s.Job.Spec.Failover.AfterSeconds) * time.Second
}

// mayHaveJob reports whether the cluster may have the run's Job, or get it by a request
// that is under way. A process knows that it cannot only of what it bound itself.
func (s *Snapshot) mayHaveJob() bool {
	return s.MayHaveSent() || s.WasObserved()
}

// awaySince returns since when the run's connection has not been Ready; zero if it is, or
// if that is not known.
func (s *Snapshot) awaySince() time.Time {
	if s.Connection == nil {
		return transition(s.Job.Status.Conditions, v1alpha1.ConditionAccepted, metav1.ConditionFalse)
	}
	ready := meta.FindStatusCondition(s.Connection.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status == metav1.ConditionTrue {
		return time.Time{}
	}
	return ready.LastTransitionTime.Time
}

// MovesAfterLoss reports whether a run whose Job is proven gone from its cluster is
// moved rather than lost: it was to be moved already while the cluster was away.
func (s *Snapshot) MovesAfterLoss() bool {
	synced := meta.FindStatusCondition(s.Job.Status.Conditions, v1alpha1.ConditionSynced)
	if synced == nil || synced.Status != metav1.ConditionUnknown || synced.Reason != v1alpha1.ReasonClusterNotReady {
		return false
	}
	return s.failoverAfter() > 0 && s.Time.Sub(synced.LastTransitionTime.Time) >= s.failoverAfter()
}

// transition returns when a condition got the status that it has; zero if it has another.
func transition(conditions []metav1.Condition, kind string, status metav1.ConditionStatus) time.Time {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.Status != status {
		return time.Time{}
	}
	return c.LastTransitionTime.Time
}
