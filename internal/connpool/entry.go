package connpool

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/pooledjob/pooledjob/internal/connpool/budget"
	"github.com/pooledjob/pooledjob/internal/connpool/pause"
	"github.com/pooledjob/pooledjob/internal/connpool/transport"
)

// newsInterval is the shortest time between two texts for an unreachable target.
const newsInterval = 5 * time.Minute

const (
	// streams is how many requests an API server lets be under way in one TCP
	// connection (its default; one more opens a second connection), and reserve
	// what probes and proofs need of them. Each scope takes two, for its watches.
	streams = 100
	reserve = 4
	// leastInFlight is what is left for calls however many scopes there are: with
	// more than 40 there is a second connection when there is much to do.
	leastInFlight = 16
)

// entry is one identity: it runs the sessions to its target, one after the other,
// until nobody holds it any more.
type entry struct {
	pool     *Pool
	identity Identity
	hash     string
	ctx      context.Context // ends sessions, but lets calls under way end
	cancel   context.CancelFunc
	wake     chan struct{} // holds one element when it may be needed again

	sockets     atomic.Int64 // open TCP connections
	watches     atomic.Int64 // open watches
	lastContact atomic.Int64 // Unix nanoseconds; 0 is never
	probeTook   atomic.Int64 // the last one that was answered, in nanoseconds

	// Guarded by Pool.mu.
	holds   map[*hold]struct{}
	state   State // of the sessions; those of the views are beside it
	err     error
	saidAt  time.Time // when err last changed
	session *session  // the live one, which is in use exactly while state is Ready
	pause   context.CancelCauseFunc
	used    bool   // a session was in use once
	version string // of the cluster, as is uid
	uid     string
	gate    gate
	ended   map[State]int64 // sessions, by the state they led to

	names     atomic.Pointer[[]string] // of those who hold it
	budget    *budget.Budget
	looks     *rate.Limiter // at its runs
	pacing    *transport.Pacing
	longLists *semaphore.Weighted // that are read
	exceeded  atomic.Int64        // how often the target went past a limit
	redialled atomic.Int64        // TCP connections that replaced one within a session
}

// run opens sessions until nobody holds the entry.
func (e *entry) run() {
	sessions := pause.Attempts{Shortest: e.pool.options.MinBackoff, Longest: e.pool.options.MaxBackoff}
	for e.awaitNeed() {
		sessions.Begin()
		err := e.runSession()
		if e.ctx.Err() != nil {
			return
		}
		wait := sessions.Pause()
		switch {
		case errors.Is(err, errIdle):
			sessions.Reset()
			continue
		case ExceedsLimit(err):
			wait = pause.About(e.pool.options.LimitPause)
		}
		e.sleep(wait)
	}
}

// sleep waits for a while, or until there is something new.
func (e *entry) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.wake:
	case <-e.ctx.Done():
	}
}

// awaitNeed waits until somebody needs a session; false is the end of the entry.
func (e *entry) awaitNeed() bool {
	for e.ctx.Err() == nil {
		if e.pool.needed(e) {
			return true
		}
		select {
		case <-e.wake:
		case <-e.ctx.Done():
		}
	}
	return false
}

// runSession opens one session, serves it until it ends, and returns why it did.
func (e *entry) runSession() error {
	ctx, pause := context.WithCancelCause(e.ctx)
	defer pause(nil)
	s, err := e.open(ctx)
	if err == nil {
		e.pool.opened(e, s, pause)
		if err = s.awaitViews(ctx); err == nil {
			e.pool.ready(e, s)
			err = s.serve(ctx)
		}
	}
	if ExceedsLimit(err) {
		e.exceeded.Add(1)
	}
	if e.ctx.Err() == nil {
		e.pool.lost(e, transport.Redact(err, e.identity.Token))
	}
	if s != nil {
		// Calls under way may take a while to end, if it was not the target that
		// ended the session; the next one must not wait.
		grace := ctx.Err() != nil
		e.pool.running.Go(func() { s.close(grace) })
	}
	return err
}

// open opens a session, unless ctx ends before.
func (e *entry) open(ctx context.Context) (*session, error) {
	whole, cancel := context.WithCancelCause(e.pool.ctx)
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	s, err := openSession(whole, e)
	if !stop() && err == nil {
		s.close(false)
		return nil, context.Cause(ctx)
	}
	if err != nil {
		cancel(err)
		return nil, err
	}
	context.AfterFunc(s.ctx, func() { cancel(nil) })
	return s, nil
}

// contact notes that the target has answered.
func (e *entry) contact() { e.lastContact.Store(time.Now().UnixNano()) }

// probed notes how long it took.
func (e *entry) probed(took time.Duration) {
	e.contact()
	e.probeTook.Store(int64(took))
}

// apply makes the entry match those who hold it: what its session watches, how much
// it may ask, and whether it is needed at all. Pool.mu is held.
func (e *entry) apply() {
	o := e.pool.options
	limit, qps := 0, 0
	var names []string
	for h := range e.holds {
		names = append(names, h.member.name)
		limit = smallest(limit, h.config.MaxInFlight)
		qps = smallest(qps, h.config.QPS)
	}
	e.names.Store(&names)
	room := max(streams-reserve-2*len(e.scopes()), leastInFlight)
	e.gate.set(min(cmp.Or(limit, o.MaxInFlight), room), cmp.Or(qps, o.QPS))
	switch needed := e.needed(); {
	case needed && e.state == Idle:
		e.state, e.err = Connecting, nil
		e.signal()
		e.touch()
	case !needed && e.session != nil:
		e.pause(errIdle)
	}
	e.watchScopes()
}

// scopes returns all that are wanted. Pool.mu is held.
func (e *entry) scopes() map[string]bool {
	wanted := map[string]bool{}
	for h := range e.holds {
		for _, scope := range h.config.scopes() {
			wanted[scope] = true
		}
	}
	return wanted
}

// needed reports whether anybody needs a session. Pool.mu is held.
func (e *entry) needed() bool {
	for h := range e.holds {
		if h.needed() {
			return true
		}
	}
	return false
}

// touch has the pool look at all whose status may have changed with the entry's.
// Pool.mu is held.
func (e *entry) touch() {
	for h := range e.holds {
		e.pool.dirty[h.member] = struct{}{}
	}
}

// smallest returns the smaller of two numbers, of which 0 means none.
func smallest(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func (e *entry) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// watchScopes gives the session a view for each scope that is wanted, and ends the
// others. Pool.mu is held.
func (e *entry) watchScopes() {
	if e.session == nil || e.session.retired {
		return
	}
	wanted := e.scopes()
	views := e.session.views
	for scope, v := range views {
		if !wanted[scope] {
			v.cancel()
			delete(views, scope)
		}
	}
	for scope := range wanted {
		if views[scope] == nil {
			views[scope] = newView(e.session, scope)
			e.session.running.Go(views[scope].run)
		}
	}
}

// countRuns returns how many runs there are of all connections that hold the entry.
func (e *entry) countRuns() (sum int64) {
	if names := e.names.Load(); names != nil {
		for _, name := range *names {
			sum += e.pool.options.runsOf(name)
		}
	}
	return sum
}
