package prune

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"
)

// The wire types of protobuf that Kubernetes uses, and the two that can be passed over. Groups
// cannot: their end is known only by what is in them.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// maxKey is how long the key of a map may be to be kept, in bytes: a label's or annotation's
// has a prefix of 253, a slash and a name of 63.
const maxKey = 253 + 1 + 63

// ErrMalformed is why an answer cannot be read that no API server sends.
var ErrMalformed = errors.New("the answer is not that of a Kubernetes API server")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// LimitError is why an answer is not read further that is larger than may be.
type LimitError struct {
	What  string // exceeds the limit
	Limit int64
	Unit  string
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s exceeds the limit of %d %s", e.What, e.Limit, e.Unit)
}

// ExceedsLimit reports whether an error is, or wraps, a *LimitError.
func ExceedsLimit(err error) bool {
	var limit *LimitError
	return errors.As(err, &limit)
}

// pruner copies what is kept of one message after the other.
type pruner struct {
	in   *bufio.Reader
	out  []byte
	room Bounds // how many bytes more the object may take
	size int    // bytes that the object takes
	// starved is true if a text was cut because there was no room for it.
	starved bool
}

// lengthSize is how many bytes the length of a message takes in what is kept. It is written
// when the message is, so there must be room for any; a number in protobuf may have more
// bytes than it needs.
const lengthSize = 4

// message copies what is kept of a message of so many bytes.
func (p *pruner) message(m *message, left int64) error {
	p.takeTypes(m.size)
	var lists [maxFields]span
	for left > 0 {
		tag, err := p.varint(&left)
		if err != nil {
			return err
		}
		f := m.fields[tag>>3]
		if f == nil {
			if err := p.skip(tag&7, &left); err != nil {
				return err
			}
			continue
		}
		if tag&7 != f.wire {
			return malformed("field %d has the type %d", tag>>3, tag&7)
		}
		if err := p.field(f, tag, &left, &lists[f.index]); err != nil {
			return err
		}
	}
	return nil
}

// span is where the elements of a list are in what is kept.
type span struct {
	count      int
	start, end int
	dropped    bool
	room       Bounds // before the first
	size       int
}

// field copies what is kept of a field whose tag was read.
func (p *pruner) field(f *field, tag uint64, left *int64, s *span) error {
	s.count++
	if f.elements == 0 {
		if s.count > 1 {
			return malformed("field %d comes twice", tag>>3)
		}
		return p.value(f, tag, left)
	}
	switch {
	case s.dropped:
		return p.skip(f.wire, left)
	case s.start == s.end:
		s.start, s.end, s.room, s.size = len(p.out), len(p.out), p.room, p.size
	case s.end != len(p.out):
		return malformed("the elements of field %d are not together", tag>>3)
	}
	if err := p.value(f, tag, left); err != nil {
		return err
	}
	before := s.end
	s.end = len(p.out)
	if s.end == before {
		s.count-- // an entry of a map that is not kept
	}
	if s.count > f.elements || p.room.Types < 0 || p.room.Texts < 0 || p.starved {
		p.out, p.room, p.size, p.starved, s.dropped = p.out[:s.start], s.room, s.size, false, true
	}
	return nil
}

func (p *pruner) takeTypes(size int) {
	p.room.Types -= size
	p.size += size
}

func (p *pruner) value(f *field, tag uint64, left *int64) error {
	if f.kind == ruleNumber {
		v, err := p.varint(left)
		p.out = binary.AppendUvarint(binary.AppendUvarint(p.out, tag), v)
		return err
	}
	length, err := p.length(left)
	if err != nil {
		return err
	}
	switch {
	case f.own != nil:
		room := p.room
		p.room = *f.own
		defer func() { p.room = room }()
		return p.nested(tag, func() error { return p.message(f.message, length) })
	case f.message != nil:
		return p.nested(tag, func() error { return p.message(f.message, length) })
	case f.kind == ruleMap:
		return p.entry(f, tag, length)
	}
	return p.text(f, tag, length)
}

// nested writes a tag, and what write writes with its length before it.
func (p *pruner) nested(tag uint64, write func() error) error {
	p.out = append(binary.AppendUvarint(p.out, tag), make([]byte, lengthSize)...)
	start := len(p.out)
	if err := write(); err != nil {
		return err
	}
	length := len(p.out) - start
	for i := start - lengthSize; i < start; i++ {
		p.out[i] = byte(length&0x7f) | 0x80
		length >>= 7
	}
	p.out[start-1] &= 0x7f
	return nil
}

// text keeps the beginning of a text.
func (p *pruner) text(f *field, tag uint64, length int64) error {
	if f.kind == ruleExact && length > int64(f.most) {
		return &LimitError{What: "a name or number as text", Limit: int64(f.most), Unit: "bytes"}
	}
	if f.kind == ruleWhole && length > int64(f.most) {
		p.out = append(binary.AppendUvarint(binary.AppendUvarint(p.out, tag), uint64(len(Cut))), Cut...)
		return p.discard(length)
	}
	keep := min(length, int64(f.most))
	if room := int64(max(p.room.Texts, 0)); f.kind == ruleText && keep > room {
		keep, p.starved = room, true
	}
	return p.nested(tag, func() error { return p.copy(keep, length) })
}

