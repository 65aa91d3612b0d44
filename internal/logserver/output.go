package logserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// errLimit ends a response that is as long as the client wants it.
var errLimit = errors.New("as many bytes as were asked for")

// maxLine is how much of a line is kept back until it is whole, so that lines of several
// Pods do not mix. A longer one is cut into several.
const maxLine = 64 << 10

// output is a response that several Pods write to.
type output struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	flusher *http.ResponseController
	begun   bool
	left    int64 // bytes that may still be written; negative is any number
	midline bool
	from    string // the Pod that was written from last
}

func newOutput(w http.ResponseWriter, limit *int64) *output {
	o := &output{w: w, flusher: http.NewResponseController(w), left: -1}
	if limit != nil {
		o.left = *limit
	}
	return o
}

// begin sends the header, if it was not sent: from then on no error can be sent.
func (o *output) begin() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.header()
}

// hasBegun reports whether the header was sent.
func (o *output) hasBegun() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.begun
}

func (o *output) header() error {
	if o.begun {
		return nil
	}
	o.begun = true
	o.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	o.w.Header().Set("X-Content-Type-Options", "nosniff")
	o.w.WriteHeader(http.StatusOK)
	return o.flusher.Flush()
}

// write sends what comes from a Pod, and returns when it is sent.
func (o *output) write(pod string, p []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.header(); err != nil || len(p) == 0 {
		return err
	}
	if o.midline && o.from != pod {
		p = append([]byte{'\n'}, p...)
	}
	limited := o.left >= 0 && int64(len(p)) >= o.left
	if limited {
		p = p[:o.left]
	}
	o.from, o.midline = pod, !bytes.HasSuffix(p, []byte{'\n'})
	if _, err := o.w.Write(p); err != nil {
		return err
	}
	if err := o.flusher.Flush(); err != nil {
		return err
	}
	if limited {
		o.left = 0
		return errLimit
	}
	if o.left > 0 {
		o.left -= int64(len(p))
	}
	return nil
}

// podWriter passes on what one Pod writes.
type podWriter struct {
	out    *output
	pod    string
	prefix string // in front of each line; whole lines only, then
	stamps bool   // each line begins with a time
	line   []byte
}

func (o *output) of(pod string, prefixed, stamps bool) *podWriter {
	w := &podWriter{out: o, pod: pod, stamps: stamps}
	if prefixed {
		w.prefix = fmt.Sprintf("[%s] ", pod)
	}
	return w
}

// Write implements io.Writer.
func (w *podWriter) Write(p []byte) (int, error) {
	if w.prefix == "" {
		return len(p), w.out.write(w.pod, p)
	}
	w.line = append(w.line, p...)
	var whole []byte
	for {
		i := bytes.IndexByte(w.line, '\n')
		switch {
		case i < 0 && len(w.line) <= maxLine:
			return len(p), w.out.write(w.pod, whole)
		case i < 0 || i > maxLine: // the same for each who asks, whatever comes in one piece
			piece := w.line[:maxLine]
			w.line = append(bytes.Clone(w.stamp()), w.line[maxLine:]...)
			whole = append(append(append(whole, w.prefix...), piece...), '\n')
		default:
			whole = append(append(whole, w.prefix...), w.line[:i+1]...)
			w.line = w.line[i+1:]
		}
	}
}

// stamp returns the time of the line with the blank after it, which each of its pieces gets: one
// without would not be known for the container's.
func (w *podWriter) stamp() []byte {
	if !w.stamps {
		return nil
	}
	return w.line[:bytes.IndexByte(w.line, ' ')+1]
}

// end passes on a last line without an end.
func (w *podWriter) end() error {
	if len(w.line) == 0 {
		return nil
	}
	_, err := w.Write([]byte{'\n'})
	return err
}

// readAhead is how much of a stream is read while what came before is being sent.
const readAhead = 32 << 10

// ahead reads a stream ahead. A log that comes in many small pieces is so sent in few, and
// none waits for another.
type ahead struct {
	mu      sync.Mutex
	changed *sync.Cond
	read    []byte
	err     error
	unread  bool // nobody wants more
}

// pass reads a stream to its end, at the pace at which its bytes are taken. After an error
// the stream must be closed, as after its end.
func pass(to io.Writer, from io.Reader) (readErr, writeErr error) {
	a := &ahead{}
	a.changed = sync.NewCond(&a.mu)
	go a.fill(from)
	var taken []byte
	for {
		var err error
		if taken, err = a.take(taken); len(taken) == 0 {
			return err, nil
		}
		if _, err := to.Write(taken); err != nil {
			a.stop()
			return nil, err
		}
	}
}

// fill reads until the stream ends, or nobody wants more.
func (a *ahead) fill(from io.Reader) {
	buffer := make([]byte, readAhead)
	for {
		n, err := from.Read(buffer)
		if !a.add(buffer[:n], err) {
			return
		}
	}
}

// add waits until there is room.
func (a *ahead) add(p []byte, err error) (more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.read) > 0 && len(a.read)+len(p) > readAhead && !a.unread {
		a.changed.Wait()
	}
	a.read, a.err = append(a.read, p...), err
	a.changed.Broadcast()
	return err == nil && !a.unread
}

// take waits until there is something; nothing is the end, or an error. What was taken
// before is used again.
func (a *ahead) take(before []byte) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.read) == 0 && a.err == nil {
		a.changed.Wait()
	}
	taken := a.read
	a.read = before[:0]
	a.changed.Broadcast()
	if len(taken) > 0 || errors.Is(a.err, io.EOF) {
		return taken, nil
	}
	return nil, a.err
}

func (a *ahead) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unread = true
	a.changed.Broadcast()
}
