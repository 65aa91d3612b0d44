package pooledjob

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
)

// What cannot be known by its UID is ours by its labels or those of its Pods, unless it
// says that it belongs to another hub.
func TestWhose(t *testing.T) {
	ours := jobspec.Labels("hub", boundRun().Job)
	theirs := jobspec.Labels("another", boundRun().Job)
	onlyHub := map[string]string{v1alpha1.LabelHub: "hub"}
	tests := map[string]struct {
		observed   types.UID
		labels     map[string]string
		podsLabels map[string]string
		want       outcome
	}{
		"labelled":                    {"", ours, ours, present},
		"labels taken off":            {"", nil, ours, present},
		"one label taken off":         {"", onlyHub, ours, present},
		"a stranger's":                {"", nil, nil, replaced},
		"another hub's, copied":       {"", theirs, ours, replaced},
		"observed, labels taken off":  {"job", nil, nil, present},
		"observed, another":           {"other", ours, ours, duplicate},
		"observed, another, stripped": {"other", nil, ours, duplicate},
		"observed, a stranger's":      {"other", nil, nil, replaced},
		"observed, another hub's":     {"other", theirs, ours, replaced},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := boundRun()
			s.Job.Status.JobRef.UID = string(test.observed)
			job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "job", Labels: test.labels}}
			job.Spec.Template.Labels = test.podsLabels
			r := &run{Reconciler: &Reconciler{HubID: "hub"}, Snapshot: s}
			if got := r.whose(job); got != test.want {
				t.Errorf("whose = %d, want %d", got, test.want)
			}
		})
	}
}

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
