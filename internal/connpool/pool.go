package connpool

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/pooledjob/pooledjob/internal/connpool/budget"
	"github.com/pooledjob/pooledjob/internal/connpool/store"
	"github.com/pooledjob/pooledjob/internal/connpool/transport"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// Pool holds the connections of one process. Its methods may be called from any
// goroutine.
type Pool struct {
	ctx     context.Context
	options Options
	labels  *store.Labels              // that are kept of Jobs and Pods
	schemas [store.Kinds]*prune.Schema // of what is read of them
	budget  *budget.Pool               // of all connections
	running sync.WaitGroup

	mu      sync.Mutex
	members map[string]*member // by name
	entries map[string]*entry  // by the hash of the identity
	dirty   map[*member]struct{}
}

// What of answers that nobody reads is taken in, in bytes. Readers of a pool wait for nobody but their
// pace, so that what is there is being read. The defaults of net/http are 4 MiB and
// 1 GiB.
const (
	poolStreamBuffer     = 512 << 10
	poolConnectionBuffer = 2 << 20
)

// New returns an empty pool whose connections live until ctx is done.
func New(ctx context.Context, options Options) *Pool {
	options = options.WithDefaults()
	options.streamBuffer, options.connectionBuffer = poolStreamBuffer, poolConnectionBuffer
	labels := store.NewLabels(options.Selector, options.KeyLabel)
	return &Pool{
		ctx: transport.Unlogged(ctx), options: options, labels: labels, schemas: labels.Schemas(), budget: budget.NewPool(options.MaxMemory),
		members: map[string]*member{}, entries: map[string]*entry{}, dirty: map[*member]struct{}{},
	}
}

// Connect makes the connection of that name use config, and returns at once.
//
// A connection that uses this identity already goes on undisturbed, with the other
// settings. Any other goes on with the identity that it has until the new one is Ready;
// Status.Next shows it.
func (p *Pool) Connect(name string, config Config) {
	p.update(func() {
		if p.ctx.Err() != nil {
			return
		}
		hash := config.Hash()
		m := p.members[name]
		if m == nil {
			m = &member{name: name, told: news{state: Connecting, hash: hash, views: config.scopeNames()}}
			p.members[name] = m
			m.current = p.acquire(m, hash, config)
			p.dirty[m] = struct{}{}
			return
		}
		p.dirty[m] = struct{}{}
		switch {
		case m.current.entry.hash == hash:
			m.current.set(config)
			p.dropNext(m)
		case m.next != nil && m.next.entry.hash == hash:
			m.current.tune(config)
			m.next.set(config)
		case m.current.entry.used:
			p.dropNext(m)
			m.current.tune(config)
			m.next = p.acquire(m, hash, config)
			m.next.expects = cmp.Or(m.next.expects, m.current.expects)
			m.next.entry.apply() // it is needed, now that it is the next
		default: // there is nothing good to keep
			p.dropNext(m)
			before := m.current
			m.current = p.acquire(m, hash, config)
			m.current.expects = cmp.Or(m.current.expects, before.expects)
			m.reconnects = m.addReconnects(before)
			p.release(before)
		}
	})
}

// Keep has the connection of that name go on with the identity in use, whatever that
// in config is, and forget one that is still to prove itself.
func (p *Pool) Keep(name string, config Config) {
	p.update(func() {
		if m := p.members[name]; m != nil {
			p.dropNext(m)
			m.current.tune(config)
			p.dirty[m] = struct{}{}
		}
	})
}

// Wake ends Sleep.
func (p *Pool) Wake(name string) {
	p.update(func() { p.wake(p.members[name]) })
}

// wake has a member that sleeps connect again. p.mu is held.
func (p *Pool) wake(m *member) {
	if m == nil || !m.idle {
		return
	}
	m.idle = false
	m.current.entry.apply()
	p.dirty[m] = struct{}{}
}

// Sleep closes the connection of that name until the next call of Lease or Wake, if it is
// Ready. It stays open for others that share its identity.
func (p *Pool) Sleep(name string) {
	p.update(func() {
		if m := p.members[name]; m != nil && !m.idle && m.status().State == Ready {
			m.idle = true
			m.current.entry.apply()
		}
	})
}

// Disconnect closes the connection of that name, if there is one. Calls that are
// under way may end.
func (p *Pool) Disconnect(name string) {
	existed := false
	p.update(func() {
		if m := p.members[name]; m != nil {
			existed = true
			delete(p.members, name)
			p.dropNext(m)
			p.release(m.current)
		}
	})
	if existed {
		p.options.OnState(name, false)
	}
}

// Wait blocks until every connection has ended: after the pool's context is done.
func (p *Pool) Wait() {
	// A Connect that is under way has started its connection, or will start none.
	p.mu.Lock()
	p.mu.Unlock() //nolint:staticcheck,gocritic // waiting for the lock is all that is wanted
	p.running.Wait()
}

// Status returns what is known of a connection; ok is false when there is none of
// that name.
func (p *Pool) Status(name string) (status Status, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.members[name]
	if m == nil {
		return Status{}, false
	}
	return m.status(), true
}

// Lease lends the client and the informers of a connection to the run of that key.
// It never waits: when the connection is not Ready the error is a *NotReadyError
// that says why. While one of several namespaces is denied the others are lent, and
// it is the questions about the one that fail so. A connection that is Idle is opened,
// and OnState is called when it is Ready.
func (p *Pool) Lease(name, key string) (lease *Lease, err error) {
	p.update(func() {
		m := p.members[name]
		if m == nil {
			err = fmt.Errorf("connection %s: %w", name, ErrClosed)
			return
		}
		p.wake(m)
		if state, _ := m.current.targetState(); state == Ready {
			lease = newLease(m.current, key)
		}
		if lease == nil || len(lease.views) == 0 {
			lease, err = nil, &NotReadyError{Connection: name, Status: m.status()}
		}
	})
	return lease, err
}

// acquire takes a share in the entry of an identity, and makes it if it is the
// first. p.mu is held.
func (p *Pool) acquire(m *member, hash string, config Config) *hold {
	e := p.entries[hash]
	if e == nil {
		e = &entry{
			pool: p, identity: config.Identity, hash: hash, state: Connecting,
			wake: make(chan struct{}, 1), holds: map[*hold]struct{}{}, ended: map[State]int64{},
			longLists: semaphore.NewWeighted(maxLongLists), looks: newLooks(), pacing: transport.NewPacing(p.options.Pace),
		}
		e.budget = budget.New(p.options.MaxMemory, p.budget, e.countRuns)
		e.ctx, e.cancel = context.WithCancel(p.ctx)
		p.entries[hash] = e
		p.running.Go(e.run)
	} else if e.session == nil {
		e.signal() // whom others wait for patiently, a new one wants to know of now
	}
	h := &hold{member: m, config: config, entry: e, expects: config.ClusterUID, before: e.reconnects()}
	e.holds[h] = struct{}{}
	e.apply()
	return h
}

// release gives a share back; the last one closes the entry. p.mu is held.
func (p *Pool) release(h *hold) {
	e := h.entry
	delete(e.holds, h)
	if len(e.holds) > 0 {
		e.apply()
		return
	}
	delete(p.entries, e.hash)
	e.budget.Leave()
	if e.session != nil {
		e.session.retire()
	}
	e.cancel()
}
