package transport

import (
	"golang.org/x/time/rate"
)

const (
	// pace is how much is read of the lists and watches of one connection in a second, in the
	// long run, in bytes, and paceBurst at once: the first lists of some 5,000 Jobs and Pods.
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
type Pacing struct {
	answers, reads, writes *rate.Limiter
}

// NewPacing returns the pacing of a connection that has read nothing yet.
func NewPacing() *Pacing {
	return &Pacing{
		answers: rate.NewLimiter(pace, paceBurst),
		reads:   rate.NewLimiter(readPace, readBurst),
		writes:  rate.NewLimiter(writePace, writeBurst),
	}
}

// IsBehind reports whether less may be read at once than in a second of the pace. Then the reader may be held
// back, and what it read last may be many seconds old. That is so, too, for a moment after much was read at
// once, for requests count as well. How sockets are read is not looked at.
func (p *Pacing) IsBehind() bool { return p.answers.Tokens() < pace }
