package connpool

import (
	"context"
	"fmt"
	"sync"
)

// Pool holds the connections of one process. Its methods may be called from any
// goroutine.
type Pool struct {
	ctx     context.Context
	options Options

	mu          sync.Mutex
	connections map[string]*connection
	running     sync.WaitGroup
}

// New returns an empty pool whose connections live until ctx is done.
func New(ctx context.Context, options Options) *Pool {
	return &Pool{ctx: ctx, options: options.withDefaults(), connections: map[string]*connection{}}
}

// Connect makes the connection of that name use config, and returns at once. A
// connection that has the same identity already goes on undisturbed; any other is
// closed and replaced.
func (p *Pool) Connect(name string, config Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return
	}
	current, ok := p.connections[name]
	if ok && current.config.sameIdentity(config) {
		current.expect(config.ClusterUID)
		return
	}
	if ok {
		current.cancel()
	}
	next := newConnection(p.ctx, name, config, p.options)
	p.connections[name] = next
	p.running.Go(next.run)
}

// Disconnect closes the connection of that name, if there is one.
func (p *Pool) Disconnect(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.connections[name]; ok {
		c.cancel()
		delete(p.connections, name)
	}
}

// Wait blocks until every connection has ended: after the pool's context is done.
func (p *Pool) Wait() {
	// A Connect that is under way has started its connection, or will start none.
	p.mu.Lock()
	p.mu.Unlock() //nolint:staticcheck,gocritic // waiting for the lock is all that is wanted
	p.running.Wait()
}

// Status tells what is known of a connection; ok is false when there is none of
// that name.
func (p *Pool) Status(name string) (status Status, ok bool) {
	c := p.connection(name)
	if c == nil {
		return Status{}, false
	}
	status, _ = c.snapshot()
	return status, true
}

// Lease lends the client and the informers of a connection. It never waits: when
// the connection is not Ready the error is a *NotReadyError that says why.
func (p *Pool) Lease(name string) (*Lease, error) {
	c := p.connection(name)
	if c == nil {
		return nil, fmt.Errorf("connection %s: %w", name, ErrClosed)
	}
	status, current := c.snapshot()
	if current == nil {
		return nil, &NotReadyError{Connection: name, Status: status}
	}
	return &Lease{session: current}, nil
}

func (p *Pool) connection(name string) *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connections[name]
}
