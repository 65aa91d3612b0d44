package connpool

// This file is how a member comes from one credential to the next: it holds both until the next has proven
// itself, and then they are swapped.

// promote puts a member's next identity in use once it is better than the current.
func (p *Pool) promote(m *member) {
	if m.next == nil || !m.isBetter() {
		return
	}
	before := m.current
	m.current, m.next = m.next, nil
	m.countReplaced(before)
	p.release(before)
	m.current.entry.apply()
}

// isBetter reports whether the next identity of a member can take the place of the
// current: its target is Ready, and of the namespaces that can be seen with the
// current none is lost.
func (m *member) isBetter() bool {
	if state, _ := m.next.targetState(); state != Ready {
		return false
	}
	if state, _ := m.next.state(); state == Ready {
		return true
	}
	used, _ := m.current.targetState()
	if used == Idle {
		return false
	}
	sees := m.current.views()
	ready := 0
	for _, scope := range m.next.config.scopes() {
		switch state, _ := m.next.viewState(scope); {
		case state == Ready:
			ready++
		case state == Connecting || (used == Ready && sees[scope] != nil):
			return false
		}
	}
	return ready > 0
}

func (p *Pool) dropNext(m *member) {
	if h := m.next; h != nil {
		m.next = nil
		p.release(h)
	}
}
