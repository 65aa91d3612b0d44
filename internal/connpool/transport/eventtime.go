package transport

import (
	"context"
	"maps"
	"runtime"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pooledjob/pooledjob/internal/connpool/pause"
)

const (
	// eventShare is how much time the events of all connections together may take in a second, for each
	// CPU, in the long run: an eighth.
	eventShare = time.Second / 8
	// eventBurst is how much those of one may take at once: some 5,000 events.
	eventBurst = 100 * time.Millisecond
	// eventSlice is the most that is counted from one read to the next. What takes longer has waited for
	// a CPU, and not worked.
	eventSlice = 10 * time.Millisecond
	// busyFor is how long a connection counts as busy after it had to wait.
	busyFor = time.Second
)

// EventTimes divides the time for events equally among the connections of a pool that have more of them
// than fit, and leaves to others what they need. Nobody waits for anybody. So targets that have always
// something to tell take a bounded part of the CPUs, whatever their events are and however many such
// targets there are.
type EventTimes struct {
	mu   sync.Mutex
	busy map[*EventTime]time.Time // until when
}

// NewEventTimes returns the time for events of a pool without connections.
func NewEventTimes() *EventTimes { return &EventTimes{busy: map[*EventTime]time.Time{}} }

// EventTime is the part of one connection.
type EventTime struct {
	all     *EventTimes
	limiter *rate.Limiter // of microseconds
}

// NewPart returns the part of another connection.
func (a *EventTimes) NewPart() *EventTime {
	return &EventTime{all: a, limiter: rate.NewLimiter(0, int(eventBurst/time.Microsecond))}
}

// spend counts time that events have taken, and waits while the connection has had too much.
func (e *EventTime) spend(ctx context.Context, took time.Duration) error {
	if delay := e.count(time.Now(), took); delay > 0 && !pause.For(ctx, delay) {
		return context.Cause(ctx)
	}
	return nil
}

// count counts time that events have taken, and returns how long the connection has to wait.
func (e *EventTime) count(now time.Time, took time.Duration) time.Duration {
	e.all.mu.Lock()
	defer e.all.mu.Unlock()
	e.limiter.SetLimitAt(now, rate.Limit(e.all.part(now).Microseconds()))
	delay := e.limiter.ReserveN(now, int(min(took, eventSlice)/time.Microsecond)).DelayFrom(now)
	if delay > 0 {
		e.all.busy[e] = now.Add(delay + busyFor)
	}
	return delay
}

// part is how much time one of the connections may take in a second as things are. a.mu is held.
func (a *EventTimes) part(now time.Time) time.Duration {
	maps.DeleteFunc(a.busy, func(_ *EventTime, until time.Time) bool { return until.Before(now) })
	return time.Duration(runtime.GOMAXPROCS(0)) * eventShare / time.Duration(max(1, len(a.busy)))
}
