package decision

import "time"

// This file says how long the end of a run waits for the view of its Pods. The watches of Jobs and of
// Pods have no common order, and when the target sends more than the connection reads, the one may be
// many seconds behind the other.

const (
	// PodsPause is how long the watch of Pods may be behind that of Jobs when a Job is gone.
	PodsPause = 2 * time.Second
	// PodsGoneGrace is how long the end of a run may wait for the event of a Pod that has gone.
	PodsGoneGrace = 5 * time.Second
	// behindPause is the time between two looks while the view is behind.
	behindPause = time.Second
)

// PodsTimeLeft returns how much longer the view of the Pods may not show everything that had happened
// when the Job went. It is never positive once InformerGrace has passed.
func (s *Snapshot) PodsTimeLeft() time.Duration {
	since := s.Time.Sub(s.Memory.Gone.At)
	if s.ViewIsBehind && since < InformerGrace {
		return behindPause
	}
	return max(0, PodsPause-since)
}

// MayAwaitPods reports whether a run whose Job has ended may still wait for events of its Pods.
func (s *Snapshot) MayAwaitPods() bool {
	since := s.Time.Sub(s.Memory.EndedAt)
	return since <= PodsGoneGrace || (s.ViewIsBehind && since < InformerGrace)
}
