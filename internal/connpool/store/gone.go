package store

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	batchv1 "k8s.io/api/batch/v1"
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
	// maxLost is of how many runs it is remembered that such Pods were dropped, for maxGoneAge.
	maxLost = 4096
	// maxGoneJobs is how many Jobs are remembered per view after they went, and maxGoneAge
	// for how long: until their end is written to the hub, which takes a moment but
	// when the hub is away.
	maxGoneJobs = 1024
	maxGoneAge  = 10 * time.Minute
)

// goneJob is a Job that went.
type goneJob struct {
	record *Record
	at     time.Time
	// watched is true if an event reported that it went, with its last state. Otherwise it was
	// missing from a list, and may have changed before it went.
	watched bool
}

// goneKey is the key of a Job that went, and when.
type goneKey struct {
	key string
	at  time.Time
}

// Gone is a Job that was watched and went, as it was then.
type Gone struct {
	*batchv1.Job
	// At is when that was noticed.
	At time.Time
	// Watched is true if an event reported it, and nothing can have happened to the Job
	// between the state that it has here and its going; else it was missing from a list.
	// (An object that lost the labels of the selector goes by the same event.)
	Watched bool
	// PodsMissing is true if more Pods of it had ended than GonePodsOf has, or may have: the Pods were listed
	// anew after it went. (Of a Job that is there no Pod goes before the Job controller has counted it.)
	PodsMissing bool
}

// GoneJob returns the Job of a run as it was when it went, nil if none of that name is remembered.
func (s *Store) GoneJob(key, namespace, name string) *Gone {
	s.mu.RLock()
	gone := s.goneJobs[key]
	_, missing := s.podsMissing[key]
	missing = missing || s.podsListed.After(gone.at)
	s.mu.RUnlock()
	if gone.record == nil || gone.record.name != namespace+"/"+name || time.Since(gone.at) > maxGoneAge {
		return nil
	}
	return &Gone{Job: s.readJob(gone.record), At: gone.at, Watched: gone.watched, PodsMissing: missing}
}

// Forget drops what is remembered of a run's Job that went, and of its Pods.
func (s *Store) Forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(key)
}

func (s *Store) forgetLocked(key string) {
	if _, ok := s.goneJobs[key]; !ok {
		return
	}
	s.forgetGoneJob(key)
	if s.runs[key].first[KindJob] == nil { // else they may be those of another Job of the run
		s.forgetPods(key)
	}
}

// forgetGoneJob drops what is remembered of a run's Job, and not of its Pods. s.mu is held.
func (s *Store) forgetGoneJob(key string) {
	if gone, ok := s.goneJobs[key]; ok {
		s.growGone(&s.sizeOfGoneJobs, -gone.record.Size())
		delete(s.goneJobs, key)
	}
}

// forgetPods drops what is remembered of a run's Pods. s.mu is held.
func (s *Store) forgetPods(key string) {
	for _, r := range s.gone[key] {
		s.growGone(&s.sizeOfGonePods, -r.Size())
	}
	delete(s.gone, key)
	delete(s.podsMissing, key)
}

// loseEarly drops the Pods of a run whose Job was not seen, and may be seen yet. s.mu is held.
func (s *Store) loseEarly(key string) {
	delete(s.early, key)
	_, missing := s.podsMissing[key]
	if len(s.gone[key]) == 0 && !missing {
		return
	}
	s.forgetPods(key)
	if len(s.lost) >= maxLost {
		clear(s.lost)
		s.lostOthers = time.Now()
	}
	s.lost[maphash.String(s.seed, key)] = time.Now()
}

// noteJob is called for a Job of a run that had none: Pods of it may have been lost. s.mu is held.
func (s *Store) noteJob(key string) {
	delete(s.early, key)
	hash := maphash.String(s.seed, key)
	for _, at := range []time.Time{s.lost[hash], s.lostOthers} {
		if !at.IsZero() && time.Since(at) < maxGoneAge {
			s.podsMissing[key] = struct{}{}
		}
	}
	delete(s.lost, hash)
}

// rememberJob keeps the last that is known of a Job that goes. s.mu is held.
func (s *Store) rememberJob(r *Record, watched bool) {
	if r.key == "" {
		return
	}
	s.makeRoom()
	delete(s.early, r.key)
	s.forgetGoneJob(r.key)
	s.growGone(&s.sizeOfGoneJobs, r.Size())
	now := time.Now()
	s.goneJobs[r.key] = goneJob{record: r, at: now, watched: watched}
	if len(s.goneOrder) > 2*maxGoneJobs {
		s.goneOrder = slices.DeleteFunc(s.goneOrder, func(g goneKey) bool { return !s.goneJobs[g.key].at.Equal(g.at) })
	}
	s.goneOrder = append(s.goneOrder, goneKey{r.key, now})
}

