package logs

import (
	"errors"
	"io"
	"time"

	"github.com/pooledjob/pooledjob/internal/logcursor"
)

// position is where a log was read to.
type position interface {
	io.Writer
	// Since returns the time from which on the log is still needed, if any was read.
	Since() (time.Time, bool)
	// Resume begins another stream.
	Resume()
	// Flush passes on what has not been at the end of the log.
	Flush() error
}

func newPosition(out io.Writer, options *Options) position {
	if options.AllPods {
		return &podLogs{output: out, timestamps: options.Timestamps, pods: map[string]*logcursor.Cursor{}}
	}
	return &containerLog{logcursor.Cursor{Output: out, Timestamps: options.Timestamps, AllowGap: true}}
}

// containerLog is the position in the log of one container.
type containerLog struct{ logcursor.Cursor }

// Flush has nothing to do: all was passed on at once.
func (*containerLog) Flush() error { return nil }

// notifyingWriter calls before what is written, and after it.
type notifyingWriter struct {
	io.Writer
	before, after func()
}

func (w *notifyingWriter) Write(data []byte) (int, error) {
	if w.before != nil {
		w.before()
	}
	if w.after != nil {
		defer w.after()
	}
	return w.Writer.Write(data)
}

// errLimit is why no more is read: limitBytes is reached.
var errLimit = errors.New("the limit is reached")

// limitWriter passes on so many bytes at most; negative is all.
type limitWriter struct {
	out       io.Writer
	remaining int64
	err       error // of out
}

func (w *limitWriter) Write(data []byte) (int, error) {
	size := len(data)
	if w.remaining >= 0 {
		data = data[:min(int64(size), w.remaining)]
		w.remaining -= int64(len(data))
	}
	if _, err := w.out.Write(data); err != nil {
		w.err = err
		return 0, err
	}
	if len(data) < size {
		return len(data), errLimit
	}
	return size, nil
}
