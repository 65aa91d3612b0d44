package hubcache

import (
	"sync"

	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// maxKept bounds the templates that are kept, in bytes: those of 5,000 runs that wait, of
	// three KiB each.
	maxKept = 16 << 20
	// maxKeptTemplate bounds one that is kept. The others are read again when they are needed.
	maxKeptTemplate = 64 << 10
	// maxLarge bounds the large templates that are in use at the same time, in bytes.
	maxLarge = 32 << 20
)

// templates are those of PooledJobs that wait for their Job, as bytes of JSON.
type templates struct {
	large *semaphore.Weighted

	mu    sync.Mutex
	sizes map[types.UID]int // of the whole PooledJobs
	raw   map[types.UID][]byte
	size  int // of all in raw
}

func newTemplates() *templates {
	return &templates{large: semaphore.NewWeighted(maxLarge), sizes: map[types.UID]int{}, raw: map[types.UID][]byte{}}
}

// keep keeps a template, and the size of its PooledJob, until forget. When there is no room all
// templates are dropped: those that are needed are read again.
func (t *templates) keep(uid types.UID, template []byte, size int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLocked(uid)
	t.sizes[uid] = size
	if len(template) > maxKeptTemplate {
		return
	}
	if t.size+len(template) > maxKept {
		t.raw, t.size = map[types.UID][]byte{}, 0
	}
	t.raw[uid] = template
	t.size += len(template)
}

// reset drops everything, because all PooledJobs are listed anew: those that are gone by then are
// not told of.
func (t *templates) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sizes, t.raw, t.size = map[types.UID]int{}, map[types.UID][]byte{}, 0
}

func (t *templates) bytes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.size
}

// forget drops the template of a PooledJob.
func (t *templates) forget(uid types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLocked(uid)
}

func (t *templates) forgetLocked(uid types.UID) {
	t.size -= len(t.raw[uid])
	delete(t.raw, uid)
	delete(t.sizes, uid)
}

func (t *templates) kept(uid types.UID) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.raw[uid]
}

// sizeOf is the size of a PooledJob; 0 if it is not known.
func (t *templates) sizeOf(uid types.UID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sizes[uid]
}

// hold makes room for the use of a large template; ok is false when too many are in use. Small
// ones have room always: as many are in use as requests are under way.
func (t *templates) hold(size int) (release func(), ok bool) {
	if size <= maxKeptTemplate {
		return func() {}, true
	}
	weight := int64(min(size, maxLarge))
	if !t.large.TryAcquire(weight) {
		return nil, false
	}
	return sync.OnceFunc(func() { t.large.Release(weight) }), true
}
