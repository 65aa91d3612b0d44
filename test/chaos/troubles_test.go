package chaos

import (
	"sync"
	"time"
)

// aftermath is how long it may take at least until all is well again after a trouble: until
// a manager that was started has connected, and a connection that broke is made anew.
const aftermath = 10 * time.Second

// spans are times in which something was so.
type spans struct {
	mu  sync.Mutex
	all []*span
}

// span is such a time. Its end is zero while it lasts.
type span struct{ from, to time.Time }

// begin begins a span. The returned func ends it, at the first call.
func (s *spans) begin() (over func()) {
	return s.beginWith(func(time.Duration) time.Duration { return 0 })
}

// beginWith returns begin, with what is to be added at the end to a span of some length.
func (s *spans) beginWith(more func(time.Duration) time.Duration) (over func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := &span{from: time.Now()}
	s.all = append(s.all, one)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		now := time.Now()
		one.to = now.Add(more(now.Sub(one.from)))
	})
}

// overlap reports whether any of it was between two times.
func (s *spans) overlap(from, to time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		if one.from.Before(to) && (one.to.IsZero() || one.to.After(from)) {
			return true
		}
	}
	return false
}

// trouble notes that the ways to some targets are disturbed, or, without any, the manager or
// its way to the hub, until the returned func is called. A connection is tried again after
// waits that grow with the time for which it is away.
func trouble(targets ...*target) (over func()) {
	settle := func(lasted time.Duration) time.Duration { return aftermath + lasted }
	if len(targets) == 0 {
		return world.troubles.beginWith(settle)
	}
	overs := make([]func(), 0, len(targets))
	for _, t := range targets {
		overs = append(overs, t.troubles.beginWith(settle))
	}
	return func() {
		for _, over := range overs {
			over()
		}
	}
}

// troubled reports whether a trouble of the manager, or of one of some targets, was between
// two times.
func troubled(from, to time.Time, targets ...*target) bool {
	for _, t := range targets {
		if t.troubles.overlap(from, to) {
			return true
		}
	}
	return world.troubles.overlap(from, to)
}
