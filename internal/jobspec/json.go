package jobspec

import (
	"bytes"
	"encoding/json"
	"iter"
)

// This file changes JSON without decoding it. What takes some bytes of JSON can take hundreds of
// times as many once it is decoded, and can take for ever to decode; and a field that this program
// does not know stays as it is. All JSON here was found to be valid before.

// change writes a value in place of another, which is nil when there was none.
type change func(out *bytes.Buffer, value []byte)

// field is the change of a field of an object.
type field struct {
	name   string
	change change
	// ifThere leaves it out where it is missing.
	ifThere bool
}

// changes are those of the fields of an object, in the order of those that were missing.
type changes []field

// change writes an object with these changes; what is no object stands for an empty one.
func (c changes) change(out *bytes.Buffer, object []byte) {
	out.WriteByte('{')
	separate := separator(out)
	done := make([]bool, len(c))
	for name, value := range members(object) {
		separate()
		write := asItIs
		for i := range c {
			if c[i].name == name {
				write, done[i] = c[i].change, true
			}
		}
		writeName(out, name)
		write(out, value)
	}
	for i := range c {
		if !done[i] && !c[i].ifThere {
			separate()
			writeName(out, c[i].name)
			c[i].change(out, nil)
		}
	}
	out.WriteByte('}')
}

// each writes a list of which each element is changed; what is no list stays as it is.
func each(element change) change {
	return func(out *bytes.Buffer, list []byte) {
		if !begins(list, '[') {
			asItIs(out, list)
			return
		}
		out.WriteByte('[')
		separate := separator(out)
		for value := range items(list) {
			separate()
			element(out, value)
		}
		out.WriteByte(']')
	}
}

// asItIs writes a value as it was, or null.
func asItIs(out *bytes.Buffer, value []byte) {
	if value == nil {
		value = []byte("null")
	}
	out.Write(value)
}

// is writes a value, whatever was there.
func is(value any) change {
	return func(out *bytes.Buffer, _ []byte) { out.Write(encoded(value)) }
}

// isUnlessSet writes a text where there is none, or an empty one.
func isUnlessSet(text string) change {
	return func(out *bytes.Buffer, value []byte) {
		if value == nil || string(value) == `""` || string(value) == "null" {
			value = encoded(text)
		}
		out.Write(value)
	}
}

func writeName(out *bytes.Buffer, name string) {
	out.Write(encoded(name))
	out.WriteByte(':')
}

// encoded returns a text, a boolean or the like in JSON.
func encoded(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // nothing that can fail is encoded here
	}
	return data
}

// separator writes a comma each time but the first.
func separator(out *bytes.Buffer) func() {
	first := true
	return func() {
		if !first {
			out.WriteByte(',')
		}
		first = false
	}
}

// members returns the names and values of an object; of what is none there are none.
func members(object []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		if !begins(object, '{') {
			return
		}
		for at := next(object, 1); object[at] != '}'; {
			end := endOf(object, at)
			var name string
			_ = json.Unmarshal(object[at:end], &name) // which is valid
			at = next(object, next(object, end)+1)    // after the colon
			end = endOf(object, at)
			if !yield(name, object[at:end]) {
				return
			}
			at = afterComma(object, end)
		}
	}
}

// items returns the elements of a list.
func items(list []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for at := next(list, 1); list[at] != ']'; {
			end := endOf(list, at)
			if !yield(list[at:end]) {
				return
			}
			at = afterComma(list, end)
		}
	}
}

func begins(value []byte, with byte) bool { return len(value) > 0 && value[0] == with }

// next returns where the next character is that is no space.
func next(data []byte, at int) int {
	for data[at] == ' ' || data[at] == '\t' || data[at] == '\n' || data[at] == '\r' {
		at++
	}
	return at
}

func afterComma(data []byte, at int) int {
	if at = next(data, at); data[at] == ',' {
		at = next(data, at+1)
	}
	return at
}

// endOf returns where the value ends that begins at a place.
func endOf(data []byte, at int) int {
	depth := 0
	for ; ; at++ {
		switch data[at] {
		case '"':
			at = endOfText(data, at) - 1
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		default:
			if depth == 0 {
				return endOfWord(data, at)
			}
		}
		if depth == 0 {
			return at + 1
		}
	}
}

func endOfText(data []byte, at int) int {
	for at++; data[at] != '"'; at++ {
		if data[at] == '\\' {
			at++
		}
	}
	return at + 1
}

// endOfWord returns where a number, true, false or null ends.
func endOfWord(data []byte, at int) int {
	for at < len(data) && bytes.IndexByte([]byte(",]} \t\n\r"), data[at]) < 0 {
		at++
	}
	return at
}
