// Package logcursor writes a log that is read in several goes as if it had been read in
// one: nothing is lost between two of them and nothing is there twice.
//
// A log is asked for with timestamps, so that each line begins with the time at which it
// was written, in RFC 3339 with fractions of a second, and a blank. When a stream breaks,
// or when a container was started again, the log is asked for once more, from Cursor.Since
// on. API servers take whole seconds only, so what comes then has been passed on in part:
// the Cursor skips everything up to the last line that it knows, and of that the bytes that
// were there. It knows the line by its time and by how many lines before it had the same.
//
// A time that is later than all times before ends the skipping: that line was rotated
// away, or this is the log of a later container. That is an error, ErrGap, unless it is
// allowed.
//
// A line without a time, after ones that had it, is not the container's: kubelets write
// their own errors there. It is left out. A log whose lines never have a time, because
// its server knows none, is passed on as it is; there, bytes are counted.
package logcursor

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// ErrGap is the error of a Write in a go that has not the last line that was passed on, but
// later ones: between them something may be missing. Nothing of them is passed on. Another
// go may be about the container before; with AllowGap they are taken as they are.
var ErrGap = errors.New("the last line that is known is not there any more")

// maxStamp is the length of the longest timestamp, with nanoseconds and an offset.
const maxStamp = len("2006-01-02T15:04:05.999999999+07:00")

// Cursor is where a log was read to. Its zero value with an Output is the beginning. It
// must not be used by several goroutines at once.
type Cursor struct {
	// Output receives the log; a line may come in several pieces.
	Output io.Writer
	// Timestamps leaves the time in front of each line.
	Timestamps bool
	// AllowGap takes later lines for what follows the last one.
	AllowGap bool

	// The last line that was passed on, over all goes.
	last    time.Time
	ordinal int       // how many with that time there were, this one included
	bytes   int       // how much of it was passed on
	ended   bool      // with its end
	latest  time.Time // of all lines
	plain   int       // bytes of a log without times

	// The place in this go.
	stamp    []byte // of the line, as far as it was read
	within   bool   // the stamp is complete
	discard  bool   // the line was passed on
	drop     int    // bytes of the line that were passed on
	skipping bool
	seen     int  // lines with the time of the last one
	timeless bool // the line has no time
	dropped  int  // bytes of a log without times that were skipped
}

// Since returns from when on the log is to be asked for in the next go: a second before the
// last line, for lines that are written at once may be out of order. ok is false at the
// beginning.
func (c *Cursor) Since() (since time.Time, ok bool) {
	return c.last.Truncate(time.Second).Add(-time.Second).UTC(), !c.last.IsZero()
}

// Resume begins another go: the next byte is the first since Since.
func (c *Cursor) Resume() {
	c.nextLine()
	c.skipping, c.seen, c.dropped = !c.last.IsZero(), 0, 0
}

// Reached reports whether this go has come to the last line that was passed on in those
// before. An answer that ends without it is not the log's end.
func (c *Cursor) Reached() bool { return !c.skipping }

// Restarted makes the next go be about a later container.
func (c *Cursor) Restarted() { c.plain = 0 }

// Write takes in the next bytes of the go.
func (c *Cursor) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if !c.within {
			if p = c.readStamp(p); !c.within {
				break
			}
			if err := c.begin(); err != nil {
				return 0, err
			}
		}
		piece := p
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			piece = p[:i+1]
		}
		if err := c.content(piece); err != nil {
			return 0, err
		}
		p = p[len(piece):]
	}
	return total, nil
}

// readStamp reads on in the timestamp of a line, and returns what follows it.
func (c *Cursor) readStamp(p []byte) []byte {
	n := min(len(p), maxStamp+1-len(c.stamp))
	i := bytes.IndexAny(p[:n], " \n")
	if i < 0 {
		c.stamp = append(c.stamp, p[:n]...)
		c.within = len(c.stamp) > maxStamp
		return p[n:]
	}
	c.stamp, c.within = append(c.stamp, p[:i]...), true
	if p[i] == ' ' {
		i++
		c.stamp = append(c.stamp, ' ')
	}
	return p[i:]
}

// begin decides what becomes of a line whose time is known.
func (c *Cursor) begin() error {
	at, err := time.Parse(time.RFC3339Nano, string(bytes.TrimSuffix(c.stamp, []byte{' '})))
	if err != nil {
		c.timeless, c.discard = true, !c.last.IsZero()
		return c.content(c.stamp)
	}
	if c.skipping && !at.After(c.latest) {
		c.skip(at)
		return nil
	}
	if c.skipping && !c.AllowGap {
		return ErrGap
	}
	c.skipping = false
	if !c.ended && !c.last.IsZero() { // the rest of the line before is gone
		if err := c.emit([]byte{'\n'}); err != nil {
			return err
		}
	}
	if at.Equal(c.last) {
		c.ordinal++
	} else {
		c.last, c.ordinal = at, 1
	}
	c.bytes, c.ended = 0, false
	if at.After(c.latest) {
		c.latest = at
	}
	if c.Timestamps {
		return c.emit(c.stamp)
	}
	return nil
}

// skip skips a line that was passed on, or the part of it that was.
func (c *Cursor) skip(at time.Time) {
	c.discard = true
	if !at.Equal(c.last) {
		return
	}
	c.seen++
	if c.seen < c.ordinal {
		return
	}
	c.skipping = false
	if !c.ended {
		c.discard, c.drop = false, c.bytes
	}
}

// content passes on what belongs to the line.
func (c *Cursor) content(piece []byte) error {
	ends := bytes.HasSuffix(piece, []byte{'\n'})
	switch {
	case c.discard:
	case c.timeless:
		skipped := min(c.plain-c.dropped, len(piece))
		c.dropped += len(piece)
		c.plain = max(c.plain, c.dropped)
		if err := c.emit(piece[max(skipped, 0):]); err != nil {
			return err
		}
	default:
		dropped := min(c.drop, len(piece))
		c.drop -= dropped
		if err := c.emit(piece[dropped:]); err != nil {
			return err
		}
		c.bytes += len(piece) - dropped
		c.ended = ends
	}
	if ends {
		c.nextLine()
	}
	return nil
}

func (c *Cursor) nextLine() {
	c.stamp, c.within, c.discard, c.drop, c.timeless = c.stamp[:0], false, false, 0, false
}

func (c *Cursor) emit(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := c.Output.Write(p)
	return err
}
