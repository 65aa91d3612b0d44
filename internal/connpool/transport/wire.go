package transport

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/pooledjob/pooledjob/internal/connpool/pause"
)

// wire sends requests over one TCP connection to one server. It is an
// http.RoundTripper. A connection that ended, or that the server wants to end, is replaced;
// a second one is made beside it only while the first has as many requests under
// way as the server allows.
//
// An http.Transport would do this by itself, but it dials without notice: behind
// the same address another cluster may have appeared meanwhile. Here nothing is
// sent over a new connection before prove has let it pass.
type wire struct {
	ctx     context.Context // ends every dial and every wait for one
	factory *http.Transport // makes connections, never pools them
	address string
	prove   func(context.Context) error
	// redialled counts connections that replaced one.
	redialled *atomic.Int64

	mu      sync.Mutex
	lines   []*line   // the first that has room is used
	dialing *dial     // the one that is under way
	dialled time.Time // when the last began
}

// line is one connection.
type line struct {
	conn        *http.ClientConn
	room        int       // requests that it takes when it is empty
	endingSince time.Time // zero unless the server wants to end it
}

const (
	// maxDials is how many connections one request may have made for it: more than one,
	// because other waiters may fill the new connection first.
	maxDials = 3
	// dialPause is the shortest time between two dials. A server that ends each
	// connection after one answer would else be dialled without a pause.
	dialPause = 200 * time.Millisecond
)

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
	response, err := w.send(request)
	if err != nil && (notProcessed(err) || isLostRead(request, err)) && rewind(request) {
		response, err = w.send(request)
	}
	if err == nil {
		// To this header the client answers by sending the request again, up to ten
		// times, while the caller waits. Our callers know better when to come back.
		response.Header.Del("Retry-After")
	}
	return response, err
}

func (w *wire) send(request *http.Request) (*http.Response, error) {
	conn, err := w.reserve(request.Context())
	if err != nil {
		if request.Body != nil {
			request.Body.Close()
		}
		return nil, err
	}
	return conn.RoundTrip(request)
}

// notProcessed reports whether the server certainly did nothing about a request: it had
// begun to end the connection. net/http has no other name for these two errors, and
// repeats such requests itself when it chooses the connection.
func notProcessed(err error) bool {
	text := err.Error()
	return strings.HasSuffix(text, "http2: client conn not usable") ||
		strings.HasSuffix(text, "http2: Transport received Server's graceful shutdown GOAWAY")
}

// isLostRead reports whether a request that changes nothing was lost with its
// connection: it may be sent again, once.
func isLostRead(request *http.Request, err error) bool {
	return request.Method == http.MethodGet && !errors.Is(err, ErrNotSent) &&
		(utilnet.IsConnectionReset(err) || utilnet.IsProbableEOF(err) || utilnet.IsHTTP2ConnectionLost(err))
}

// rewind makes a request ready to be sent again, if it can be.
func rewind(request *http.Request) bool {
	if request.Body == nil || request.Body == http.NoBody {
		return true
	}
	if request.GetBody == nil {
		return false
	}
	body, err := request.GetBody()
	request.Body = body
	return err == nil
}

// reserve returns a connection that has room for one more request. Whatever keeps it
// from that is a notSentError.
func (w *wire) reserve(ctx context.Context) (*http.ClientConn, error) {
	if conn, ok := ctx.Value(connKey{}).(*http.ClientConn); ok {
		err := conn.Reserve()
		return conn, err
	}
	for range maxDials {
		conn, pending := w.find()
		if conn != nil {
			return conn, nil
		}
		select {
		case <-pending.done:
			if pending.err != nil {
				return nil, &notSentError{pending.err}
			}
		case <-ctx.Done():
			return nil, &notSentError{context.Cause(ctx)}
		}
	}
	return nil, &notSentError{errNoRoom}
}

// find reserves room in one of the connections or, when none has any, returns the
// dial that will make another.
func (w *wire) find() (*http.ClientConn, *dial) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.lines {
		if line.conn.Reserve() == nil {
			return line.conn, nil
		}
	}
	if w.dialing == nil {
		w.dialing = &dial{done: make(chan struct{})}
		go w.dial(w.dialing, time.Until(w.dialled.Add(dialPause)))
		w.dialled = time.Now()
	}
	return nil, w.dialing
}

// dial makes a connection and has it proven. Whoever waits for it may give up; it
// goes on for the others.
func (w *wire) dial(d *dial, after time.Duration) {
	defer close(d.done)
	if after > 0 {
		pause.For(w.ctx, after)
	}
	conn, err := w.connect()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialing, d.err = nil, err
	if err == nil {
		if len(w.lines) > 0 && !slices.ContainsFunc(w.lines, (*line).isGood) {
			w.redialled.Add(1)
		}
		w.lines = append(w.lines, &line{conn: conn, room: conn.Available()})
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
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// tidy closes connections that are of no more use: those that ended, those beside
// the first that can be used once nothing is under way in them, and those that the
// server wants to end and in which after a grace there can be nothing but watches,
// which go on elsewhere.
func (w *wire) tidy(grace time.Duration) {
	for _, line := range w.sortOut(grace) {
		_ = line.conn.Close() // which sends a last word, and may take a moment
	}
}

// sortOut takes those connections out.
func (w *wire) sortOut(grace time.Duration) (useless []*line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	usable := false
	w.lines = slices.DeleteFunc(w.lines, func(l *line) bool {
		switch {
		case l.conn.Err() != nil:
		case l.conn.Available() > 0 && !usable:
			usable = true
			return false
		case l.conn.InFlight() > 0 && !l.isEnding(grace):
			return false
		}
		useless = append(useless, l)
		return true
	})
	return useless
}

// isGood reports whether a connection is neither ended nor about to be.
func (l *line) isGood() bool {
	return l.conn.Err() == nil && (l.conn.Available() > 0 || l.conn.InFlight() >= l.room)
}

// isEnding reports whether a server has wanted to end a connection for as long as
// grace: there is no room although not all of it is used.
func (l *line) isEnding(grace time.Duration) bool {
	if l.isGood() {
		l.endingSince = time.Time{}
		return false
	}
	if l.endingSince.IsZero() {
		l.endingSince = time.Now()
	}
	return time.Since(l.endingSince) >= grace
}
