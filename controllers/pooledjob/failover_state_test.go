package pooledjob

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// A leader that was stopped, replaced and continued remembers that it has the creation of a
// Job to itself. It must not believe that once another process has taken over.
func TestMemoryEndsWithATakeover(t *testing.T) {
	r := &Reconciler{process: "us"}
	s := given(bound)
	job := s.job
	creator := func(name string) { job.Annotations = map[string]string{v1alpha1.AnnotationCreator: name} }
	look := func(after time.Duration) memory { return r.rememberCreator(job, decisionTime.Add(after)) }

	creator("us")
	r.memories.update(job, func(m *memory) { m.current = true })
	if !look(0).current {
		t.Fatal("what it bound itself is not its own")
	}
	creator("heir")
	for _, after := range []time.Duration{time.Hour, 2 * time.Hour} {
		if m := look(after); m.current || !m.creatorSeenAt.Equal(decisionTime.Add(time.Hour)) {
			t.Fatalf("after the takeover: current %v, since %s", m.current, m.creatorSeenAt)
		}
	}
	// It takes over in its turn, and loses it again.
	r.memories.update(job, func(m *memory) { m.current, m.creator = true, "us" })
	creator("us")
	if !look(3 * time.Hour).current {
		t.Fatal("what it took over is not its own")
	}
	creator("heir")
	if m := look(4 * time.Hour); m.current || !m.creatorSeenAt.Equal(decisionTime.Add(4*time.Hour)) {
		t.Fatalf("after the second takeover: current %v, since %s", m.current, m.creatorSeenAt)
	}
}

// What another process sent may still arrive; how long, counts from when that was noticed.
func TestRequestsOfAnotherProcessCount(t *testing.T) {
	s := given(bound)
	s.memory.creatorSeenAt = s.now.Add(-10 * time.Second)
	r := &run{snapshot: s}
	if left := r.requestsInFlight(); left != RequestLifetime-10*time.Second {
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
			s.job.Status.Conditions = []metav1.Condition{{
				Type: v1alpha1.ConditionSynced, Status: test.status, Reason: test.reason, LastTransitionTime: metav1.NewTime(s.now.Add(-test.since)),
			}}
			if got := s.movesAfterLoss(); got != test.want {
				t.Errorf("moves: %v, want %v", got, test.want)
			}
		})
	}
}
