package pooledjob

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// While the loss of a run's Job is being proven, what says that it is to be moved stays.
func TestLossKeepsTheReasonToMove(t *testing.T) {
	s := boundRun()
	s.Job.Spec.ClusterName, s.Job.Spec.ClusterSelector = "", &v1alpha1.LabelSelector{}
	s.Job.Spec.Failover.AfterSeconds, s.Job.Status.JobRef.UID = 30, "job"
	r := &run{Snapshot: s}
	if got := r.lossReason(v1alpha1.ReasonCreating); got != v1alpha1.ReasonCreating {
		t.Errorf("reason of a run that was never away: %s", got)
	}
	s.Job.Status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionSynced, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonClusterNotReady,
		LastTransitionTime: metav1.NewTime(s.Time.Add(-time.Minute)),
	}}
	if got := r.lossReason(v1alpha1.ReasonCreating); got != v1alpha1.ReasonClusterNotReady {
		t.Errorf("reason of a run that is to be moved: %s", got)
	}
}
