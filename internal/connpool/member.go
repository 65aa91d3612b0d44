package connpool

import "time"

// member is one connection by its name: the identity that it uses and, after a new
// one came, that until it has proven itself. Pool.mu guards it.
type member struct {
	name    string
	current *hold
	next    *hold // nil unless an identity is being proven
	idle    bool
	// expects is the UID of the cluster that must be found; "" is any.
	expects string
	told    news
}

// hold is one member's share in an entry.
type hold struct {
	member *member
	config Config
	entry  *entry
}

// news is what of a status is worth telling when it changes.
type news struct {
	state, nextState State
	err, nextErr     string
	hash             string
}

// needed tells whether the entry must be connected for this hold.
func (h *hold) needed() bool { return !h.member.idle || h.member.next == h }

// state is the state of a hold: that of the sessions, or what is wrong behind one
// that is well.
func (h *hold) state() (State, error) {
	e := h.entry
	switch {
	case e.state != Ready:
		return e.state, e.err
	case e.session.retired:
		return Connecting, nil
	}
	if want := h.member.expects; want != "" && want != e.uid {
		return IdentityChanged, &identityError{want: want, got: e.uid}
	}
	for _, scope := range h.config.scopes() {
		if v := e.session.views[scope]; v == nil || v.ctx.Err() != nil {
			return Connecting, nil
		} else if v.state != Ready {
			return v.state, v.err
		}
	}
	return Ready, nil
}

// views are the informers that show what the hold watches, as far as they run.
func (h *hold) views() map[string]*informers {
	views := map[string]*informers{}
	if h.entry.session == nil {
		return views
	}
	for _, scope := range h.config.scopes() {
		if v := h.entry.session.views[scope]; v != nil && v.current != nil {
			views[scope] = v.current
		}
	}
	return views
}

// status is what is known of a connection. While neither identity works it is the
// newer one's.
func (m *member) status() Status {
	used := m.current
	state, err := used.state()
	var next *Attempt
	if m.next != nil {
		nextState, nextErr := m.next.state()
		if state == Ready || state == Idle || nextState == Connecting {
			next = &Attempt{State: nextState, Err: nextErr, ClusterUID: m.next.entry.uid}
		} else {
			used, state, err = m.next, nextState, nextErr
		}
	}
	e := used.entry
	status := Status{
		State: state, Err: err, Next: next,
		IdentityHash: e.hash, Server: e.identity.Server, ExpiresAt: used.config.ExpiresAt,
		KubernetesVersion: e.version, ClusterUID: e.uid,
	}
	if at := e.lastContact.Load(); at != 0 {
		status.LastContact = time.Unix(0, at)
	}
	return status
}

func newsOf(s Status) news {
	n := news{state: s.State, err: text(s.Err), hash: s.IdentityHash}
	if s.Next != nil {
		n.nextState, n.nextErr = s.Next.State, text(s.Next.Err)
	}
	return n
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
