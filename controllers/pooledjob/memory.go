package pooledjob

import (
	"slices"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
)

// memory is what one process remembers of its own requests for one PooledJob.
// Nothing depends on it being there: without it the next process asks the hub and
// the target instead.
type memory struct {
	uid     types.UID
	attempt int32
	// current is true if this process has the creation of the Job to itself: it
	// wrote the intent, or took over by a write of its own since. checkedAt is when
	// it last made sure that nobody has taken over from it.
	current   bool
	checkedAt time.Time
	// creator is the other process that has the creation to itself, or had, and
	// creatorSeenAt when that was noticed: its requests are not younger.
	creator       string
	creatorSeenAt time.Time
	// intent is the one by which the run is bound; empty if it is not.
	intent jobspec.Intent
	// written is the PooledJob as this process wrote it last, until the cache shows that
	// or a later version, and writtenOver the resourceVersions that it was written over since
	// the cache was up to date. Do not change what written points to.
	written     *v1alpha1.PooledJob
	writtenOver []string
	// createdAt is when the target answered that the Job exists, and jobUID
	// what Job; seen is true if the informer has shown it since.
	createdAt time.Time
	jobUID    types.UID
	seen      bool
	// existed is true if the target said that a Job of the run's name exists, which is in no
	// view since.
	existed bool
	// boundAt is when this process bound the run; zero if another one did. No request to
	// create the Job is older.
	boundAt time.Time
	// unknownSince is when the last request to create the Job ended without an
	// answer to tell whether it was created.
	unknownSince time.Time
	// refusal is the target's last answer that is worth another try, retryAt
	// when, and refusals how many came in a row.
	refusal  *refusal
	retryAt  time.Time
	refusals int
	// endedAt is when the end of the Job became known.
	endedAt time.Time
	// patch is the last change of the Job that the target took, and patchedAt when.
	patch     string
	patchedAt time.Time
	// deletedUID is the Job whose deletion the target accepted, and deletedAt when.
	deletedUID types.UID
	deletedAt  time.Time
	// gone is the Job as it was when it left the view, nil if it is there or was not seen to go.
	// gonePods are the Pods that were known then. goneAt is when that was, and goneWatched says that
	// nothing can have happened to the Job in between.
	gone        *batchv1.Job
	gonePods    []*corev1.Pod
	goneAt      time.Time
	goneWatched bool
	// gonePodsMissing says that gonePods are not all: there was no room for them.
	gonePodsMissing bool
	// goneSettled says that the view still remembered the Job PodsPause after it had left, so that
	// gonePods has all Pods that ended before it left.
	goneSettled bool
	// goneForgotten says that the view does not remember the Job any more: Pods that have ended since
	// it left are not known.
	goneForgotten bool
	// deletionSeen is the Job that was seen to be deleted before it had ended.
	deletionSeen types.UID
	// ttlAskedAt is when the target was last asked to keep the finished Job, ttlKept is true if
	// it said it would, and ttlRefused if it said that it will not.
	ttlAskedAt time.Time
	ttlKept    bool
	ttlRefused bool
	// warnings are what the target's API server said when it took the Job.
	warnings []string
	// standstill is what is known of why nothing happens; see standstill.go.
	standstill standstill
	// releasedAt is when the finalizer was taken off.
	releasedAt time.Time
	// writtenAt is when the PooledJob was last written, and waitsSince since when a change of
	// its status waits that can go with another one; zero if none does.
	writtenAt, waitsSince time.Time
}

// forgetGone drops what is remembered of the Job that went.
func (m *memory) forgetGone() {
	m.gone, m.gonePods = nil, nil
	m.gonePodsMissing, m.goneSettled, m.goneForgotten = false, false, false
}

// memories holds the memory of every PooledJob until it is gone.
type memories struct {
	mu    sync.Mutex
	byKey map[types.NamespacedName]*memory
	// gone is about how many bytes the Jobs that are gone, and their Pods, take in all.
	gone int
}

// maxGone is how much memory the Jobs that are gone take with their Pods, of all runs together, and
// maxGoneOfRun those of one run, in bytes. They are remembered until the ends of their runs are
// written, which takes a moment but when a target does not answer.
const (
	maxGone      = 24 << 20
	maxGoneOfRun = 2 << 20
)

// goneSize is about how many bytes what is remembered of a Job that is gone takes.
func (m *memory) goneSize() (size int) {
	const object = 2 << 10 // beside what its encoding takes
	if m.gone != nil {
		size += m.gone.Size() + object
	}
	for _, pod := range m.gonePods {
		size += 3*pod.Size() + object
	}
	return size
}

// of is a copy of the memory of a PooledJob; empty for one that was re-created
// under the same name, or moved to another cluster.
func (m *memories) of(job *v1alpha1.PooledJob) memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if found := m.byKey[client.ObjectKeyFromObject(job)]; found != nil && found.uid == job.UID && found.attempt == job.Status.Attempt {
		return *found
	}
	return memory{uid: job.UID, attempt: job.Status.Attempt}
}

// update changes the memory of a PooledJob, and returns it.
func (m *memories) update(job *v1alpha1.PooledJob, change func(*memory)) memory {
	next := m.of(job)
	change(&next)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byKey == nil {
		m.byKey = map[types.NamespacedName]*memory{}
	}
	key := client.ObjectKeyFromObject(job)
	if before := m.byKey[key]; before != nil {
		m.gone -= before.goneSize()
	}
	if size := next.goneSize(); size > maxGoneOfRun || m.gone+size > maxGone {
		next.gonePods, next.gonePodsMissing = nil, next.gonePodsMissing || len(next.gonePods) > 0
	}
	if m.gone+next.goneSize() > maxGone {
		next.gone = nil
	}
	m.gone += next.goneSize()
	m.byKey[key] = &next
	return next
}

// latest is the PooledJob as this process wrote it last, if the cache shows a version that
// was written over: it is late, and what would be decided by it is decided already. That
// may be another attempt than the cache shows.
func (m *memories) latest(cached *v1alpha1.PooledJob) *v1alpha1.PooledJob {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.byKey[client.ObjectKeyFromObject(cached)]
	switch {
	case known == nil || known.uid != cached.UID || known.written == nil:
		return cached
	case slices.Contains(known.writtenOver, cached.ResourceVersion):
		return known.written.DeepCopy()
	}
	known.written, known.writtenOver = nil, nil
	return cached
}

// outdated drops what this process wrote last, because the hub has another version.
func (m *memories) outdated(name types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.byKey[name]; known != nil {
		known.written, known.writtenOver = nil, nil
	}
}

func (m *memories) forget(name types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.byKey[name]; known != nil {
		m.gone -= known.goneSize()
	}
	delete(m.byKey, name)
}
