package budget

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pooledjob/pooledjob/internal/prune"
)

// memoryPerRun is what the Jobs and Pods of each run may take beside the most of its connection, in bytes:
// a Job with five Pods that have ended.
const memoryPerRun = 4 << 10

// poolFactor is how many times the most of one all connections together may hold beside what their
// runs account for.
const poolFactor = 4

// Budget is what some objects may take in memory together.
type Budget struct {
	most    int64        // beside what the runs account for
	runs    func() int64 // how many there are
	what    string       // the objects are for
	unit    string       // of most
	pool    *Pool        // of which this is a part
	evicted atomic.Bool  // until all that held objects has let go; what comes before is refused
	// held is what the objects take; of it pending is what lists have brought that are still coming.
	held, pending atomic.Int64
	// GoneJobs and GonePods are how many bytes of held those Jobs and Pods take that went, in all stores
	// of the connection together; Stores is how many stores there are.
	GoneJobs, GonePods, Stores atomic.Int64

	mu      sync.Mutex
	holders map[any]func(why error) // give up what they hold
}

// New returns the budget of a connection, for all its views together: maxMemory bytes, and 4 KiB for each
// of its runs.
func New(maxMemory int, pool *Pool, runs func() int64) *Budget {
	b := &Budget{
		most: int64(maxMemory), runs: runs, pool: pool, holders: map[any]func(error){},
		what: "what the Jobs and Pods of this connection take",
		unit: "bytes (--target-max-memory-bytes, and 4 KiB for each PooledJob of the connection)",
	}
	pool.join(b)
	return b
}

// accounted returns what the runs account for.
func (b *Budget) accounted() int64 { return memoryPerRun * b.runs() }

// Limit returns the most that may be held.
func (b *Budget) Limit() int64 { return b.most + b.accounted() }

// Held returns how many bytes are held.
func (b *Budget) Held() int64 { return b.held.Load() }

// Leave is called when nothing more will be held.
func (b *Budget) Leave() { b.pool.leave(b) }

// Add counts bytes that are held from now on, or not any more.
func (b *Budget) Add(size int64) {
	b.held.Add(size)
	b.pool.held.Add(size)
}

// addPending counts bytes of a list that is still coming.
func (b *Budget) addPending(size int64) {
	b.Add(size)
	b.pending.Add(size)
	b.pool.pending.Add(size)
}

// Hold is called by who will hold objects until Release. giveUp is called, for that reason, when the parts
// of the pool hold too much together, and this one the most.
func (b *Budget) Hold(holder any, giveUp func(why error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holders[holder] = giveUp
}

// Release is called by who holds nothing any more.
func (b *Budget) Release(holder any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.holders, holder)
	if len(b.holders) == 0 {
		b.evicted.Store(false)
	}
}

// evict has all who hold objects give them up.
func (b *Budget) evict(why error) {
	b.mu.Lock()
	var all []func(error)
	if len(b.holders) > 0 && b.evicted.CompareAndSwap(false, true) {
		all = slices.Collect(maps.Values(b.holders))
	}
	b.mu.Unlock()
	for _, giveUp := range all {
		giveUp(why)
	}
}

// Check is the error of a budget that is exceeded, or that is to give up what it holds because its
// pool is.
func (b *Budget) Check() error {
	if err := b.checkOwn(); err != nil {
		return err
	}
	return b.pool.check(b)
}

func (b *Budget) checkOwn() error {
	if limit := b.Limit(); exceeds(b.held.Load(), b.pending.Load(), limit) {
		return &prune.LimitError{What: b.what, Limit: limit, Unit: b.unit}
	}
	return nil
}

// exceeds reports whether too much is held. Lists that bring everything anew may take half as much
// again until they are there.
func exceeds(held, pending, limit int64) bool {
	return held-pending > limit || held > limit+limit/2
}
