package store

import (
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pooledjob/pooledjob/internal/connpool/budget"
	"github.com/pooledjob/pooledjob/internal/connpool/sanitize"
)

// Kind is one of the two that a store holds.
type Kind int

// The kinds, and how many there are.
const (
	KindJob Kind = iota
	KindPod
	Kinds
)

// Object is a Job or a Pod that can be decoded.
type Object interface {
	runtime.Object
	// Unmarshal decodes protobuf without an envelope.
	Unmarshal(data []byte) error
}

// NewObject returns an empty object of the kind.
func (k Kind) NewObject() Object {
	if k == KindJob {
		return &batchv1.Job{}
	}
	return &corev1.Pod{}
}

// Store holds the Jobs and Pods of a view: of each only what a run needs, packed.
type Store struct {
	labels *Labels
	budget *budget.Budget

	mu      sync.RWMutex
	size    int                       // bytes that all this takes
	closed  bool                      // they are given back, and nothing counts any more
	objects [Kinds]map[string]*Record // by namespace and name
	runs    map[string]runRecords     // by key
	// gone are Pods, by key, that had ended when they were deleted while their Job
	// lives on, or is remembered. A Job controller deletes the active Pods of a Job that
	// exceeds its deadline before it declares the Job failed; without this their exit codes
	// would be lost.
	gone map[string][]*Record
	// early are the keys in gone whose Job was not seen yet, and since when: the two watches
	// have no common order, so a Pod may come and go before the first event of its Job.
	early map[string]time.Time
	// lost are the hashes of keys whose Pods were dropped from early, and when; lostOthers is when
	// keys were dropped from lost.
	lost       map[uint64]time.Time
	lostOthers time.Time
	seed       maphash.Seed
	// podsMissing are the keys of which not all Pods are in gone that had ended.
	podsMissing map[string]struct{}
	// podsListed is when all Pods were last replaced by a list: those that came and went while no watch
	// was open are not in it.
	podsListed time.Time
	// goneJobs are Jobs, by key, as they were when they went, until they are forgotten:
	// what deletes finished Jobs may be faster than those who ask how they ended.
	goneJobs map[string]goneJob
	// goneOrder are these and some that were forgotten, the first that went first.
	goneOrder []goneKey

	sizeOfGoneJobs, sizeOfGonePods goneSize

	looks looks
}

// Record is an object. Once it is in the store only next and previous change, which mu guards.
type Record struct {
	name   string // namespace/name
	key    string // of the run; empty if it has none
	packed string // the rest
	parts  int    // bytes that the object takes that is made of it, beside its texts
	pod    podFacts
	// Of the same kind and run.
	next, previous *Record
}

// recordSize is about what a record takes beside its texts, in bytes: itself, and its share of the
// maps.
const recordSize = 260

// Size returns about what a record takes, in bytes.
func (r *Record) Size() int { return recordSize + len(r.name) + len(r.packed) }

// objectSize returns about what the object takes that is made of it.
func (r *Record) objectSize() int { return r.parts + len(r.packed) }

// GetObjectKind implements runtime.Object: lists of records go through a reflector.
func (*Record) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object. Nobody changes what would be copied.
func (r *Record) DeepCopyObject() runtime.Object { return r }

// New returns an empty store whose objects count in a budget.
func New(labels *Labels, b *budget.Budget) *Store {
	s := &Store{
		labels: labels, budget: b, runs: map[string]runRecords{},
		gone: map[string][]*Record{}, early: map[string]time.Time{}, podsMissing: map[string]struct{}{}, goneJobs: map[string]goneJob{},
		lost: map[uint64]time.Time{}, seed: maphash.MakeSeed(),
		sizeOfGoneJobs: goneSize{all: &b.GoneJobs}, sizeOfGonePods: goneSize{all: &b.GonePods},
	}
	for k := range s.objects {
		s.objects[k] = map[string]*Record{}
	}
	b.Stores.Add(1)
	return s
}

