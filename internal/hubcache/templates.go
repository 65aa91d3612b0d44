package hubcache

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// maxKept bounds the templates that are kept, in bytes: those of 5,000 runs that wait, of
	// three KiB each.
	maxKept = 16 << 20
	// maxKeptTemplate bounds one that is kept. The others are read again when they are needed.
	maxKeptTemplate = 64 << 10
	// maxLarge bounds the large templates that are in use at the same time, in bytes, and
	// maxLargeOfNamespace those of one namespace: a target that does not answer keeps them in use.
	// The last largeReserve bytes are for namespaces that use none. A Job that is made of a
	// template takes as much again.
	maxLarge            = 16 << 20
	maxLargeOfNamespace = 4 << 20
	largeReserve        = 4 << 20
)

// templates are those of PooledJobs that wait for their Job, as bytes of JSON.
type templates struct {
	mu      sync.Mutex
	sizes   map[types.UID]int // of the whole PooledJobs
	raw     map[types.UID][]byte
	size    int            // of all in raw
	large   int            // bytes of large ones in use
	largeOf map[string]int // the same by namespace
}

func newTemplates() *templates {
	return &templates{sizes: map[types.UID]int{}, raw: map[types.UID][]byte{}, largeOf: map[string]int{}}
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

// reset drops everything, because all PooledJobs are listed anew: no event reports those that are gone
// by then.
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

// sizeOf returns the size of a PooledJob; 0 if it is not known.
func (t *templates) sizeOf(uid types.UID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sizes[uid]
}

// reserve makes room for the use of a large template of a namespace; ok is false when too many are in
// use. Small ones have room always: as many are in use as requests are under way.
func (t *templates) reserve(namespace string, size int) (release func(), ok bool) {
	if size <= maxKeptTemplate {
		return func() {}, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.hasRoomLocked(namespace, size) {
		return nil, false
	}
	t.largeLocked(namespace, size)
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.largeLocked(namespace, -size)
	}), true
}

func (t *templates) hasRoomLocked(namespace string, size int) bool {
	used := t.largeOf[namespace]
	if used == 0 { // whatever its size: else it would never be used
		return t.large+size <= maxLarge
	}
	return used+size <= maxLargeOfNamespace && t.large+size <= maxLarge-largeReserve
}

func (t *templates) largeLocked(namespace string, size int) {
	t.large += size
	t.largeOf[namespace] += size
	if t.largeOf[namespace] == 0 {
		delete(t.largeOf, namespace)
	}
}
