package main

import (
	"bytes"
	"io"
	"time"

	"github.com/pooledjob/pooledjob/internal/logcursor"
)

// podLogs is the place in the logs of several Pods at once. Each line begins with the
// name of its Pod, in brackets. The lines of a Pod are in order, those of two are not, so
// each has a place of its own.
type podLogs struct {
	output     io.Writer
	timestamps bool
	pods       map[string]*logcursor.Cursor
	line       []byte // as far as it was read
}

// Since is the earliest of what the Pods need.
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
	return l.complete(l.line)
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
		if err := l.complete(l.line); err != nil {
			return 0, err
		}
		l.line, data = l.line[:0], data[i+1:]
	}
}

// complete hands a line to the place of its Pod.
func (l *podLogs) complete(line []byte) error {
	i := bytes.Index(line, []byte("] "))
	if i < 0 || line[0] != '[' {
		_, err := l.output.Write(line) // not ours to lose
		return err
	}
	prefix := string(line[:i+2])
	cursor := l.pods[prefix]
	if cursor == nil {
		cursor = &logcursor.Cursor{Output: &prefixer{output: l.output, prefix: prefix}, Timestamps: l.timestamps, AllowGap: true}
		l.pods[prefix] = cursor
	}
	_, err := cursor.Write(line[i+2:])
	return err
}

// prefixer writes a prefix in front of each line.
type prefixer struct {
	output io.Writer
	prefix string
	within bool
}

func (p *prefixer) Write(data []byte) (int, error) {
	if !p.within {
		if _, err := io.WriteString(p.output, p.prefix); err != nil {
			return 0, err
		}
	}
	p.within = !bytes.HasSuffix(data, []byte{'\n'})
	return p.output.Write(data)
}
