package connpool

// runRecords are the records of one run.
type runRecords struct {
	first   [kinds]*record
	count   int
	objects int // bytes that they take when they are made of the records
}

// smallLook is what the objects of a run may take without being counted, in bytes: some 25 Pods. Whoever
// looks at a run has all of them made, and not many runs are looked at at a time.
const smallLook = 64 << 10

// look is what a look at the run counts, in bytes.
func (r *runRecords) look() int { return max(0, r.objects-smallLook) }

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
	s.resize(&run, r.objectSize())
	s.runs[r.key] = run
}

// resize counts that the objects of a run take more, or less. s.mu is held.
func (s *store) resize(run *runRecords, by int) {
	before := run.look()
	run.objects += by
	s.grow(run.look() - before)
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
	s.resize(&run, -r.objectSize())
	if run.count == 0 {
		delete(s.runs, r.key)
		return
	}
	s.runs[r.key] = run
}
