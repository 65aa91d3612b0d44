package budget

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pooledjob/pooledjob/internal/prune"
)

// Pool is what its parts may hold together, beside what their runs account for.
type Pool struct {
	most          int64
	what, unit    string
	held, pending atomic.Int64 // of all parts, with what their runs account for

	// interval is the shortest time between two looks at all parts.
	interval time.Duration

	mu       sync.Mutex
	parts    map[*Budget]struct{}
	lookedAt time.Time
	first    *Budget // the one that held the most then, if all held too much
}

// partsInterval is how often all connections are looked at.
const partsInterval = 50 * time.Millisecond

// NewPool returns the budget of all connections together: four times maxMemory bytes, beside what their
// runs account for.
func NewPool(maxMemory int) *Pool {
	return &Pool{
		most: poolFactor * int64(maxMemory), parts: map[*Budget]struct{}{}, interval: partsInterval,
		what: "what the Jobs and Pods of all connections take, of which this one has the most,",
		unit: fmt.Sprintf("bytes (%d times --target-max-memory-bytes, beside 4 KiB for each PooledJob)", poolFactor),
	}
}

// Held returns how many bytes all parts hold.
func (p *Pool) Held() int64 { return p.held.Load() }

func (p *Pool) join(b *Budget) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parts[b] = struct{}{}
}

// leave is called for a part that takes no new objects.
func (p *Pool) leave(b *Budget) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.parts, b)
}

// check is the error of a part that is to give up what it holds: the parts hold too much together, and
// it the most beside what its runs account for. If that is another part, that one is evicted: it may
// be one that never asks.
func (p *Pool) check(b *Budget) error {
	if !exceeds(p.held.Load(), p.pending.Load(), p.most) && !b.evicted.Load() {
		return nil
	}
	err := &prune.LimitError{What: p.what, Limit: p.most, Unit: p.unit}
	first, _ := p.largest()
	if first == b || b.evicted.Load() {
		return err
	}
	if first != nil {
		first.evict(err)
	}
	return nil
}

// checkPart is check where nobody can be evicted: whoever has more than an equal part is refused.
func (p *Pool) checkPart(b *Budget) error {
	if !exceeds(p.held.Load(), p.pending.Load(), p.most) {
		return nil
	}
	if first, parts := p.largest(); first == nil || b.held.Load() <= p.most/int64(max(parts, 1)) {
		return nil
	}
	return &prune.LimitError{What: p.what, Limit: p.most, Unit: p.unit}
}

// largest returns the part that holds the most beside what its runs account for, if the parts hold too much
// together, else nil, and how many parts there are. What is evicted will soon be given back, and does
// not count.
func (p *Pool) largest() (first *Budget, parts int) {
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
