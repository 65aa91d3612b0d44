package decision

import "time"

// This file says how long the end of a run waits for the view of its Pods. The watches of Jobs and of
// Pods have no common order. While one of Pods is not open, or the target sends more than the connection
// reads, the one may be many seconds behind the other.

const (
	// PodsPause is how long the watch of Pods may be behind that of Jobs when a Job is gone.
	PodsPause = 2 * time.Second
	// PodsGoneGrace is how long the end of a run may wait for the event of a Pod that has gone.
	PodsGoneGrace = 5 * time.Second
	// maxPodsWait is how long an end waits at most, however long the Pods are late.
	maxPodsWait = 30 * time.Second
)

// sinceInTime returns for how long the Pods have been in time since an event.
func (s *Snapshot) sinceInTime(event time.Time) time.Duration {
	if s.PodsLateAt.After(event) {
		event = s.PodsLateAt
	}
	return max(0, s.Time.Sub(event))
}

// PodsWereLate reports whether the view shows the Pods late, or did a moment ago.
func (s *Snapshot) PodsWereLate() bool {
	return !s.PodsLateAt.IsZero() && s.Time.Sub(s.PodsLateAt) < PodsPause
}

// AskPause returns the time until the Pods of a run that has ended are asked for again, after so many times.
func AskPause(asks int) time.Duration { return min(time.Second<<max(asks-1, 0), 8*time.Second) }

// ViewShows reports whether the view of the Pods shows everything that had happened at a time.
func (s *Snapshot) ViewShows(at time.Time) bool { return s.sinceInTime(at) >= PodsPause }

// PodsTimeLeft returns how much longer to wait until the view of the Pods shows everything that had happened
// when the Job went. It is 0 when it does, and when it was waited for the longest time allowed.
func (s *Snapshot) PodsTimeLeft() time.Duration {
	if s.PodsWaitIsOver() {
		return 0
	}
	return max(0, PodsPause-s.sinceInTime(s.Memory.Gone.At))
}

// PodsWaitIsOver reports whether the view of the Pods was waited for the longest time allowed since the Job
// went.
func (s *Snapshot) PodsWaitIsOver() bool { return s.Time.Sub(s.Memory.Gone.At) >= maxPodsWait }

// MayAwaitGonePods reports whether a run whose Job is gone may still wait for events of Pods that have
// gone with it.
func (s *Snapshot) MayAwaitGonePods() bool {
	return !s.PodsWaitIsOver() && s.sinceInTime(s.Memory.Gone.At) < PodsPause+PodsGoneGrace
}

// MayAwaitPods reports whether a run whose Job has ended may still wait for events of its Pods.
func (s *Snapshot) MayAwaitPods() bool {
	return s.Time.Sub(s.Memory.EndedAt) < maxPodsWait && s.sinceInTime(s.Memory.EndedAt) <= PodsGoneGrace
}