// Record makes the record of a Job or a Pod; of a record it is the same.
func (s *Store) Record(obj any) (*Record, error) {
	switch o := obj.(type) {
	case *Record:
		return o, nil
	case *batchv1.Job:
		sanitize.Job(o)
		r := s.newRecord(&o.ObjectMeta, func(p *packer) { p.job(o) })
		r.parts = partsOfJob(o)
		return r, nil
	case *corev1.Pod:
		sanitize.Pod(o)
		r := s.newRecord(&o.ObjectMeta, func(p *packer) { p.pod(o) })
		r.pod, r.parts = factsOf(o), partsOfPod(o)
		return r, nil
	}
	return nil, fmt.Errorf("neither a Job nor a Pod but a %T", obj)
}

func (s *Store) newRecord(m *metav1.ObjectMeta, walk func(*packer)) *Record {
	r := &Record{name: m.Namespace + "/" + m.Name, packed: s.labels.pack(walk)}
	if sanitize.CheckUID(m.UID) == nil {
		r.key = m.Labels[s.labels.key] // else it is nobody's
	}
	return r
}

// read fills an object, of which m is the metadata, from its record.
func (s *Store) read(r *Record, m *metav1.ObjectMeta, walk func(*packer)) {
	m.Namespace, m.Name, _ = strings.Cut(r.name, "/")
	s.labels.unpack(r.packed, walk)
	if r.key != "" {
		m.Labels[s.labels.key] = r.key
	}
}

func (s *Store) readJob(r *Record) *batchv1.Job {
	job := &batchv1.Job{}
	s.read(r, &job.ObjectMeta, func(p *packer) { p.job(job) })
	return job
}

func (s *Store) readPod(r *Record) *corev1.Pod {
	pod := &corev1.Pod{}
	s.read(r, &pod.ObjectMeta, func(p *packer) { p.pod(pod) })
	r.pod.show(pod)
	return pod
}

// Job returns the Job of that name, nil if there is none.
func (s *Store) Job(namespace, name string) *batchv1.Job {
	s.mu.RLock()
	r := s.objects[KindJob][namespace+"/"+name]
	s.mu.RUnlock()
	if r == nil {
		return nil
	}
	return s.readJob(r)
}

// Jobs returns the Jobs that there are when they begin to be asked for; each is made when its
// turn comes.
func (s *Store) Jobs() iter.Seq[*batchv1.Job] {
	return func(yield func(*batchv1.Job) bool) {
		s.mu.RLock()
		records := slices.Collect(maps.Values(s.objects[KindJob]))
		s.mu.RUnlock()
		for _, r := range records {
			if !yield(s.readJob(r)) {
				return
			}
		}
	}
}

// PodsOf returns the Pods of a run in a namespace, those in made as they are there.
func (s *Store) PodsOf(key, namespace string, made MadePods) []*corev1.Pod {
	var records []*Record
	s.mu.RLock()
	for r := s.runs[key].first[KindPod]; r != nil; r = r.next {
		records = append(records, r)
	}
	s.mu.RUnlock()
	return s.readPods(records, namespace, made)
}

// GonePodsOf returns those that had ended, or were deleted before they had a node, and are gone.
func (s *Store) GonePodsOf(key, namespace string, made MadePods) []*corev1.Pod {
	s.mu.RLock()
	records := slices.Clone(s.gone[key])
	s.mu.RUnlock()
	return s.readPods(records, namespace, made)
}

func (s *Store) readPods(records []*Record, namespace string, made MadePods) []*corev1.Pod {
	found := make([]*corev1.Pod, 0, len(records))
	for _, r := range records {
		if in, _, _ := strings.Cut(r.name, "/"); in == namespace {
			found = append(found, made.pod(s, r))
		}
	}
	return found
}

// Count returns how many objects of a kind there are.
func (s *Store) Count(k Kind) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.objects[k])
}

