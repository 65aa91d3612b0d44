package connpool

// runRecords are the records of one run.
type runRecords struct {
	first [kinds]*record
	count int
}

// link adds a record to its run. s.mu is held.
func (s *store) link(k kind, r *record) {
	if r.key == "" {
		return
	}
	run := s.runs[r.key]
	for _, first := range run.first {
		if first != nil {
			r.key = first.key // one string for all
		}
	}
	r.next = run.first[k]
	if r.next != nil {
		r.next.previous = r
	}
	run.first[k] = r
	run.count++
	s.runs[r.key] = run
}

// sizeOf is how many objects of a run there are, with those that are remembered.
func (s *store) sizeOf(key string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.runs[key].count + len(s.gone[key])
}

// unlink takes a record out of its run. s.mu is held.
func (s *store) unlink(k kind, r *record) {
	if r.key == "" {
		return
	}
	run := s.runs[r.key]
	if r.previous != nil {
		r.previous.next = r.next
	} else {
		run.first[k] = r.next
	}
	if r.next != nil {
		r.next.previous = r.previous
	}
	r.next, r.previous = nil, nil
	run.count--
	if run.count == 0 {
		delete(s.runs, r.key)
		return
	}
	s.runs[r.key] = run
}