// copy keeps so many bytes of a text of that length, or fewer, so that no character is cut.
func (p *pruner) copy(keep, length int64) error {
	start := len(p.out)
	p.out = append(p.out, make([]byte, keep)...)
	if err := p.read(p.out[start:]); err != nil {
		return err
	}
	if keep < length {
		p.out = p.out[:start+len(wholeRunes(p.out[start:]))]
	}
	p.room.Texts -= len(p.out) - start
	p.size += len(p.out) - start
	return p.discard(length - keep)
}

// wholeRunes returns a text without the character at its end that is cut, if one is.
func wholeRunes(text []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if last := text[len(text)-i:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				return text[:len(text)-i]
			}
			break
		}
	}
	return text
}

// entrySize is about what an entry of a map takes beside its texts.
const entrySize = 64

// entry copies an entry of a map, if its key is one that is kept.
func (p *pruner) entry(f *field, tag uint64, left int64) error {
	before, room, size := len(p.out), p.room, p.size
	kept := false
	err := p.nested(tag, func() (err error) {
		kept, err = p.pair(f, &left)
		return err
	})
	if err == nil && !kept {
		p.out, p.room, p.size = p.out[:before], room, size
		return p.discard(left)
	}
	p.takeTypes(entrySize)
	return err
}

// The fields of an entry of a map: its key, which comes first, and its value.
const (
	keyTag   = 1<<3 | wireBytes
	valueTag = 2<<3 | wireBytes
)

// pair copies a key and its value; what is not kept is left for the caller to pass over.
func (p *pruner) pair(f *field, left *int64) (kept bool, err error) {
	length, err := p.textOf(keyTag, left)
	if err != nil || length > maxKey {
		*left += length // is not read yet
		return false, err
	}
	start := len(p.out)
	key := &field{kind: ruleExact, most: maxKey}
	if err := p.text(key, keyTag, length); err != nil {
		return false, err
	}
	if !f.allow(string(p.out[start+1+lengthSize:])) {
		return false, nil
	}
	if *left == 0 {
		return true, nil // without a value, which is the empty one
	}
	if length, err = p.textOf(valueTag, left); err != nil {
		return false, err
	}
	if *left > 0 {
		return false, malformed("an entry of a map is more than a key and a value")
	}
	return true, p.text(&field{kind: ruleText, most: f.most}, valueTag, length)
}

// textOf reads the tag and the length of a text that must come now.
func (p *pruner) textOf(want uint64, left *int64) (int64, error) {
	tag, err := p.varint(left)
	if err != nil {
		return 0, err
	}
	if tag != want {
		return 0, malformed("an entry of a map is not a key and a value")
	}
	return p.length(left)
}

// skip passes over the value of a field.
func (p *pruner) skip(wire uint64, left *int64) error {
	length := int64(0)
	var err error
	switch wire {
	case wireVarint:
		_, err = p.varint(left)
		return err
	case wireFixed64:
		length = 8
	case wireFixed32:
		length = 4
	case wireBytes:
		if length, err = p.length(left); err != nil {
			return err
		}
		return p.discard(length)
	default:
		return malformed("a field has the type %d", wire)
	}
	if *left -= length; *left < 0 {
		return errPastEnd
	}
	return p.discard(length)
}

var errPastEnd = malformed("a field is longer than its message")

// length reads the length of a value, and takes it off what is left of its message.
func (p *pruner) length(left *int64) (int64, error) {
	length, err := p.varint(left)
	if err != nil {
		return 0, err
	}
	if length > uint64(*left) { //nolint:gosec // left is never negative
		return 0, errPastEnd
	}
	*left -= int64(length)    //nolint:gosec // it is not greater than left
	return int64(length), nil //nolint:gosec // it is not greater than left
}

// varint reads a number, and takes its bytes off what is left of its message.
func (p *pruner) varint(left *int64) (v uint64, err error) {
	for shift := 0; shift < 64; shift += 7 {
		if *left == 0 {
			return 0, errPastEnd
		}
		*left--
		b, err := p.in.ReadByte()
		if err != nil {
			return 0, unexpected(err)
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, malformed("a number has more than ten bytes")
}

func (p *pruner) read(into []byte) error {
	_, err := io.ReadFull(p.in, into)
	return unexpected(err)
}

func (p *pruner) discard(n int64) error {
	for n > 0 {
		done, err := p.in.Discard(int(min(n, math.MaxInt32)))
		if err != nil {
			return unexpected(err)
		}
		n -= int64(done)
	}
	return nil
}

// unexpected is the error of a reader that ended within a message.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