// grow counts bytes that are held from now on, or not any more. s.mu is held.
func (s *Store) grow(size int) {
	if s.closed {
		return
	}
	s.size += size
	s.budget.Add(int64(size))
}

// growGone counts those of what went. s.mu is held.
func (s *Store) growGone(of *goneSize, size int) {
	if !s.closed {
		of.own += int64(size)
		of.all.Add(int64(size))
	}
	s.grow(size)
}

// Close gives back what the store took of the budget.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.budget.Stores.Add(-1)
	for key := range s.goneJobs {
		s.forgetGoneJob(key)
	}
	for key := range s.gone {
		s.forgetPods(key)
	}
	s.grow(-s.size)
	s.closed = true
}

// Known returns the record of the same object in the same state that the store has, or else r: lists
// bring again what is there already.
func (s *Store) Known(k Kind, r *Record) (known *Record, isNew bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	before := s.objects[k][r.name]
	if before == nil {
		return r, true
	}
	r.pod.follow(before.pod)
	if before.key == r.key && before.packed == r.packed && before.pod == r.pod {
		return before, false
	}
	return r, true
}

// Put adds an object or changes it. It returns the keys for which that makes a difference.
func (s *Store) Put(k Kind, r *Record) (changed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.putLocked(k, r)
}

func (s *Store) putLocked(k Kind, r *Record) (changed []string) {
	before := s.objects[k][r.name]
	if before == r {
		return nil
	}
	if before != nil {
		if k == KindPod {
			r.pod.follow(before.pod)
		}
		if before.key == r.key && before.packed == r.packed {
			return nil
		}
		r.name = before.name // the string that the map holds
		s.unlink(k, before)
		s.grow(-before.Size())
		if k == KindJob && before.key != r.key && !s.hasJob(before.key) {
			s.loseEarly(before.key)
		}
	}
	if gone, ok := s.goneJobs[r.key]; ok && k == KindJob && s.readJob(gone.record).UID == s.readJob(r).UID {
		s.forgetGoneJob(r.key) // it is there again
	}
	if k == KindJob && !s.hasJob(r.key) {
		s.noteJob(r.key)
	}
	s.objects[k][r.name] = r
	s.grow(r.Size())
	s.link(k, r)
	return keysOf(r, before)
}

// Remove takes an object out; r is the last that is known of it.
func (s *Store) Remove(k Kind, r *Record) (changed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removeLocked(k, r, true)
}

func (s *Store) removeLocked(k Kind, r *Record, watched bool) (changed []string) {
	before := s.objects[k][r.name]
	if before != nil {
		delete(s.objects[k], r.name)
		s.unlink(k, before)
		s.grow(-before.Size())
		if k == KindPod {
			r.pod.follow(before.pod)
		}
	}
	switch {
	case k == KindJob:
		s.rememberJob(r, watched)
		if before != nil && before.key != r.key && !s.hasJob(before.key) {
			s.loseEarly(before.key)
		}
	case (r.pod.ended || r.pod.unscheduled) && r.key != "":
		s.rememberPod(r)
	}
	return keysOf(r, before)
}

// Replace has the store hold these objects of a kind and no others.
func (s *Store) Replace(k Kind, records []*Record) (changed []string) {
	there := make(map[string]struct{}, len(records))
	for _, r := range records {
		there[r.name] = struct{}{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, r := range s.objects[k] {
		if _, ok := there[name]; !ok {
			changed = append(changed, s.removeLocked(k, r, false)...)
		}
	}
	for _, r := range records {
		changed = append(changed, s.putLocked(k, r)...)
	}
	if k == KindPod {
		s.podsListed = time.Now()
	}
	return changed
}

// keysOf returns the keys of an object now and, if that was another, before.
func keysOf(now, before *Record) []string {
	keys := []string{now.key}
	if before != nil && before.key != now.key {
		keys = append(keys, before.key)
	}
	return keys
}
