package prune

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// maxObject is how long an object may be in an answer, in bytes. etcd takes requests of
	// 1.5 MiB by default, and is advised against more than 8 MiB.
	maxObject = 16 << 20
	// bufferSize is how much of an answer is read at a time.
	bufferSize = 4 << 10
	// maxIdle is how much of what was kept of an object is held until the next, in bytes.
	maxIdle = 16 << 10
	// maxTypeName is how long an apiVersion or a kind may be.
	maxTypeName = 253
)

// magic is what the protobuf of Kubernetes begins with.
var magic = []byte("k8s\x00")

// Kept is what is kept of an object.
type Kept struct {
	// Message is in protobuf, for the Unmarshal method of the object's type.
	Message []byte
	// Size is about how many bytes the object takes once it is decoded.
	Size int
}

// Object reads an answer that is one object, and returns what is kept of it.
func (s *Schema) Object(answer io.Reader) (kept Kept, err error) {
	p := newPruner(bounded(answer))
	err = p.envelope(untilEnd, func(kind string, length int64) error {
		kept, err = p.object(s, kind, length)
		return err
	})
	return kept, err
}

// ListMeta is what is kept of a list but its items.
type ListMeta struct {
	ResourceVersion string
	// Continue asks for the next page; empty at the last one.
	Continue string
}

// List reads an answer that is a list of objects, and calls each with what is kept of one
// after the other. What each is given is overwritten by the next.
func (s *Schema) List(answer io.Reader, each func(Kept) error) (ListMeta, error) {
	p, list := newPruner(answer), metav1.ListMeta{}
	err := p.envelope(untilEnd, func(kind string, length int64) error {
		if kind != s.kind+"List" {
			return malformed("a %q where a %sList was asked for", kind, s.kind)
		}
		return p.fields(length, func(number uint64, length int64) error {
			switch number {
			case 1: // metadata
				p.reset(listSchema)
				if err := p.message(listSchema.root, length); err != nil {
					return err
				}
				return list.Unmarshal(p.out)
			case 2: // items
				kept, err := p.object(s, s.kind, length)
				if err != nil {
					return err
				}
				return each(kept)
			}
			return p.discard(length)
		})
	})
	return ListMeta{ResourceVersion: list.ResourceVersion, Continue: list.Continue}, err
}

// Watch reads the answer to a watch, event by event.
type Watch struct {
	schema *Schema
	pruner *pruner
}

// Event is an event of a watch: Kept is what is kept of its object, until the next event; Status is
// what an event of the type ERROR has instead.
type Event struct {
	Type   watch.EventType
	Kept   Kept
	Status *metav1.Status
}

// Watch returns a reader of the answer to a watch for objects of the schema.
func (s *Schema) Watch(answer io.Reader) *Watch { return &Watch{schema: s, pruner: newPruner(answer)} }

// Next waits for an event. The error is io.EOF when the server has ended the watch.
func (w *Watch) Next() (event Event, err error) {
	var header [4]byte
	if _, err := io.ReadFull(w.pruner.in, header[:]); err != nil {
		return Event{}, err
	}
	length := int64(binary.BigEndian.Uint32(header[:]))
	if length > maxObject {
		return Event{}, &LimitError{What: "an event of a watch", Limit: maxObject, Unit: "bytes"}
	}
	err = w.pruner.fields(length, func(number uint64, length int64) (err error) {
		switch number {
		case 1: // type
			var name string
			name, err = w.pruner.name(length)
			event.Type = watch.EventType(name)
			return err
		case 2: // object
			return w.pruner.fields(length, func(number uint64, length int64) error {
				if number != 1 { // raw
					return w.pruner.discard(length)
				}
				return w.pruner.envelope(length, func(kind string, length int64) error {
					return w.object(&event, kind, length)
				})
			})
		}
		return w.pruner.discard(length)
	})
	if err == nil {
		err = event.check()
	}
	return event, unexpected(err)
}

// check refuses what no API server sends: client-go would complain of each such event, and pause.
func (e *Event) check() error {
	switch e.Type {
	case watch.Added, watch.Modified, watch.Deleted, watch.Bookmark:
		if e.Kept.Message == nil {
			return malformed("an event of the type %s without an object of its kind", e.Type)
		}
	case watch.Error:
		if e.Status == nil {
			return malformed("an event of the type %s without a Status", e.Type)
		}
	default:
		return malformed("an event of the type %q", e.Type)
	}
	return nil
}

