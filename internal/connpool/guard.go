package connpool

import (
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
)

// guardedWatch notes when a watch tells something, and ends it when it has told
// nothing for too long: a watch whose far end is gone looks like one of which there
// is no news. It ends as one that is too old, so that its reader, a reflector, lists
// anew: another watch that is granted and silent would prove nothing.
type guardedWatch struct {
	watch.Interface
	events chan watch.Event
	stop   chan struct{}
	ended  atomic.Bool
}

// guard reads on from inner, and calls cancel at its end. It adds to open while the
// watch is.
func guard(inner watch.Interface, cancel func(), heard, open *atomic.Int64, renewal time.Duration) watch.Interface {
	g := &guardedWatch{Interface: inner, events: make(chan watch.Event), stop: make(chan struct{})}
	open.Add(1)
	go func() {
		defer open.Add(-1)
		defer close(g.events)
		defer cancel()
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
			if !g.hand(event) {
				return
			}
		case <-silence.C:
			expired := apierrors.NewResourceExpired("the watch has told nothing for too long").Status()
			g.hand(watch.Event{Type: watch.Error, Object: &expired})
			return
		case <-g.stop:
			return
		}
	}
}

// hand gives an event to the reader, unless it has stopped reading.
func (g *guardedWatch) hand(event watch.Event) bool {
	select {
	case g.events <- event:
		return true
	case <-g.stop:
		return false
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
