package connpool

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// This file is what a store remembers of Jobs and Pods that went.

const (
	// maxGonePods is how many ended Pods are remembered per run after they went, as many that
	// never had a node, and maxWholePods of how many what they said, too: a Job that keeps
	// failing deletes none of its Pods, so more than a few are those that a Job controller stops
	// all at once.
	maxGonePods  = 256
	maxWholePods = 8
	// maxEarly is how many runs' ended Pods are remembered that went before their Job was seen,
	// and maxEarlyAge for how long.
	maxEarly    = 256
	maxEarlyAge = time.Minute
	// maxGoneJobs is how many Jobs are remembered per view after they went, and maxGoneAge
	// for how long: until the hub has been told how they ended, which takes a moment but
	// when the hub is away.
	maxGoneJobs = 1024
	maxGoneAge  = 10 * time.Minute
)

// goneJob is a Job that went.
type goneJob struct {
	record *record
	at     time.Time
	// watched tells that its end was told by an event, which shows the last that was known
	// of it; else it was missing from a list, and may have changed before it went.
	watched bool
}

// goneJob is the Job of a run as it was when it went, nil if none of that name is remembered.
func (s *store) goneJob(key, namespace, name string) *GoneJob {
	s.mu.RLock()
	gone := s.goneJobs[key]
	_, cut := s.cut[key]
	s.mu.RUnlock()
	if gone.record == nil || gone.record.name != namespace+"/"+name || time.Since(gone.at) > maxGoneAge {
		return nil
	}
	return &GoneJob{Job: s.readJob(gone.record), At: gone.at, Watched: gone.watched, PodsMissing: cut}
}

// forget drops what is remembered of a run's Job that went, and of its Pods.
func (s *store) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(key)
}

func (s *store) forgetLocked(key string) {
	if _, ok := s.goneJobs[key]; ok {
		s.forgetGoneJob(key)
		s.forgetPods(key)
	}
}

// forgetGoneJob drops what is remembered of a run's Job, and not of its Pods. s.mu is held.
func (s *store) forgetGoneJob(key string) {
	if gone, ok := s.goneJobs[key]; ok {
		s.growGone(&s.budget.goneJobs, -gone.record.size())
		delete(s.goneJobs, key)
	}
}

// forgetPods drops what is remembered of a run's Pods. s.mu is held.
func (s *store) forgetPods(key string) {
	for _, r := range s.gone[key] {
		s.growGone(&s.budget.gonePods, -r.size())
	}
	delete(s.gone, key)
	delete(s.cut, key)
}

// rememberJob keeps the last that is known of a Job that goes. s.mu is held.
func (s *store) rememberJob(r *record, watched bool) {
	if r.key == "" {
		return
	}
	s.makeRoom()
	delete(s.early, r.key)
	s.forgetGoneJob(r.key)
	s.growGone(&s.budget.goneJobs, r.size())
	s.goneJobs[r.key] = goneJob{record: r, at: time.Now(), watched: watched}
}

// goneShare is the part of what the objects of a connection may take that the Jobs may take that
// went, and that the Pods may.
const goneShare = 8

func (s *store) mostGone() int64 { return s.budget.limit() / goneShare }

// hasRoom reports whether another Job that went can be remembered. s.mu is held.
func (s *store) hasRoom() bool {
	return len(s.goneJobs) < maxGoneJobs && s.budget.goneJobs.Load() < s.mostGone()
}

// hasRoomForPods reports whether another Pod that went can be remembered, and forgets Jobs that are too
// old if not. s.mu is held.
func (s *store) hasRoomForPods() bool {
	if s.budget.gonePods.Load() >= s.mostGone() {
		s.forgetOld()
	}
	return s.budget.gonePods.Load() < s.mostGone()
}

// makeRoom forgets the Jobs that are too old and, if that is not enough, the oldest one. s.mu is held.
func (s *store) makeRoom() {
	if s.hasRoom() {
		return
	}
	s.forgetOld()
	// What other views of the connection remember is theirs, so one is enough.
	if !s.hasRoom() && len(s.goneJobs) > 0 {
		s.forgetOldest()
	}
}

// forgetOld forgets the Jobs that are too old. s.mu is held.
func (s *store) forgetOld() {
	for key, gone := range s.goneJobs {
		if time.Since(gone.at) > maxGoneAge {
			s.forgetLocked(key)
		}
	}
}

// forgetOldest forgets the oldest Job. s.mu is held.
func (s *store) forgetOldest() {
	oldest := ""
	for key, gone := range s.goneJobs {
		if oldest == "" || gone.at.Before(s.goneJobs[oldest].at) {
			oldest = key
		}
	}
	s.forgetLocked(oldest)
}

// rememberEarly notes a key whose Job was not seen yet. s.mu is held.
func (s *store) rememberEarly(key string) {
	if _, known := s.early[key]; known {
		return
	}
	oldest := key
	for other, since := range s.early {
		if time.Since(since) > maxEarlyAge {
			delete(s.early, other)
			s.forgetPods(other)
		} else if oldest == key || since.Before(s.early[oldest]) {
			oldest = other
		}
	}
	if len(s.early) >= maxEarly {
		delete(s.early, oldest)
		s.forgetPods(oldest)
	}
	s.early[key] = time.Now()
}

// rememberPod keeps how a Pod ended that goes; of the first ones with all that they say. s.mu
// is held.
func (s *store) rememberPod(r *record) {
	alike := 0
	for _, other := range s.gone[r.key] {
		if other.pod.ended == r.pod.ended {
			alike++
		}
	}
	if alike >= maxGonePods || !s.hasRoomForPods() {
		if r.pod.ended {
			s.cut[r.key] = struct{}{}
		}
		return
	}
	if r.pod.ended && alike >= maxWholePods {
		r = s.withoutWords(r)
	}
	s.growGone(&s.budget.gonePods, r.size())
	s.gone[r.key] = append(s.gone[r.key], r)
}

// withoutWords is the record of a Pod without what its containers said.
func (s *store) withoutWords(r *record) *record {
	pod := s.readPod(r)
	pod.Status.Message = ""
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			for _, t := range []*corev1.ContainerStateTerminated{statuses[i].State.Terminated, statuses[i].LastTerminationState.Terminated} {
				if t != nil {
					t.Message = ""
				}
			}
			statuses[i].State.Waiting = nil
		}
	}
	short := s.newRecord(&pod.ObjectMeta, func(p *packer) { p.pod(pod) })
	short.pod = r.pod
	return short
}

// hasJob tells whether a run has a Job, or one that is remembered. s.mu is held.
func (s *store) hasJob(key string) bool {
	_, remembered := s.goneJobs[key]
	return remembered || s.runs[key].first[kindJob] != nil
}
