package transport

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// errSilent is the error of the answer to a watch that was silent for too long.
var errSilent = errors.New("the watch has been silent for too long")

// Guard records when a watch last sent an event, and ends a watch that has sent none for too long: one whose
// server is gone looks like one without events. The watch ends with an error, so that its reader, a
// reflector, lists anew. Another watch that is granted and silent would prove nothing.
//
// It stands in the place of the body of the answer, and so takes no goroutine and hands
// nothing on.
type Guard struct {
	Cancel  func()        // ends the request
	Renewal time.Duration // how long it may be silent
	// Heard is when it was last not silent, Unix nanoseconds; to Open one is added while
	// the watch is.
	Heard, Open *atomic.Int64
	// Closed is called once, when the watch that was granted is over.
	Closed func()

	body    io.ReadCloser // nil until the watch is granted
	silence *time.Timer
	silent  atomic.Bool
	closing sync.Once
}

// guardKey is the context key of the guard of a request.
type guardKey struct{}

// Guarded has the answer to a request with the context be read through the guard.
func Guarded(ctx context.Context, g *Guard) context.Context {
	return context.WithValue(ctx, guardKey{}, g)
}

func (g *Guard) over(body io.ReadCloser) *Guard {
	g.body = body
	g.Open.Add(1)
	g.silence = time.AfterFunc(g.Renewal, func() {
		g.silent.Store(true)
		g.Cancel()
	})
	return g
}

// Read implements io.Reader.
func (g *Guard) Read(p []byte) (int, error) {
	n, err := g.body.Read(p)
	if err != nil && g.silent.Load() {
		err = errSilent
	}
	return n, err
}

// Told records that an event has come. Bytes alone are no event: one may never come to its end.
func (g *Guard) Told(size int) {
	g.Heard.Store(time.Now().UnixNano())
	g.silence.Reset(g.Renewal)
	if p, ok := g.body.(*paced); ok {
		p.charge(size)
	}
}

// Close implements io.Closer. It ends the request, granted or not, and may be called more
// than once.
func (g *Guard) Close() (err error) {
	g.closing.Do(func() {
		g.Cancel()
		if g.body == nil {
			return
		}
		g.silence.Stop()
		err = g.body.Close()
		g.Open.Add(-1)
		g.Closed()
	})
	return err
}
