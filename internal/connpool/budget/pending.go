package budget

import (
	"sync"
)

// Pending counts what a list has brought that has not come to its end. A reflector may still list
// after its context is done.
type Pending struct {
	budget *Budget

	mu     sync.Mutex
	size   int64
	closed bool
}

// NewPending counts what a list brings for a budget.
func NewPending(b *Budget) *Pending { return &Pending{budget: b} }

// Check is the error of the budget that the list counts in.
func (p *Pending) Check() error { return p.budget.Check() }

// Add counts bytes that have come.
func (p *Pending) Add(size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.addLocked(int64(size))
	}
}

func (p *Pending) addLocked(size int64) {
	p.size += size
	p.budget.addPending(size)
}

// Clear is called when the list has come, or was given up.
func (p *Pending) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addLocked(-p.size)
}

// Close is clear, for good.
func (p *Pending) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.addLocked(-p.size)
}
