package connpool

import "time"

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

// end notes the end of a call, and notifies those for whom there is room now.
func (p *Pool) end(s *session) {
	p.mu.Lock()
	s.calls--
	s.drain()
	g := &s.entry.gate
	g.leave()
	var keys []string
	if g.limiter == nil {
		keys = g.dequeue()
	} else {
		p.tickLater(s.entry)
	}
	p.mu.Unlock()
	p.notify(keys)
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
	keys := e.gate.dequeue()
	if e.ctx.Err() == nil {
		p.tickLater(e)
	}
	p.mu.Unlock()
	p.notify(keys)
}

func (p *Pool) notify(keys []string) {
	for _, key := range keys {
		p.options.OnChange(key)
	}
}
