package connpool

import (
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

// guardedWatch notes when a watch tells something, and ends it when it has told
// nothing for too long: a watch whose far end is gone looks like one of which there
// is no news. Its reader, a reflector, then makes a new one where this one ended.
type guardedWatch struct {
	watch.Interface
	events chan watch.Event
	stop   chan struct{}
	ended  atomic.Bool
}

// guard reads on from inner. It adds to open while the watch is.
func guard(inner watch.Interface, heard, open *atomic.Int64, renewal time.Duration) watch.Interface {
	g := &guardedWatch{Interface: inner, events: make(chan watch.Event), stop: make(chan struct{})}
	heard.Store(time.Now().UnixNano()) // that it was granted is news
	open.Add(1)
	go func() {
		defer open.Add(-1)
		defer close(g.events)
		defer inner.Stop()
		g.forward(heard, renewal)
	}()
	return g
}

func (g *guardedWatch) forward(heard *atomic.Int64, renewal time.Duration) {
	silence := time.NewTimer(renewal)
	defer silence.Stop()
	for {
		select {
		case event, ok := <-g.Interface.ResultChan():
			if !ok {
				return
			}
			heard.Store(time.Now().UnixNano())
			silence.Reset(renewal)
			select {
			case g.events <- event:
			case <-g.stop:
				return
			}
		case <-silence.C:
			return
		case <-g.stop:
			return
		}
	}
}

// ResultChan implements watch.Interface.
func (g *guardedWatch) ResultChan() <-chan watch.Event { return g.events }

// Stop implements watch.Interface. It may be called more than once.
func (g *guardedWatch) Stop() {
	if g.ended.CompareAndSwap(false, true) {
		close(g.stop)
	}
}
