// Package pause has the pauses of a pool: what is tried again waits, longer after each failure, and not all
// at the same moment.
package pause

import (
	"context"
	"math/rand/v2"
	"time"
)

// For waits for d or until ctx is done; it reports whether the time has passed.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Backoff returns half of shortest and a random time below a limit that doubles from shortest to longest with
// every failure, so that the connections of many targets that went down together do not come back at the
// same moment.
func Backoff(shortest, longest time.Duration, failures int) time.Duration {
	limit := longest
	if failures < 16 {
		limit = min(limit, shortest<<failures)
	}
	return shortest/2 + rand.N(limit)
}

// Attempts are those of something that is done again and again, with a pause in between that grows while it
// does not last.
type Attempts struct {
	// Shortest and Longest are the bounds of Backoff.
	Shortest, Longest time.Duration

	failures int
	began    time.Time
}

// Begin is called at the beginning of each attempt.
func (a *Attempts) Begin() { a.began = time.Now() }

// Reset makes the attempt that has ended count as none.
func (a *Attempts) Reset() { a.failures = 0 }

// Pause returns how long to wait before the next attempt. One that lasted for longer than Longest is no
// failure that follows others.
func (a *Attempts) Pause() time.Duration {
	if time.Since(a.began) > a.Longest {
		a.Reset()
	}
	a.failures++
	return Backoff(a.Shortest, a.Longest, a.failures-1)
}

// About returns a random time that differs from d by a tenth at most.
func About(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5) }
