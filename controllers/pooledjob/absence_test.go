package pooledjob

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
)

// What cannot be known by its UID is ours by its labels or those of its Pods, unless it
// says that it belongs to another hub.
func TestWhose(t *testing.T) {
	ours := jobspec.Labels("hub", given().job)
	theirs := jobspec.Labels("another", given().job)
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
			s := given(bound)
			s.job.Status.JobRef.UID = string(test.observed)
			job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "job", Labels: test.labels}}
			job.Spec.Template.Labels = test.podsLabels
			r := &run{Reconciler: &Reconciler{HubID: "hub"}, snapshot: s}
			if got := r.whose(job); got != test.want {
				t.Errorf("whose = %d, want %d", got, test.want)
			}
		})
	}
}

// While the loss of a run's Job is being proven, what says that it is to be moved stays.
func TestLossKeepsTheReasonToMove(t *testing.T) {
	s := given(selecting, seenJob)
	r := &run{snapshot: s}
	if got := r.lossReason(v1alpha1.ReasonCreating); got != v1alpha1.ReasonCreating {
		t.Errorf("reason of a run that was never away: %s", got)
	}
	s.job.Status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionSynced, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonClusterNotReady,
		LastTransitionTime: metav1.NewTime(s.now.Add(-time.Minute)),
	}}
	if got := r.lossReason(v1alpha1.ReasonCreating); got != v1alpha1.ReasonClusterNotReady {
		t.Errorf("reason of a run that is to be moved: %s", got)
	}
}

// That a Job never started is known only as long as its end was watched, and everything of its
// Pods is remembered.
func TestAJobNeverStartedOnlyIfNothingOfItIsForgotten(t *testing.T) {
	tests := map[string]struct {
		change func(*snapshot)
		want   bool
	}{
		"all is known":             {func(*snapshot) {}, true},
		"its end was not watched":  {func(s *snapshot) { s.memory.goneWatched = false }, false},
		"Pods are missing":         {func(s *snapshot) { s.memory.gonePodsMissing = true }, false},
		"the view has forgotten":   {func(s *snapshot) { s.memory.goneForgotten = true }, false},
		"all was known by then":    {func(s *snapshot) { s.memory.goneForgotten, s.memory.goneSettled = true, true }, true},
		"nothing is remembered":    {func(s *snapshot) { s.memory.gone = nil }, false},
		"it had an active Pod":     {func(s *snapshot) { s.memory.gone.Status.Active = 1 }, false},
		"a Pod of it has ended":    {func(s *snapshot) { s.memory.gonePods = []*corev1.Pod{{}} }, false},
		"a Pod of it is there yet": {func(s *snapshot) { s.pods = []*corev1.Pod{{}} }, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := given(bound)
			s.job.Status.JobRef.UID = "job"
			s.memory.goneWatched = true
			s.memory.gone = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "job", DeletionTimestamp: &metav1.Time{Time: time.Now()}}}
			test.change(s)
			if got := s.neverStarted(); got != test.want {
				t.Errorf("neverStarted = %t, want %t", got, test.want)
			}
		})
	}
}
