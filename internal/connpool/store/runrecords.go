package store

// runRecords are the records of one run.
type runRecords struct {
	first   [Kinds]*Record
	count   int
	objects int // bytes that they take when they are made of the records
}

// smallLook is what the objects of a run may take without being counted, in bytes: some 25 Pods. Whoever
// looks at a run has all of them made.
const smallLook = 64 << 10

// looks are the runs of a store by what a look at each takes, in steps of smallLook. The largest counts:
// not many are looked at at a time, and never one twice.
type looks struct {
	runs []int // how many runs take so many steps
	top  int
}

// size returns what the largest look takes, in bytes.
func (l *looks) size() int { return l.top * smallLook }

// move counts a run for another step.
func (l *looks) move(from, to int) {
	for len(l.runs) <= to {
		l.runs = append(l.runs, 0)
	}
	l.runs[to]++
	l.runs[from]--
	l.top = max(l.top, to)
	for l.top > 0 && l.runs[l.top] == 0 {
		l.top--
	}
}

// link adds a record to its run. s.mu is held.
func (s *Store) link(k Kind, r *Record) {
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

// resize counts that a look at a run takes more, or less. s.mu is held.
func (s *Store) resize(run *runRecords, by int) {
	from := run.objects / smallLook
	run.objects += by
	to := run.objects / smallLook
	if from == to {
		return
	}
	before := s.looks.size()
	s.looks.move(from, to)
	s.grow(s.looks.size() - before)
}

// SizeOf returns how many objects of a run there are, with those that are remembered.
func (s *Store) SizeOf(key string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.runs[key].count + len(s.gone[key])
}

// unlink takes a record out of its run. s.mu is held.
func (s *Store) unlink(k Kind, r *Record) {
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
