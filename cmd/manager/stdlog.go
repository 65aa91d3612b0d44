package main

import (
	"io"
	"os"

	"golang.org/x/time/rate"
)

// stdlogPace is how many lines a second the standard library may log, after the first ones.
// net/http does so for what its peers get wrong, as often as they do.
const (
	stdlogPace  = 1
	stdlogBurst = 20
)

// pacedWriter drops what is written too often.
type pacedWriter struct {
	io.Writer
	pace *rate.Limiter
}

func newStdlog() io.Writer {
	return &pacedWriter{Writer: os.Stderr, pace: rate.NewLimiter(stdlogPace, stdlogBurst)}
}

// Write implements io.Writer.
func (p *pacedWriter) Write(line []byte) (int, error) {
	if !p.pace.Allow() {
		return len(line), nil
	}
	return p.Writer.Write(line)
}
