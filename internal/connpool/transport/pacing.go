package transport

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pooledjob/pooledjob/internal/connpool/pause"
)

const (
	// DefaultPace is how much is read of the lists and watches of one connection in a second, in the
	// long run, in bytes. secondsAtOnce times as much may come at once: the first lists of some 5,000
	// Jobs and Pods. Another DefaultPace is read of the answers to single requests.
	DefaultPace   = 16 << 20
	secondsAtOnce = 4
	// requestCost and eventCost are what a request and an event count at least, in bytes: below it
	// is the work with them that takes time.
	requestCost = 16 << 10
	eventCost   = 2 << 10
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
// What the views are made from has a limit of its own, so that requests do not use it up. All share the
// receive window of one TCP connection, in which an answer that is not read is in the way of the watches.
// So a request waits before it is sent, for what the ones before it have read, and not while it is answered,
// unless its answer is a long one.
type Pacing struct {
	views, requests, reads, writes *rate.Limiter

	mu        sync.Mutex
	heldUntil time.Time // when the last wait that may delay a view is over, or was
}

// NewPacing returns the pacing of a connection that has read nothing yet. pace is as DefaultPace.
func NewPacing(pace int) *Pacing {
	return &Pacing{
		views:    rate.NewLimiter(rate.Limit(pace), secondsAtOnce*pace),
		requests: rate.NewLimiter(rate.Limit(pace), secondsAtOnce*pace),
		reads:    rate.NewLimiter(readPace, readBurst),
		writes:   rate.NewLimiter(writePace, writeBurst),
	}
}

// HeldBackAt returns when something that the target sends was last kept waiting, because that is more than is
// read. That is now if something waits now, and zero if nothing ever did.
func (p *Pacing) HeldBackAt() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.heldUntil.After(now) {
		return now
	}
	return p.heldUntil
}

// reserve takes n of a limiter by which views are held back, and returns for how long to wait. They stay
// taken if nobody waits that long: they were read.
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

// longAnswer is how much of the answer to a request is read without a wait, in bytes.
const longAnswer = 1 << 20

// begin waits until a request may be sent.
func (p *Pacing) begin(ctx context.Context, purpose readPurpose) error {
	switch purpose {
	case forView:
		return p.hold(ctx, p.views, requestCost)
	case forRequest:
		return p.requests.WaitN(ctx, requestCost)
	case forItself:
	}
	return nil
}

// took counts n more bytes of an answer, which is of some length by then, and waits where it must.
func (p *Pacing) took(ctx context.Context, purpose readPurpose, n, length int) error {
	switch {
	case purpose == forView:
		return p.hold(ctx, p.views, n)
	case purpose == forRequest && length > longAnswer:
		return p.hold(ctx, p.requests, n)
	case purpose == forRequest:
		p.requests.ReserveN(time.Now(), min(n, p.requests.Burst()))
	}
	return nil
}

// hold takes n of a limiter, and waits for them.
func (p *Pacing) hold(ctx context.Context, limiter *rate.Limiter, n int) error {
	if delay := p.reserve(limiter, n); delay > 0 && !pause.For(ctx, delay) {
		return ctx.Err()
	}
	return nil
}
