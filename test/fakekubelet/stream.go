package fakekubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// chunk is how much is written at once of lines that are there.
const chunk = 16 << 10

// Stream is one request for a log.
type Stream struct {
	// Query are its parameters, as the API server passes them on.
	Query url.Values

	taken atomic.Int64
	ended chan struct{}
	cut   context.CancelFunc
}

// Taken returns how many bytes were taken from it, by the reader or on the way.
func (s *Stream) Taken() int64 { return s.taken.Load() }

// Ended returns a channel that is closed when everything was sent, or it was broken off, or the reader went away.
func (s *Stream) Ended() <-chan struct{} { return s.ended }

// serve answers a request as a kubelet does.
func (l *Log) serve(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	chosen, refused := l.chosen(q.previous)
	switch {
	case refused != nil:
		http.Error(w, refused.message, refused.code)
		return
	case chosen == nil:
		http.Error(w, fmt.Sprintf("previous terminated container of %s not found", l.name), http.StatusBadRequest)
		return
	}
	ctx, cut := context.WithCancel(r.Context())
	defer cut()
	s := &Stream{Query: r.URL.Query(), ended: make(chan struct{}), cut: cut}
	defer close(s.ended)
	l.change(func() { l.streams = append(l.streams, s) })
	out := &writer{w: w, stream: s, left: q.limitBytes}
	err = l.send(ctx, out, chosen, q)
	if err == nil {
		err = out.flush()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		panic(http.ErrAbortHandler)
	}
}

// send writes what a run has, and with follow what it will have.
func (l *Log) send(ctx context.Context, out *writer, r *run, q query) error {
	skip := 0
	if blocks, _, _ := l.now(r); q.tail >= 0 {
		for _, b := range blocks {
			skip += b.lines
		}
		skip = max(skip-q.tail, 0)
	}
	for done := 0; ; {
		blocks, ended, changed := l.now(r)
		for ; done < len(blocks); done++ {
			if err := sendBlock(ctx, out, blocks[done], &skip, q); err != nil {
				return err
			}
		}
		if err := out.flush(); err != nil || ended || !q.follow {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func sendBlock(ctx context.Context, out *writer, b block, skip *int, q query) error {
	for i := range b.lines {
		at := b.from.Add(time.Duration(i) * time.Microsecond).UTC()
		if *skip > 0 || at.Before(q.since) {
			*skip = max(*skip-1, 0)
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		line := b.line(i) + "\n"
		if q.timestamps {
			line = at.Format(stampLayout) + " " + line
		}
		if err := out.write(line); err != nil {
			return err
		}
	}
	return nil
}

// writer collects lines and counts what is taken.
type writer struct {
	w      http.ResponseWriter
	stream *Stream
	buffer bytes.Buffer
	left   int64 // bytes that may still be sent; negative is any number
}

// write returns io.EOF when no more is wanted.
func (o *writer) write(line string) error {
	if o.left >= 0 {
		line = line[:min(int64(len(line)), o.left)]
		o.left -= int64(len(line))
	}
	o.buffer.WriteString(line)
	if o.left == 0 {
		return errors.Join(o.flush(), io.EOF)
	}
	if o.buffer.Len() >= chunk {
		return o.flush()
	}
	return nil
}

func (o *writer) flush() error {
	n, err := o.w.Write(o.buffer.Bytes())
	o.stream.taken.Add(int64(n))
	o.buffer.Reset()
	if err != nil {
		return err
	}
	return http.NewResponseController(o.w).Flush()
}

// query are the parameters that kubelets know.
type query struct {
	follow, previous, timestamps bool
	tail                         int
	limitBytes                   int64
	since                        time.Time
}

func parseQuery(values url.Values) (query, error) {
	q := query{tail: -1, limitBytes: -1}
	var err error
	for name, given := range values {
		switch name {
		case "follow":
			q.follow, err = strconv.ParseBool(given[0])
		case "previous":
			q.previous, err = strconv.ParseBool(given[0])
		case "timestamps":
			q.timestamps, err = strconv.ParseBool(given[0])
		case "tailLines":
			q.tail, err = strconv.Atoi(given[0])
		case "limitBytes":
			q.limitBytes, err = strconv.ParseInt(given[0], 10, 64)
		case "sinceTime":
			q.since, err = time.Parse(time.RFC3339, given[0])
		case "sinceSeconds":
			var seconds int
			seconds, err = strconv.Atoi(given[0])
			q.since = time.Now().Add(-time.Duration(seconds) * time.Second)
		default:
			err = fmt.Errorf("there is no parameter %q", name)
		}
		if err != nil {
			return q, err
		}
	}
	return q, nil
}