// goneFraction is which part of what the objects of a connection may take the Jobs may take that went: an
// eighth. The Pods may take another.
const goneFraction = 8

// goneSize is what the Jobs or the Pods of a store take that went.
type goneSize struct {
	own int64
	all *atomic.Int64 // that of all stores of the connection
}

// hasRoomFor reports whether more can be remembered: the stores of the connection do not use all that
// they may, or this one uses less than an equal part. s.mu is held.
func (s *Store) hasRoomFor(size goneSize) bool {
	most := s.budget.Limit() / goneFraction
	return size.all.Load() < most || size.own < most/max(s.budget.Stores.Load(), 1)
}

// hasRoom reports whether another Job that went can be remembered. s.mu is held.
func (s *Store) hasRoom() bool {
	return len(s.goneJobs) < maxGoneJobs && s.hasRoomFor(s.sizeOfGoneJobs)
}

// Age forgets what is too old.
func (s *Store) Age() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetOld()
	s.forgetOldEarly()
	maps.DeleteFunc(s.lost, func(_ uint64, at time.Time) bool { return time.Since(at) > maxGoneAge })
}

// makeRoom forgets the Jobs that are too old and, if that is not enough, the oldest one. s.mu is held.
func (s *Store) makeRoom() {
	if s.hasRoom() {
		return
	}
	s.forgetOld()
	// What other views of the connection remember is theirs, so one is enough.
	if !s.hasRoom() {
		s.forgetLocked(s.oldest())
	}
}

// forgetOld forgets the Jobs that are too old. s.mu is held.
func (s *Store) forgetOld() {
	for key := s.oldest(); key != "" && time.Since(s.goneJobs[key].at) > maxGoneAge; key = s.oldest() {
		s.forgetLocked(key)
	}
}

// oldest returns the key of the Job that went first; empty if there is none. s.mu is held.
func (s *Store) oldest() string {
	for len(s.goneOrder) > 0 {
		if first := s.goneOrder[0]; s.goneJobs[first.key].at.Equal(first.at) {
			return first.key
		}
		s.goneOrder = s.goneOrder[1:] // it was forgotten, or another one of its run went
	}
	return ""
}

// rememberEarly notes a key whose Job was not seen yet. s.mu is held.
func (s *Store) rememberEarly(key string) {
	if _, known := s.early[key]; known {
		return
	}
	if len(s.early) >= maxEarly {
		s.forgetOldEarly()
	}
	if len(s.early) >= maxEarly {
		s.loseEarly(s.oldestEarly())
	}
	s.early[key] = time.Now()
}

func (s *Store) forgetOldEarly() {
	for key, since := range s.early {
		if time.Since(since) > maxEarlyAge {
			s.loseEarly(key)
		}
	}
}

func (s *Store) oldestEarly() (oldest string) {
	for key, since := range s.early {
		if oldest == "" || since.Before(s.early[oldest]) {
			oldest = key
		}
	}
	return oldest
}

// rememberPod keeps how a Pod ended that goes; of the first ones with all that they say. s.mu
// is held.
func (s *Store) rememberPod(r *Record) {
	if !s.hasRoomFor(s.sizeOfGonePods) {
		s.forgetOld() // maybe also the Job of this Pod
	}
	if !s.hasJob(r.key) {
		s.rememberEarly(r.key)
	}
	alike := 0
	for _, other := range s.gone[r.key] {
		if other.pod.ended == r.pod.ended {
			alike++
		}
	}
	if alike >= maxGonePods || !s.hasRoomFor(s.sizeOfGonePods) {
		if r.pod.ended {
			s.podsMissing[r.key] = struct{}{}
		}
		return
	}
	if r.pod.ended && alike >= maxWholePods {
		r = s.withoutWords(r)
	}
	s.growGone(&s.sizeOfGonePods, r.Size())
	s.gone[r.key] = append(s.gone[r.key], r)
}

// withoutWords returns the record of a Pod without what its containers said.
func (s *Store) withoutWords(r *Record) *Record {
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

// hasJob reports whether a run has a Job, or one that is remembered. s.mu is held.
func (s *Store) hasJob(key string) bool {
	_, remembered := s.goneJobs[key]
	return remembered || s.runs[key].first[KindJob] != nil
}
