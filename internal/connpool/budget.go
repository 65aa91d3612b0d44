package connpool

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/internal/prune"
)

// memoryPerRun is what the Jobs and Pods of each run may take beside Options.MaxMemory, in bytes:
// a Job with five Pods that have ended.
const memoryPerRun = 4 << 10

// poolFactor is how many times Options.MaxMemory all connections together may hold beside what their
// runs account for.
const poolFactor = 4

// budget is what some objects may take in memory together.
type budget struct {
	most    int64        // beside what the runs account for
	runs    func() int64 // how many there are
	what    string       // the objects are for
	unit    string       // of most
	pool    *poolBudget  // of which this is a part
	evicted atomic.Bool  // until all that held objects has let go; what comes before is refused
	// held is what the objects take; of it pending is what lists have brought that are still coming.
	held, pending atomic.Int64
	// goneJobs and gonePods are what those take that went, also of held, in so many stores.
	goneJobs, gonePods, stores atomic.Int64

	mu      sync.Mutex
	holders map[any]func(why error) // give up what they hold
}

// newBudget is that of a connection, for all its views together.
func newBudget(o Options, pool *poolBudget, runs func() int64) *budget {
	b := &budget{
		most: int64(o.WithDefaults().MaxMemory), runs: runs, pool: pool, holders: map[any]func(error){},
		what: "what the Jobs and Pods of this connection take",
		unit: "bytes (--target-max-memory-bytes, and 4 KiB for each PooledJob of the connection)",
	}
	pool.join(b)
	return b
}

// accounted is what the runs account for.
func (b *budget) accounted() int64 { return memoryPerRun * b.runs() }

// limit is the most that may be held.
func (b *budget) limit() int64 { return b.most + b.accounted() }

// add counts bytes that are held from now on, or not any more.
func (b *budget) add(size int64) {
	b.held.Add(size)
	b.pool.held.Add(size)
}

// addPending counts bytes of a list that is still coming.
func (b *budget) addPending(size int64) {
	b.add(size)
	b.pending.Add(size)
	b.pool.pending.Add(size)
}

// hold is called by who will hold objects until letGo. giveUp is called, for that reason, when the parts
// of the pool hold too much together, and this one the most.
func (b *budget) hold(holder any, giveUp func(why error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holders[holder] = giveUp
}

func (b *budget) letGo(holder any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.holders, holder)
	if len(b.holders) == 0 {
		b.evicted.Store(false)
	}
}

// evict has all who hold objects give them up.
func (b *budget) evict(why error) {
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

// check is the error of a budget that is exceeded, or that is to give up what it holds because its
// pool is.
func (b *budget) check() error {
	if err := b.checkOwn(); err != nil {
		return err
	}
	return b.pool.check(b)
}

func (b *budget) checkOwn() error {
	if limit := b.limit(); exceeds(b.held.Load(), b.pending.Load(), limit) {
		return &prune.LimitError{What: b.what, Limit: limit, Unit: b.unit}
	}
	return nil
}

// exceeds reports whether too much is held. Lists that bring everything anew may take half as much
// again until they are there.
func exceeds(held, pending, limit int64) bool {
	return held-pending > limit || held > limit+limit/2
}

// poolBudget is what its parts may hold together, beside what their runs account for.
type poolBudget struct {
	most          int64
	what, unit    string
	held, pending atomic.Int64 // of all parts, with what their runs account for

	// interval is the shortest time between two looks at all parts.
	interval time.Duration

	mu       sync.Mutex
	parts    map[*budget]struct{}
	lookedAt time.Time
	first    *budget // the one that held the most then, if all held too much
}

// partsInterval is how often all connections are looked at.
const partsInterval = 50 * time.Millisecond

// newPoolBudget is that of all connections of a pool.
func newPoolBudget(o Options) *poolBudget {
	return &poolBudget{
		most: poolFactor * int64(o.WithDefaults().MaxMemory), parts: map[*budget]struct{}{}, interval: partsInterval,
		what: "what the Jobs and Pods of all connections take, of which this one has the most,",
		unit: fmt.Sprintf("bytes (%d times --target-max-memory-bytes, beside 4 KiB for each PooledJob)", poolFactor),
	}
}

func (p *poolBudget) join(b *budget) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parts[b] = struct{}{}
}

// leave is called for a part that takes no new objects.
func (p *poolBudget) leave(b *budget) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.parts, b)
}

