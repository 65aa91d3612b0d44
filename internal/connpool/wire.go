package connpool

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
)

// wire sends requests over one TCP connection to one server. It is an
// http.RoundTripper. A connection that ended, or that the server wants to end, is replaced;
// a second one is made beside it only while the first has as many requests under
// way as the server allows.
//
// An http.Transport would do this by itself, but it dials without telling: behind
// the same address another cluster may have appeared meanwhile. Here nothing is
// sent over a new connection before prove has let it pass.
type wire struct {
	ctx     context.Context // ends every dial and every wait for one
	factory *http.Transport // makes connections, never pools them
	address string
	prove   func(context.Context) error

	mu      sync.Mutex
	conns   []*http.ClientConn // the first that has room is used
	dialing *dial              // the one that is under way
}

// dial is the making of one connection, for all who wait for it.
type dial struct {
	done chan struct{}
	err  error
}

// connKey is the context key of the one connection that a request must use.
type connKey struct{}

func newWire(ctx context.Context, factory *http.Transport, server *url.URL) *wire {
	port := server.Port()
	if port == "" {
		port = "443"
	}
	return &wire{ctx: ctx, factory: factory, address: net.JoinHostPort(server.Hostname(), port)}
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	conn, err := w.reserve(request.Context())
	if err != nil {
		if request.Body != nil {
			request.Body.Close()
		}
		return nil, err
	}
	response, err := conn.RoundTrip(request)
	if err == nil {
		// To this header the client answers by sending the request again, up to ten
		// times, while the caller waits. Our callers know better when to come back.
		response.Header.Del("Retry-After")
	}
	return response, err
}

// reserve returns a connection that has room for one more request.
func (w *wire) reserve(ctx context.Context) (*http.ClientConn, error) {
	if conn, ok := ctx.Value(connKey{}).(*http.ClientConn); ok {
		err := conn.Reserve()
		return conn, err
	}
	for {
		conn, pending := w.find()
		if conn != nil {
			return conn, nil
		}
		select {
		case <-pending.done:
			if pending.err != nil {
				return nil, pending.err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// find reserves room in one of the connections or, when none has any, returns the
// dial that will make another.
func (w *wire) find() (*http.ClientConn, *dial) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range w.conns {
		if conn.Reserve() == nil {
			return conn, nil
		}
	}
	if w.dialing == nil {
		w.dialing = &dial{done: make(chan struct{})}
		go w.dial(w.dialing)
	}
	return nil, w.dialing
}

// dial makes a connection and has it proven. Whoever waits for it may give up; it
// goes on for the others.
func (w *wire) dial(d *dial) {
	defer close(d.done)
	conn, err := w.connect()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialing, d.err = nil, err
	if err == nil {
		w.conns = append(w.conns, conn)
	}
}

func (w *wire) connect() (*http.ClientConn, error) {
	if w.ctx.Err() != nil {
		return nil, ErrClosed
	}
	conn, err := w.factory.NewClientConn(w.ctx, "https", w.address)
	if err != nil {
		return nil, err
	}
	if err := w.prove(context.WithValue(w.ctx, connKey{}, conn)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// tidy closes connections that are of no more use: those that ended, and those
// beside the first that can be used, once nothing is under way in them.
func (w *wire) tidy() {
	w.mu.Lock()
	defer w.mu.Unlock()
	usable := false
	w.conns = slices.DeleteFunc(w.conns, func(conn *http.ClientConn) bool {
		if conn.Err() == nil {
			if conn.Available() > 0 && !usable {
				usable = true
				return false
			}
			if conn.InFlight() > 0 {
				return false
			}
		}
		_ = conn.Close()
		return true
	})
}
