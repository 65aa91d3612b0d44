package connpool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Pool holds the connections of one process. Its methods may be called from any
// goroutine.
type Pool struct {
	ctx     context.Context
	options Options
	running sync.WaitGroup

	mu      sync.Mutex
	members map[string]*member // by name
	entries map[string]*entry  // by the hash of the identity
	dirty   map[*member]struct{}
}

// New returns an empty pool whose connections live until ctx is done.
func New(ctx context.Context, options Options) *Pool {
	return &Pool{
		ctx: ctx, options: options.WithDefaults(),
		members: map[string]*member{}, entries: map[string]*entry{}, dirty: map[*member]struct{}{},
	}
}

// Connect makes the connection of that name use config, and returns at once.
//
// A connection that uses this identity already goes on undisturbed, with the other
// settings. Any other goes on with the identity that it has until the new one is Ready;
// Status.Next tells of it.
func (p *Pool) Connect(name string, config Config) {
	p.update(func() {
		if p.ctx.Err() != nil {
			return
		}
		hash := config.hash()
		m := p.members[name]
		if m == nil {
			m = &member{name: name, expects: config.ClusterUID, told: news{state: Connecting, hash: hash}}
			p.members[name] = m
			m.current = p.acquire(m, hash, config)
			p.dirty[m] = struct{}{}
			return
		}
		p.dirty[m] = struct{}{}
		if config.ClusterUID != "" {
			m.expects = config.ClusterUID
		}
		switch {
		case m.current.entry.hash == hash:
			m.current.config = config
			p.dropNext(m)
			m.current.entry.apply()
		case m.next != nil && m.next.entry.hash == hash:
			m.next.config = config
			m.next.entry.apply()
		default:
			p.dropNext(m)
			m.next = p.acquire(m, hash, config)
			m.next.entry.apply() // it is needed, now that it is the next
		}
	})
}

// Sleep closes the connection of that name until the next call of Lease, if it is
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
	p.update(func() {
		if m := p.members[name]; m != nil {
			delete(p.members, name)
			p.dropNext(m)
			p.release(m.current)
		}
	})
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
// that says why. One that is Idle is opened, and OnState tells when it is Ready.
func (p *Pool) Lease(name, key string) (lease *Lease, err error) {
	p.update(func() {
		m := p.members[name]
		if m == nil {
			err = fmt.Errorf("connection %s: %w", name, ErrClosed)
			return
		}
		if m.idle {
			m.idle = false
			m.current.entry.apply()
			p.dirty[m] = struct{}{}
		}
		state, _ := m.current.state()
		if state != Ready {
			err = &NotReadyError{Connection: name, Status: m.status()}
			return
		}
		lease = newLease(m.current, key)
	})
	return lease, err
}

// update changes the pool under its lock. Of the members that became dirty, by it
// or before, it moves those whose next identity has proven itself, and it tells of
// those whose status changed.
func (p *Pool) update(change func()) {
	changed := map[string]Status{}
	p.mu.Lock()
	change()
	for m := range p.dirty {
		p.promote(m)
		status := m.status()
		if status.State == Ready && m.expects == "" {
			m.expects = status.ClusterUID
		}
		if current := newsOf(status); current != m.told {
			m.told = current
			changed[m.name] = status
		}
	}
	clear(p.dirty)
	p.mu.Unlock()
	for name, status := range changed {
		p.logStatus(name, status)
		p.options.OnState(name)
	}
}

// promote puts a member's next identity in use once it is Ready.
func (p *Pool) promote(m *member) {
	if m.next == nil {
		return
	}
	if state, _ := m.next.state(); state != Ready {
		return
	}
	before := m.current
	m.current, m.next = m.next, nil
	p.release(before)
	m.current.entry.apply()
}

func (p *Pool) logStatus(name string, status Status) {
	log := p.options.Log.WithValues("connection", name, "server", status.Server)
	switch {
	case status.State == Ready && status.Next != nil && status.Next.Err != nil:
		log.Info("Connected, but not with the newest credentials", "state", status.Next.State, "reason", status.Next.Err.Error())
	case status.State == Ready:
		log.Info("Connected", "version", status.KubernetesVersion, "clusterUID", status.ClusterUID)
	case status.Err == nil:
		log.Info("Not connected", "state", status.State)
	default:
		log.Info("Not connected", "state", status.State, "reason", status.Err.Error())
	}
}

