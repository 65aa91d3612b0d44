package transport

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pooledjob/pooledjob/internal/connpool/pause"
)

const (
	// pace is how much is read of the lists and watches of one connection in a second, in the
	// long run, in bytes, and paceBurst at once: the first lists of some 5,000 Jobs and Pods. As
	// much again is read of the answers to single requests.
	pace      = 16 << 20
	paceBurst = 64 << 20
	// requestCost and eventCost are what a request and an event count at least, in bytes: below it
	// is the work with them that takes time.
	requestCost = 16 << 10
	eventCost   = 1 << 10
	// decodedFraction is which part of what an event takes once it is decoded it counts, if that is
	// more: a quarter.
	decodedFraction = 4

	// readPace and readBurst are how many bytes are read from the sockets of a connection in a second,
	// and at once, of which each read counts readCost at least; writePace and writeBurst how often is
	// written. What HTTP/2 and TLS do by themselves is bounded by nothing else: a target can have each
	// ping answered, and send records of one byte.
	readPace   = 64 << 20
	readBurst  = 128 << 20
	readCost   = 8 << 10
	writePace  = 10_000
	writeBurst = 20_000
)

// Pacing limits how fast the answers of a target are read, so that one that always sends something
// takes no time from others. Sessions that follow each other have it together.
//
// What the views are made from has a limit of its own: however many requests there are, they do not make
// the views late.
type Pacing struct {
	views, requests, reads, writes *rate.Limiter

	mu        sync.Mutex
	heldUntil time.Time // when the last wait of a view is over, or was
}

// NewPacing returns the pacing of a connection that has read nothing yet.
func NewPacing() *Pacing {
	return &Pacing{
		views:    rate.NewLimiter(pace, paceBurst),
		requests: rate.NewLimiter(pace, paceBurst),
		reads:    rate.NewLimiter(readPace, readBurst),
		writes:   rate.NewLimiter(writePace, writeBurst),
	}
}

// HeldBackAt returns when something that the target had sent for a view was last kept waiting, because
// the target sends more than is read. That is now if something waits now, and zero if nothing ever did.
func (p *Pacing) HeldBackAt() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.heldUntil.After(now) {
		return now
	}
	return p.heldUntil
}

// reserve takes n of a limiter by which views are held back, and returns for how long to wait.
func (p *Pacing) reserve(limiter *rate.Limiter, n int) time.Duration {
	now := time.Now()
	delay := limiter.ReserveN(now, min(n, limiter.Burst())).DelayFrom(now)
	if delay > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		if until := now.Add(delay); until.After(p.heldUntil) {
			p.heldUntil = until
		}
	}
	return delay
}

// readPurpose is what an answer is read for.
type readPurpose int

const (
	forItself  readPurpose = iota // is read no faster than its consumer asks for it
	forView                       // a list or a watch that a view is made from
	forRequest                    // the answer to a single request
)

// wait waits until n bytes more may be read for a purpose.
func (p *Pacing) wait(ctx context.Context, purpose readPurpose, n int) error {
	switch purpose {
	case forView:
		if delay := p.reserve(p.views, n); delay > 0 && !pause.For(ctx, delay) {
			return ctx.Err()
		}
	case forRequest:
		return p.requests.WaitN(ctx, n)
	case forItself:
	}
	return nil
}
