package connpool

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/pooledjob/pooledjob/internal/connpool/transport"
)

// This file has the changes that the goroutines of entries, sessions and views make to the pool, and
// the notifications about them.

// toldOf is what OnState is to be called with for one member.
type toldOf struct {
	status    Status
	onlyWords bool
}

// update changes the pool under its lock. Of the members that became dirty, by it
// or before, it swaps the identity of those whose next one has proven itself, and calls OnState for
// those whose status changed.
func (p *Pool) update(change func()) {
	changed := map[string]toldOf{}
	p.mu.Lock()
	change()
	for m := range p.dirty {
		p.promote(m)
		status := m.status()
		if status.State == Ready && m.current.expects == "" {
			m.current.expects = status.ClusterUID
		}
		if current := newsOf(status); current != m.told {
			changed[m.name] = toldOf{status, current.onlyWords(m.told)}
			m.told = current
		}
	}
	clear(p.dirty)
	p.mu.Unlock()
	for name, told := range changed {
		p.options.OnState(name, told.onlyWords)
		p.logStatus(name, told.status)
	}
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

// needed reports whether anybody needs a session of e.
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
		e.used = true
		e.touch()
	})
}

// welcome returns nil if anybody who holds e expects that cluster, or any, else an identityError.
func (p *Pool) welcome(e *entry, uid string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var unwelcome error
	for h := range e.holds {
		want := h.expects
		if want == "" || want == uid {
			return nil
		}
		unwelcome = &identityError{want: want, got: uid}
	}
	return unwelcome
}

// lost ends the use of e's session, and records why it has none. Attempts that fail
// as the last one did are no news, and other words for it are at most once in
// newsInterval: those of a network error vary with every attempt, and each change is
// written to the hub.
func (p *Pool) lost(e *entry, err error) {
	p.update(func() {
		state := stateAfter(err)
		if e.session != nil {
			e.session.retire()
			e.session = nil
		}
		var other *identityError
		if errors.As(err, &other) {
			e.uid = other.got
		}
		e.ended[state]++
		if e.state == state && (isSame(e.err, err) || (state == Unreachable && time.Since(e.saidAt) < newsInterval)) {
			return
		}
		e.state, e.err, e.saidAt = state, err, time.Now()
		if state == Idle && e.needed() {
			e.state = Connecting // somebody came meanwhile
		}
		if e.state == Idle || e.state == Connecting {
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
		if err = transport.Redact(err, v.session.entry.identity.Token); v.state != state || !isSame(v.err, err) {
			v.state, v.err = state, err
		}
		v.current = current
		v.session.entry.touch()
	})
}

// scopesOf returns the namespaces that those who hold e want to watch.
func (p *Pool) scopesOf(e *entry) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(e.scopes()))
}

// viewsOf returns the views that a session has now.
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
	for _, current := range p.currentViews(s.entry) {
		current.store.Age()
	}
}

// currentViews returns those of an entry's session that are up to date, or were.
func (p *Pool) currentViews(e *entry) (current []*informers) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.session == nil {
		return nil
	}
	for _, v := range e.session.views {
		if v.current != nil {
			current = append(current, v.current)
		}
	}
	return current
}
