package store

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// packer turns a Job or a Pod into bytes, or bytes into one again. The same walk over the
// fields does both, so that what is written is what is read; what the walk does not come by
// is not kept. A Job takes about 60 bytes so, where its type takes 1,400 before it has any
// content.
type packer struct {
	labels  *Labels
	reading bool
	bytes   []byte // written so far
	rest    string // still to be read; texts that are read are parts of it
}

// pack returns what walk keeps.
func (l *Labels) pack(walk func(*packer)) string {
	var room [512]byte
	p := &packer{labels: l, bytes: room[:0]}
	walk(p)
	return string(p.bytes)
}

// unpack fills what walk comes by from what pack returned for the same walk.
func (l *Labels) unpack(packed string, walk func(*packer)) {
	walk(&packer{labels: l, reading: true, rest: packed})
}

func number[T ~int32 | ~int64](p *packer, v *T) {
	if !p.reading {
		p.bytes = binary.AppendVarint(p.bytes, int64(*v))
		return
	}
	*v = T(p.readVarint())
}

func words[T ~string](p *packer, v *T) {
	length := int64(len(*v))
	number(p, &length)
	if !p.reading {
		p.bytes = append(p.bytes, *v...)
		return
	}
	*v, p.rest = T(p.rest[:length]), p.rest[length:]
}

func flag(p *packer, v *bool) {
	if !p.reading {
		bit := byte(0)
		if *v {
			bit = 1
		}
		p.bytes = append(p.bytes, bit)
		return
	}
	*v, p.rest = p.rest[0] == 1, p.rest[1:]
}

// moment keeps whole seconds, as the API does.
func moment(p *packer, v *metav1.Time) {
	known := !v.IsZero()
	flag(p, &known)
	if !known {
		return
	}
	seconds := v.Unix()
	number(p, &seconds)
	if p.reading {
		*v = metav1.NewTime(time.Unix(seconds, 0))
	}
}

// identity keeps a UID: one that is a UUID, as those of API servers are, in 16 bytes.
func identity(p *packer, uid *types.UID) {
	raw, err := hex.DecodeString(strings.ReplaceAll(string(*uid), "-", ""))
	short := err == nil && len(raw) == uuidSize && uuidOf(raw) == *uid
	flag(p, &short)
	switch {
	case !short:
		words(p, uid)
	case !p.reading:
		p.bytes = append(p.bytes, raw...)
	default:
		*uid, p.rest = uuidOf([]byte(p.rest[:uuidSize])), p.rest[uuidSize:]
	}
}

const uuidSize = 16

// uuidOf writes a UUID as API servers do.
func uuidOf(raw []byte) types.UID {
	return types.UID(fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:]))
}

func optional[T any](p *packer, v **T, walk func(*packer, *T)) {
	has := *v != nil
	flag(p, &has)
	if !has {
		return
	}
	if p.reading {
		*v = new(T)
	}
	walk(p, *v)
}

func list[T any](p *packer, v *[]T, walk func(*packer, *T)) {
	length := int64(len(*v))
	number(p, &length)
	if p.reading && length > 0 {
		*v = make([]T, length)
	}
	for i := range *v {
		walk(p, &(*v)[i])
	}
}

// readVarint reads what AppendVarint wrote.
func (p *packer) readVarint() int64 {
	var bits uint64
	for shift := 0; ; shift += 7 {
		next := p.rest[0]
		p.rest = p.rest[1:]
		bits |= uint64(next&0x7f) << shift
		if next < 0x80 {
			break
		}
	}
	return int64(bits>>1) ^ -int64(bits&1) //nolint:gosec // it is what was written
}
