package pooledjob

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
)

// goneRun is a run whose Job left the view some time ago.
func goneRun(since time.Duration, heldBack bool) *run {
	s := boundRun()
	s.Job.Status.JobRef.UID = "job"
	s.Memory.Gone.Job = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "job"}}
	s.Memory.Gone.Watched, s.Memory.Gone.At = true, s.Time.Add(-since)
	if heldBack {
		s.PodsLateAt = s.Time
	}
	return &run{Reconciler: &Reconciler{}, Snapshot: s}
}

const tooLong = 30 * time.Second

// A run has no lease here: whoever asked the target before the view has caught up would panic.
func TestDeletionIsNotJudgedWhileThePodsWereLate(t *testing.T) {
	tests := map[string]struct {
		since    time.Duration
		heldBack bool
		after    time.Duration
	}{
		"within the pause":               {time.Second, false, decision.PodsPause - time.Second},
		"held back":                      {10 * time.Second, true, decision.PodsPause},
		"held back for too long to know": {tooLong, true, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			deleted, after, err := goneRun(test.since, test.heldBack).wasDeleted(t.Context())
			if deleted || after != test.after || err != nil {
				t.Errorf("wasDeleted = %v, %v, %v; want false, %v, no error", deleted, after, err, test.after)
			}
		})
	}
}

// A run is moved only if its Job had no Pods, and a view that is held back may not show them yet, even when
// it was waited for as long as may be.
func TestViewThatIsHeldBackProvesNoAbsenceOfPods(t *testing.T) {
	pods := []*corev1.Pod{{}}
	tests := map[string]struct {
		since    time.Duration
		heldBack bool
		settled  bool
		found    podsOfGone
		want     bool
	}{
		"the view shows all":           {decision.PodsPause, false, false, podsOfGone{complete: true}, true},
		"the view was complete before": {tooLong, true, true, podsOfGone{}, true},
		"the view may be late":         {time.Second, false, false, podsOfGone{complete: true}, false},
		"held back":                    {10 * time.Second, true, false, podsOfGone{complete: true}, false},
		"held back for too long":       {tooLong, true, false, podsOfGone{complete: true}, false},
		"forgotten by the view":        {decision.PodsPause, false, false, podsOfGone{}, false},
		"a Pod is there":               {decision.PodsPause, false, false, podsOfGone{complete: true, listed: pods}, false},
		"a Pod has ended":              {decision.PodsPause, false, false, podsOfGone{complete: true, ended: pods}, false},
		"too many Pods":                {decision.PodsPause, false, true, podsOfGone{complete: true, tooMany: true}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := goneRun(test.since, test.heldBack)
			r.Memory.Gone.Settled = test.settled
			if got := r.hadNoPods(test.found); got != test.want {
				t.Errorf("hadNoPods = %v, want %v", got, test.want)
			}
		})
	}
}
