package decision

import (
	"testing"
	"time"
)

func TestPodsAreAwaited(t *testing.T) {
	tests := map[string]struct {
		since    time.Duration
		isBehind bool
		left     time.Duration
		may      bool
	}{
		"just now":                   {0, false, PodsPause, true},
		"within the pause":           {PodsPause / 2, false, PodsPause / 2, true},
		"after the pause":            {PodsPause, false, 0, true},
		"after the grace":            {PodsGoneGrace + 1, false, 0, false},
		"just now, behind":           {0, true, behindPause, true},
		"after the grace, behind":    {PodsGoneGrace + 1, true, behindPause, true},
		"behind for almost too long": {InformerGrace - 1, true, behindPause, true},
		"behind for too long":        {InformerGrace, true, 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := &Snapshot{Time: time.Unix(1000, 0), ViewIsBehind: test.isBehind}
			s.Memory.Gone.At = s.Time.Add(-test.since)
			s.Memory.EndedAt = s.Memory.Gone.At
			if left := s.PodsTimeLeft(); left != test.left {
				t.Errorf("PodsTimeLeft = %v, want %v", left, test.left)
			}
			if may := s.MayAwaitPods(); may != test.may {
				t.Errorf("MayAwaitPods = %v, want %v", may, test.may)
			}
		})
	}
}
