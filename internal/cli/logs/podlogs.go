package logs

import (
	"bytes"
	"io"
	"time"

	"github.com/pooledjob/pooledjob/internal/logcursor"
)

// podLogs is the position in the logs of several Pods at once. Each line begins with the
// name of its Pod, in brackets. The lines of a Pod are in order, those of two are not, so
// each has a position of its own.
type podLogs struct {
	output     io.Writer
	timestamps bool
	pods       map[string]*logcursor.Cursor
	line       []byte // as far as it was read
}

// Since returns the earliest of what the Pods need.
func (l *podLogs) Since() (since time.Time, ok bool) {
	for _, cursor := range l.pods {
		at, begun := cursor.Since()
		if !begun {
			return time.Time{}, false
		}
		if !ok || at.Before(since) {
			since, ok = at, true
		}
	}
	return since, ok
}

// Resume begins another stream. A line that was cut comes again whole.
func (l *podLogs) Resume() {
	l.line = l.line[:0]
	for _, cursor := range l.pods {
		cursor.Resume()
	}
}

// Flush passes on a last line that does not end.
func (l *podLogs) Flush() error {
	if len(l.line) == 0 {
		return nil
	}
	return l.passOn(l.line)
}

func (l *podLogs) Write(data []byte) (int, error) {
	size := len(data)
	for {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			l.line = append(l.line, data...)
			return size, nil
		}
		l.line = append(l.line, data[:i+1]...)
		if err := l.passOn(l.line); err != nil {
			return 0, err
		}
		l.line, data = l.line[:0], data[i+1:]
	}
}

// passOn hands a line to the position of its Pod.
func (l *podLogs) passOn(line []byte) error {
	i := bytes.Index(line, []byte("] "))
	if i < 0 || line[0] != '[' {
		_, err := l.output.Write(line) // not ours to lose
		return err
	}
	prefix := string(line[:i+2])
	cursor := l.pods[prefix]
	if cursor == nil {
		cursor = &logcursor.Cursor{Output: &prefixWriter{output: l.output, prefix: prefix}, Timestamps: l.timestamps, AllowGap: true}
		l.pods[prefix] = cursor
	}
	_, err := cursor.Write(line[i+2:])
	return err
}

// prefixWriter writes a prefix in front of each line.
type prefixWriter struct {
	output io.Writer
	prefix string
	inLine bool // the line has begun
}

func (w *prefixWriter) Write(data []byte) (int, error) {
	if !w.inLine {
		if _, err := io.WriteString(w.output, w.prefix); err != nil {
			return 0, err
		}
	}
	w.inLine = !bytes.HasSuffix(data, []byte{'\n'})
	return w.output.Write(data)
}
