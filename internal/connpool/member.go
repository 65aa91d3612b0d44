package connpool

import (
	"strings"
	"time"
)

// member is one connection by its name: the identity that it uses and, after a new
// one came, that until it has proven itself. Pool.mu guards it.
type member struct {
	name    string
	current *hold
	next    *hold // nil unless an identity is being proven
	idle    bool
	told    news
	// reconnects are those under the identities that it used before.
	reconnects map[string]int64
}

// hold is the use that one member makes of an entry.
type hold struct {
	member *member
	config Config
	entry  *entry
	// expects is the UID of the cluster that must be found; "" is any.
	expects string
	// before are the reconnects that the entry had when the hold began.
	before map[string]int64
}

// isGood reports whether a hold in that state serves at least some namespaces, or served them before and
// will again in a moment. Pool.mu is held.
func (h *hold) isGood(state State) bool {
	target, _ := h.targetState()
	return state == Idle || (state == Connecting && h.entry.used) || (target == Ready && len(h.views()) > 0)
}

// tune changes the settings of a hold that are not its identity's. Pool.mu is held.
func (h *hold) tune(config Config) {
	h.config.Namespaces, h.config.MaxInFlight, h.config.QPS = config.Namespaces, config.MaxInFlight, config.QPS
	h.entry.apply()
}

// set changes what the hold asks for, but for its identity. Pool.mu is held.
func (h *hold) set(config Config) {
	h.config = config
	if uid := config.ClusterUID; uid != "" && uid != h.expects {
		h.expects = uid
		h.entry.signal() // it may be the one that answers
	}
	h.entry.apply()
}

// news is the part of a status whose change is worth a call of OnState.
type news struct {
	state, nextState State
	err, nextErr     string
	hash             string
	views            string
}

// onlyWords reports whether only the text of errors changed, and no state.
func (n news) onlyWords(before news) bool {
	before.err, before.nextErr = n.err, n.nextErr
	return n == before
}

// needed reports whether the entry must be connected for this hold.
func (h *hold) needed() bool { return !h.member.idle || h.member.next == h }

// state returns the state of a hold: that of the target, or of the first view that is not
// Ready.
func (h *hold) state() (State, error) {
	if state, err := h.targetState(); state != Ready {
		return state, err
	}
	for _, scope := range h.config.scopes() {
		if state, err := h.viewState(scope); state != Ready {
			return state, err
		}
	}
	return Ready, nil
}

// viewState returns the state of one of the views of a target that is Ready.
func (h *hold) viewState(scope string) (State, error) {
	v := h.entry.session.views[scope]
	if v == nil || v.ctx.Err() != nil {
		return Connecting, nil
	}
	return v.state, v.err
}

// viewStates returns what the hold watches and, while its target is Ready, the state of
// each view: runs in one namespace care for nothing else.
func (h *hold) viewStates() string {
	if state, _ := h.targetState(); state != Ready {
		return h.config.scopeNames()
	}
	var states []string
	for _, scope := range h.config.scopes() {
		state, _ := h.viewState(scope)
		states = append(states, scope+"="+string(state))
	}
	return strings.Join(states, ",")
}

// targetState returns the state of the sessions, and of the cluster behind them.
func (h *hold) targetState() (State, error) {
	e := h.entry
	switch {
	case e.state == IdentityChanged && (h.expects == "" || h.expects == e.uid):
		return Connecting, nil // it is another that is not welcome to those who share
	case e.state == IdentityChanged:
		return IdentityChanged, &identityError{want: h.expects, got: e.uid}
	case e.state != Ready:
		return e.state, e.err
	case e.session.retired:
		return Connecting, nil
	}
	if want := h.expects; want != "" && want != e.uid {
		return IdentityChanged, &identityError{want: want, got: e.uid}
	}
	return Ready, nil
}

// views returns the informers that show what the hold watches, as far as they run.
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

// status returns what is known of a connection. While neither identity is good it is the
// newer one's.
func (m *member) status() Status {
	used := m.current
	state, err := used.state()
	var next *Attempt
	if m.next != nil {
		nextState, nextErr := m.next.state()
		if used.isGood(state) || nextState == Connecting {
			next = &Attempt{State: nextState, Err: nextErr, ClusterUID: m.next.entry.uid}
		} else {
			used, state, err = m.next, nextState, nextErr
		}
	}
	e := used.entry
	status := Status{
		State: state, Err: err, Next: next,
		IdentityHash: e.hash, Server: e.identity.Server, ExpiresAt: used.config.ExpiresAt,
		KubernetesVersion: e.version, ClusterUID: e.uid, views: used.viewStates(),
	}
	if at := e.lastContact.Load(); at != 0 {
		status.LastContact = time.Unix(0, at)
	}
	return status
}

func newsOf(s Status) news {
	n := news{state: s.State, err: text(s.Err), hash: s.IdentityHash, views: s.views}
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
