package pooledjob

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
)

// A run has no lease here: whoever asked the target before the view has caught up would panic.
func TestDeletionIsNotJudgedWhileTheViewIsBehind(t *testing.T) {
	tests := map[string]struct {
		since    time.Duration
		isBehind bool
		after    time.Duration
	}{
		"within the pause":            {time.Second, false, decision.PodsPause - time.Second},
		"behind":                      {10 * time.Second, true, time.Second},
		"behind for too long to know": {decision.InformerGrace, true, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := boundRun()
			s.Job.Status.JobRef.UID = "job"
			s.ViewIsBehind = test.isBehind
			s.Memory.Gone.Job = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "job"}}
			s.Memory.Gone.Watched, s.Memory.Gone.At = true, s.Time.Add(-test.since)
			deleted, after, err := (&run{Snapshot: s}).wasDeleted(t.Context())
			if deleted || after != test.after || err != nil {
				t.Errorf("wasDeleted = %v, %v, %v; want false, %v, no error", deleted, after, err, test.after)
			}
		})
	}
}