// check is the error of a part that is to give up what it holds: the parts hold too much together, and
// it the most beside what its runs account for. If that is another part, that one is evicted: it may
// be one that never asks.
func (p *poolBudget) check(b *budget) error {
	if !exceeds(p.held.Load(), p.pending.Load(), p.most) && !b.evicted.Load() {
		return nil
	}
	err := &prune.LimitError{What: p.what, Limit: p.most, Unit: p.unit}
	first, _ := p.look()
	if first == b || b.evicted.Load() {
		return err
	}
	if first != nil {
		first.evict(err)
	}
	return nil
}

// checkPart is check where nobody can be evicted: whoever has more than an equal part is refused.
func (p *poolBudget) checkPart(b *budget) error {
	if !exceeds(p.held.Load(), p.pending.Load(), p.most) {
		return nil
	}
	if first, parts := p.look(); first == nil || b.held.Load() <= p.most/int64(max(parts, 1)) {
		return nil
	}
	return &prune.LimitError{What: p.what, Limit: p.most, Unit: p.unit}
}

// look is the part that holds the most beside what its runs account for, if the parts hold too much
// together, else nil, and how many parts there are. What is evicted will soon be given back, and does
// not count.
func (p *poolBudget) look() (first *budget, parts int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.interval > 0 && time.Since(p.lookedAt) < p.interval && (p.first == nil || !p.first.evicted.Load()) {
		return p.first, len(p.parts)
	}
	p.lookedAt, p.first = time.Now(), nil
	var all, pending, most int64
	for b := range p.parts {
		excess := b.held.Load() - b.accounted()
		if excess <= 0 || b.evicted.Load() {
			continue
		}
		all, pending = all+excess, pending+min(b.pending.Load(), excess)
		if excess > most {
			p.first, most = b, excess
		}
	}
	if !exceeds(all, pending, p.most) {
		p.first = nil
	}
	return p.first, len(p.parts)
}

const (
	// streamMemory is what all Pods may take that the users of Streams have read or watch, in bytes,
	// and lineMemory those of one connection.
	streamMemory = 128 << 20
	lineMemory   = 64 << 20
)

const forLogs, bytesOfLogs = "what the Pods take of runs whose logs are read", "bytes"

// newStreamPool is the budget of all Pods of those who read logs.
func newStreamPool(most int64) *poolBudget {
	return &poolBudget{most: most, what: forLogs, unit: bytesOfLogs, parts: map[*budget]struct{}{}, interval: partsInterval}
}

// newStreamBudget is that of one connection.
func newStreamBudget(most int64, pool *poolBudget) *budget {
	b := &budget{most: most, runs: func() int64 { return 0 }, what: forLogs, unit: bytesOfLogs, pool: pool}
	pool.join(b)
	return b
}

// maxAdmitted is how much memory the Pods of one run may take even if the budget of its connection is
// exceeded, in bytes: some 20 Pods.
const maxAdmitted = 64 << 10

// take counts a Pod for as long as anybody has it: the garbage collector says when that ends. together is
// what the run's Pods take.
func (b *budget) take(pod *corev1.Pod, size, together int) error {
	b.add(int64(size))
	runtime.AddCleanup(pod, func(size int64) { b.add(-size) }, int64(size))
	if b.checkOwn() == nil && b.pool.checkPart(b) == nil {
		return nil
	}
	collect()
	if err := b.checkOwn(); err != nil && together > maxAdmitted {
		return err
	}
	return b.pool.checkPart(b)
}

// collectPause is how often garbage is collected at most to find out what is still held, and
// cleanupTime is how long the collector is given to tell.
const (
	collectPause = time.Second
	cleanupTime  = 20 * time.Millisecond
)

var collecting struct {
	sync.Mutex
	last time.Time
}

// collect has what is not held any more be told of, unless that was done just now.
func collect() {
	collecting.Lock()
	defer collecting.Unlock()
	if time.Since(collecting.last) < collectPause {
		return
	}
	runtime.GC()
	<-time.After(cleanupTime)
	collecting.last = time.Now()
}

// pendingList counts what a list has brought that is still coming. A reflector may still list when
// it has been told to end.
type pendingList struct {
	budget *budget

	mu     sync.Mutex
	size   int64
	closed bool
}

func (p *pendingList) add(size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.addLocked(int64(size))
	}
}

func (p *pendingList) addLocked(size int64) {
	p.size += size
	p.budget.addPending(size)
}

// clear is called when the list has come, or was given up.
func (p *pendingList) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addLocked(-p.size)
}

// close is clear, for good.
func (p *pendingList) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.addLocked(-p.size)
}
