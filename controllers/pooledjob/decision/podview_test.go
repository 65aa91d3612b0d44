package decision

import (
	"testing"
	"time"
)

func TestPodsAreAwaited(t *testing.T) {
	const never = -1
	type answers struct {
		timeLeft               time.Duration
		shows, may, mayForGone bool
	}
	tests := map[string]struct {
		since, sinceHeldBack time.Duration
		want                 answers
	}{
		"just now":                       {0, never, answers{PodsPause, false, true, true}},
		"within the pause":               {PodsPause / 2, never, answers{PodsPause / 2, false, true, true}},
		"after the pause":                {PodsPause, never, answers{0, true, true, true}},
		"after the grace":                {PodsGoneGrace + 1, never, answers{0, true, false, true}},
		"after both":                     {PodsPause + PodsGoneGrace, never, answers{0, true, false, false}},
		"held back long before":          {PodsPause, time.Hour, answers{0, true, true, true}},
		"held back now":                  {PodsGoneGrace + 1, 0, answers{PodsPause, false, true, true}},
		"held back now, for long":        {20 * time.Second, 0, answers{PodsPause, false, true, true}},
		"held back a second ago":         {20 * time.Second, time.Second, answers{PodsPause - time.Second, false, true, true}},
		"held back until two seconds":    {20 * time.Second, PodsPause, answers{0, true, true, true}},
		"held back until five seconds":   {20 * time.Second, PodsGoneGrace + 1, answers{0, true, false, true}},
		"held back until seven seconds":  {20 * time.Second, PodsPause + PodsGoneGrace, answers{0, true, false, false}},
		"held back for almost too long":  {maxPodsWait - 1, 0, answers{PodsPause, false, true, true}},
		"held back for too long":         {maxPodsWait, 0, answers{0, false, false, false}},
		"held back for too long, before": {maxPodsWait, PodsPause, answers{0, true, false, false}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := &Snapshot{Time: time.Unix(1000, 0)}
			s.Memory.Gone.At = s.Time.Add(-test.since)
			s.Memory.EndedAt = s.Memory.Gone.At
			if test.sinceHeldBack != never {
				s.PodsLateAt = s.Time.Add(-test.sinceHeldBack)
			}
			got := answers{s.PodsTimeLeft(), s.ViewShows(s.Memory.Gone.At), s.MayAwaitPods(), s.MayAwaitGonePods()}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
