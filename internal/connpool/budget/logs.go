package budget

import (
	"runtime"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const forLogs, bytesOfLogs = "what the Pods take of runs whose logs are read", "bytes"

// NewPoolForLogs returns the budget of all Pods of those who read logs.
func NewPoolForLogs(most int64) *Pool {
	return &Pool{most: most, what: forLogs, unit: bytesOfLogs, parts: map[*Budget]struct{}{}, interval: partsInterval}
}

// NewForLogs returns that of one connection.
func NewForLogs(most int64, pool *Pool) *Budget {
	b := &Budget{most: most, runs: func() int64 { return 0 }, what: forLogs, unit: bytesOfLogs, pool: pool}
	pool.join(b)
	return b
}

// maxAdmitted is how much memory the Pods of one run may take even if the budget of its connection is
// exceeded, in bytes: some 20 Pods.
const maxAdmitted = 64 << 10

// Take counts a Pod for as long as anybody has it: the garbage collector says when that ends. together is
// what the run's Pods take.
func (b *Budget) Take(pod *corev1.Pod, size, together int) error {
	b.Add(int64(size))
	runtime.AddCleanup(pod, func(size int64) { b.Add(-size) }, int64(size))
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
// cleanupTime is how long the garbage collector is given to run the finalizers.
const (
	collectPause = time.Second
	cleanupTime  = 20 * time.Millisecond
)

var collecting struct {
	sync.Mutex
	last time.Time
}

// collect runs the garbage collector, so that what is not held any more is given back, unless it ran just now.
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
