package decision

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// That a Job never started is known only as long as its end was watched, and everything of its
// Pods is remembered.
func TestAJobNeverStartedOnlyIfNothingOfItIsForgotten(t *testing.T) {
	tests := map[string]struct {
		change func(*Snapshot)
		want   bool
	}{
		"all is known":             {func(*Snapshot) {}, true},
		"its end was not watched":  {func(s *Snapshot) { s.Memory.Gone.Watched = false }, false},
		"Pods are missing":         {func(s *Snapshot) { s.Memory.Gone.PodsMissing = true }, false},
		"the view has forgotten":   {func(s *Snapshot) { s.Memory.Gone.Forgotten = true }, false},
		"all was known by then":    {func(s *Snapshot) { s.Memory.Gone.Forgotten, s.Memory.Gone.Settled = true, true }, true},
		"nothing is remembered":    {func(s *Snapshot) { s.Memory.Gone.Job = nil }, false},
		"it had an active Pod":     {func(s *Snapshot) { s.Memory.Gone.Job.Status.Active = 1 }, false},
		"a Pod of it has ended":    {func(s *Snapshot) { s.Memory.Gone.Pods = []*corev1.Pod{{}} }, false},
		"a Pod of it is there yet": {func(s *Snapshot) { s.Pods = []*corev1.Pod{{}} }, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := given(bound)
			s.Job.Status.JobRef.UID = "job"
			s.Memory.Gone.Watched = true
			s.Memory.Gone.Job = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "job", DeletionTimestamp: &metav1.Time{Time: time.Now()}}}
			test.change(s)
			if got := s.NeverStarted(); got != test.want {
				t.Errorf("neverStarted = %t, want %t", got, test.want)
			}
		})
	}
}

// What another process sent may still arrive; how long, counts from when that was noticed.
func TestRequestsOfAnotherProcessCount(t *testing.T) {
	s := given(bound)
	s.Memory.CreatorSeenAt = s.Time.Add(-10 * time.Second)
	if left := s.RequestsInFlight(); left != RequestLifetime-10*time.Second {
		t.Errorf("%s left", left)
	}
}

func TestMovesAfterLoss(t *testing.T) {
	tests := map[string]struct {
		status metav1.ConditionStatus
		reason string
		since  time.Duration
		want   bool
	}{
		"away for long":           {metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady, time.Minute, true},
		"away for as long":        {metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady, 30 * time.Second, true},
		"away for a moment":       {metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady, 29 * time.Second, false},
		"never away":              {metav1.ConditionTrue, v1alpha1.ReasonSynced, time.Minute, false},
		"a request was refused":   {metav1.ConditionUnknown, v1alpha1.ReasonTargetError, time.Minute, false},
		"a namespace not watched": {metav1.ConditionUnknown, v1alpha1.ReasonNamespaceNotWatched, time.Minute, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := given(selecting, seenJob)
			s.Job.Status.Conditions = []metav1.Condition{{
				Type: v1alpha1.ConditionSynced, Status: test.status, Reason: test.reason, LastTransitionTime: metav1.NewTime(s.Time.Add(-test.since)),
			}}
			if got := s.MovesAfterLoss(); got != test.want {
				t.Errorf("moves: %v, want %v", got, test.want)
			}
		})
	}
}