// acquire takes a share in the entry of an identity, and makes it if it is the
// first. p.mu is held.
func (p *Pool) acquire(m *member, hash string, config Config) *hold {
	e := p.entries[hash]
	if e == nil {
		e = &entry{
			pool: p, identity: config.Identity, hash: hash, state: Connecting,
			wake: make(chan struct{}, 1), holds: map[*hold]struct{}{}, ended: map[State]int64{},
		}
		e.ctx, e.cancel = context.WithCancel(p.ctx)
		p.entries[hash] = e
		p.running.Go(e.run)
	}
	h := &hold{member: m, config: config, entry: e}
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
	if e.session != nil {
		e.session.retire()
	}
	e.cancel()
}

func (p *Pool) dropNext(m *member) {
	if h := m.next; h != nil {
		m.next = nil
		p.release(h)
	}
}

// What follows is called by the goroutines of entries, sessions and views.

// needed tells whether anybody needs a session of e.
func (p *Pool) needed(e *entry) (needed bool) {
	p.update(func() {
		if needed = e.needed(); !needed {
			e.state, e.err = Idle, nil
			e.touch()
		}
	})
	return needed
}

// opened gives e a session that is not in use yet.
func (p *Pool) opened(e *entry, s *session, pause context.CancelCauseFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.session, e.pause = s, pause
	e.apply()
}

// ready puts the session of e in use.
func (p *Pool) ready(e *entry, s *session) {
	p.update(func() {
		e.state, e.err, e.version, e.uid = Ready, nil, s.version, s.clusterUID
		e.touch()
	})
}

// lost records why e has no session. Attempts that fail as the last one did are no
// news, and other words for it are at most once in newsInterval: those of a network
// error vary with every attempt, and each change is written to the hub.
func (p *Pool) lost(e *entry, err error) {
	p.update(func() {
		state := stateAfter(err)
		e.session = nil
		e.ended[state]++
		if e.state == state && (text(e.err) == text(err) || (state == Unreachable && time.Since(e.saidAt) < newsInterval)) {
			return
		}
		e.state, e.err, e.saidAt = state, err, time.Now()
		if state == Idle || state == Connecting {
			e.err = nil
		}
		e.touch()
	})
}

// retire lets no further call of a session start, and ends its views.
func (p *Pool) retire(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.retire()
}

// viewChanged records what became of a view.
func (p *Pool) viewChanged(v *view, state State, err error, current *informers) {
	p.update(func() {
		v.state, v.err, v.current = state, redact(err, v.session.entry.identity.Token), current
		v.session.entry.touch()
	})
}

// viewsOf are the views that a session has now.
func (p *Pool) viewsOf(s *session) []*view {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(s.views))
}

// judgeViews looks whether the views of a session are up to date.
func (p *Pool) judgeViews(s *session) {
	now := time.Now()
	p.update(func() {
		for _, v := range s.views {
			if v.current != nil {
				v.state, v.err = v.judge(now)
			}
		}
		s.entry.touch()
	})
}

// begin lets a call of a session start, or says why it must not. A call that
// started must end.
func (p *Pool) begin(s *session, key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case s.retired || s.ctx.Err() != nil:
		return ErrClosed
	case !s.entry.gate.enter(key):
		p.tickLater(s.entry)
		return ErrBusy
	}
	s.calls++
	return nil
}

// end notes the end of a call, and tells whom it made room for.
func (p *Pool) end(s *session) {
	p.mu.Lock()
	s.calls--
	s.drain()
	g := &s.entry.gate
	g.leave()
	var keys []string
	if g.limiter == nil {
		keys = g.take()
	}
	p.mu.Unlock()
	p.tell(keys)
}

// tickLater looks at the list of an entry again when there is room by the passing of
// time. p.mu is held.
func (p *Pool) tickLater(e *entry) {
	if wait := e.gate.tick(); wait > 0 {
		time.AfterFunc(wait, func() { p.tick(e) })
	}
}

func (p *Pool) tick(e *entry) {
	p.mu.Lock()
	e.gate.ticking = false
	keys := e.gate.take()
	if e.ctx.Err() == nil {
		p.tickLater(e)
	}
	p.mu.Unlock()
	p.tell(keys)
}

func (p *Pool) tell(keys []string) {
	for _, key := range keys {
		p.options.OnChange(key)
	}
}
