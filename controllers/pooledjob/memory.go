package pooledjob

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
)

// memories holds the memory of every PooledJob until it is gone.
type memories struct {
	mu    sync.Mutex
	byKey map[types.NamespacedName]*decision.Memory
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

// get returns a copy of the memory of a PooledJob; empty for one that was re-created
// under the same name, or moved to another cluster.
func (m *memories) get(job *v1alpha1.PooledJob) decision.Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if found := m.byKey[client.ObjectKeyFromObject(job)]; found != nil && found.UID == job.UID && found.Attempt == job.Status.Attempt {
		return *found
	}
	return decision.Memory{UID: job.UID, Attempt: job.Status.Attempt}
}

// update changes the memory of a PooledJob, and returns it.
func (m *memories) update(job *v1alpha1.PooledJob, change func(*decision.Memory)) decision.Memory {
	next := m.get(job)
	change(&next)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byKey == nil {
		m.byKey = map[types.NamespacedName]*decision.Memory{}
	}
	key := client.ObjectKeyFromObject(job)
	if before := m.byKey[key]; before != nil {
		m.gone -= before.Gone.Size()
	}
	if size := next.Gone.Size(); size > maxGoneOfRun || m.gone+size > maxGone {
		next.Gone.Pods, next.Gone.PodsMissing = nil, next.Gone.PodsMissing || len(next.Gone.Pods) > 0
	}
	if m.gone+next.Gone.Size() > maxGone {
		next.Gone.Job = nil
	}
	m.gone += next.Gone.Size()
	m.byKey[key] = &next
	return next
}

// latest returns the PooledJob as this process wrote it last, if the cache shows a version that
// was written over: it is late, and what would be decided by it is decided already. That
// may be another attempt than the cache shows.
func (m *memories) latest(cached *v1alpha1.PooledJob) *v1alpha1.PooledJob {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.byKey[client.ObjectKeyFromObject(cached)]
	switch {
	case known == nil || known.UID != cached.UID || known.Written == nil:
		return cached
	case slices.Contains(known.WrittenOver, cached.ResourceVersion):
		return known.Written.DeepCopy()
	}
	known.Written, known.WrittenOver = nil, nil
	return cached
}

// outdated drops what this process wrote last, because the hub has another version.
func (m *memories) outdated(name types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.byKey[name]; known != nil {
		known.Written, known.WrittenOver = nil, nil
	}
}

func (m *memories) forget(name types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.byKey[name]; known != nil {
		m.gone -= known.Gone.Size()
	}
	delete(m.byKey, name)
}
