package connpool

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/internal/prune"
)

// memoryPerRun is what the Jobs and Pods of each run may take beside Options.MaxMemory, in bytes:
// a Job with five Pods that have ended.
const memoryPerRun = 4 << 10

// allShare is how many times Options.MaxMemory all connections together may hold beside what their
// runs account for.
const allShare = 4

// budget is what some objects may take in memory together.
type budget struct {
	most int64        // beside what the runs account for
	runs func() int64 // how many there are
	what string       // the objects are for
	unit string       // of most
	// all is the budget of which this is one of several parts; nil if it is of none.
	all   *budget
	parts atomic.Int64
	// held is what the objects take; of it pending is what lists have brought that are still coming.
	held, pending atomic.Int64
	// goneJobs and gonePods are what those take that went, also of held.
	goneJobs, gonePods atomic.Int64
}

func noRuns() int64 { return 0 }

// newPoolBudget is that of all connections of a pool.
func newPoolBudget(o Options) *budget {
	return &budget{
		most: allShare * int64(o.WithDefaults().MaxMemory), runs: func() int64 { return o.runsOf("") },
		what: "the manager's memory for the Jobs and Pods of all connections, of which this one has more than its part,",
		unit: fmt.Sprintf("bytes (%d times --target-max-memory-bytes, and 4 KiB for each PooledJob)", allShare),
	}
}

// newBudget is that of a connection, for all its views together. It is part of all until it is left.
func newBudget(o Options, all *budget) *budget {
	if all != nil {
		all.parts.Add(1)
	}
	return &budget{
		most: int64(o.WithDefaults().MaxMemory), runs: noRuns, all: all,
		what: "the manager's memory for the Jobs and Pods of this connection",
		unit: "bytes (--target-max-memory-bytes, and 4 KiB for each PooledJob of the connection)",
	}
}

// leave is called when no new object will come.
func (b *budget) leave() {
	if b.all != nil {
		b.all.parts.Add(-1)
	}
}

// accounted is what the runs account for.
func (b *budget) accounted() int64 { return memoryPerRun * b.runs() }

// limit is the most that may be held.
func (b *budget) limit() int64 { return b.most + b.accounted() }

// add counts bytes that are held from now on, or not any more.
func (b *budget) add(size int64) {
	b.held.Add(size)
	if b.all != nil {
		b.all.held.Add(size)
	}
}

// addPending counts bytes of a list that is still coming.
func (b *budget) addPending(size int64) {
	b.add(size)
	b.pending.Add(size)
	if b.all != nil {
		b.all.pending.Add(size)
	}
}

// check is the error of a budget that is exceeded; also when all is, and this part has more than its
// share beside what its runs account for.
func (b *budget) check() error {
	if err := b.checkOwn(); err != nil || b.all == nil {
		return err
	}
	if b.held.Load()-b.accounted() <= b.all.most/max(b.all.parts.Load(), 1) {
		return nil
	}
	return b.all.checkOwn()
}

// checkOwn is the error of a budget that is exceeded. Lists that bring everything anew may take
// half as much again until they are there.
func (b *budget) checkOwn() error {
	held, limit := b.held.Load(), b.limit()
	if held-b.pending.Load() <= limit && held <= limit+limit/2 {
		return nil
	}
	return &prune.LimitError{What: b.what, Limit: limit, Unit: b.unit}
}

const (
	// streamMemory is what all Pods may take that the users of Streams have read or watch, in bytes,
	// and lineMemory those of one connection.
	streamMemory = 128 << 20
	lineMemory   = 64 << 20
)

// newStreamBudget is one for the Pods of those who read logs.
func newStreamBudget(most int64) *budget {
	return &budget{
		most: most, runs: noRuns,
		what: "the memory for the Pods of runs whose logs are read", unit: "bytes",
	}
}

// budgets are those that an object counts in, all of them.
type budgets []*budget

// maxAdmitted is how much memory the Pods of one run may take even if the budgets are exceeded, in
// bytes: some 20 Pods.
const maxAdmitted = 64 << 10

// take counts a Pod for as long as anybody has it: the garbage collector says when that ends. The
// error is that of the first budget that is exceeded, if the run's Pods take more than maxAdmitted
// together.
func (all budgets) take(pod *corev1.Pod, size, together int) error {
	for _, b := range all {
		b.add(int64(size))
		runtime.AddCleanup(pod, func(size int64) { b.add(-size) }, int64(size))
	}
	if together <= maxAdmitted {
		return nil
	}
	for _, b := range all {
		if b.check() != nil {
			collect()
		}
		if err := b.check(); err != nil {
			return err
		}
	}
	return nil
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