func (w *Watch) object(event *Event, kind string, length int64) (err error) {
	if kind != statusSchema.kind {
		event.Kept, err = w.pruner.object(w.schema, kind, length)
		return err
	}
	kept, err := w.pruner.object(statusSchema, kind, length)
	if err != nil {
		return err
	}
	event.Status = &metav1.Status{}
	return event.Status.Unmarshal(kept.Message)
}

// Status reads the answer to a request that has failed.
func Status(answer io.Reader) (*metav1.Status, error) {
	kept, err := statusSchema.Object(answer)
	if err != nil {
		return nil, err
	}
	status := &metav1.Status{}
	err = status.Unmarshal(kept.Message)
	return status, err
}

// bounded returns an answer that is one object, and so not longer than one.
func bounded(answer io.Reader) io.Reader { return &boundedReader{answer, maxObject + bufferSize} }

type boundedReader struct {
	io.Reader
	left int
}

// Read implements io.Reader.
func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, &LimitError{What: "an answer that is one object", Limit: maxObject, Unit: "bytes"}
	}
	n, err := b.Reader.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func newPruner(answer io.Reader) *pruner { return &pruner{in: bufio.NewReaderSize(answer, bufferSize)} }

// reset makes room for an object. What a large one took is not held until the next.
func (p *pruner) reset(s *Schema) {
	p.out, p.room, p.size, p.starved = p.out[:0], s.bounds, 0, false
	if cap(p.out) > maxIdle {
		p.out = nil
	}
}

// object reads an object, without its envelope.
func (p *pruner) object(s *Schema, kind string, length int64) (Kept, error) {
	if kind != s.kind {
		return Kept{}, malformed("a %q where a %s was asked for", kind, s.kind)
	}
	if length > maxObject {
		return Kept{}, &LimitError{What: "an object", Limit: maxObject, Unit: "bytes"}
	}
	p.reset(s)
	err := p.message(s.root, length)
	if p.out == nil {
		p.out = []byte{} // of an object without content
	}
	return Kept{Message: p.out, Size: p.size}, err
}

// untilEnd is the length of an envelope that ends with the answer.
const untilEnd = math.MaxInt64

// envelope reads what an object is wrapped in: its kind, and itself.
func (p *pruner) envelope(left int64, object func(kind string, length int64) error) error {
	var prefix [4]byte
	if left < int64(len(prefix)) {
		return malformed("an object without its envelope")
	}
	n, err := io.ReadFull(p.in, prefix[:])
	if !bytes.HasPrefix(magic, prefix[:n]) {
		return malformed("it is not in protobuf")
	}
	if err != nil {
		return unexpected(err)
	}
	if left != untilEnd {
		left -= int64(len(prefix))
	}
	kind, has := "", false
	err = p.fields(left, func(number uint64, length int64) (err error) {
		switch {
		case number == 1: // typeMeta
			kind, err = p.typeMeta(length)
			return err
		case number == 2 && !has: // raw
			has = true
			return object(kind, length)
		case number == 3 && length > 0: // contentEncoding
			return malformed("an object is encoded once more")
		}
		return p.discard(length)
	})
	if err == nil && !has {
		err = malformed("an envelope without an object")
	}
	return err
}

// typeMeta reads the kind of an object.
func (p *pruner) typeMeta(length int64) (kind string, err error) {
	err = p.fields(length, func(number uint64, length int64) error {
		if number != 2 {
			return p.discard(length)
		}
		kind, err = p.name(length)
		return err
	})
	return kind, err
}

func (p *pruner) name(length int64) (string, error) {
	if length > maxTypeName {
		return "", malformed("the name of a type has %d bytes", length)
	}
	name := make([]byte, length)
	err := p.read(name)
	return string(name), err
}

// fields reads a message of so many bytes: value is called for each field that has a length,
// and has to read it. The others are passed over.
func (p *pruner) fields(left int64, value func(number uint64, length int64) error) error {
	for left > 0 {
		if left == untilEnd {
			if _, err := p.in.Peek(1); errors.Is(err, io.EOF) {
				return nil
			}
		}
		room := left
		tag, err := p.varint(&room)
		if err == nil && tag&7 != wireBytes {
			err = p.skip(tag&7, &room)
		} else if err == nil {
			var length int64
			if length, err = p.length(&room); err == nil {
				err = value(tag>>3, length)
			}
		}
		if err != nil {
			return err
		}
		if left != untilEnd {
			left = room
		}
	}
	return nil
}
