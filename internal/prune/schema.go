package prune

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Fields are the fields of a message that are kept, by their names in the API.
type Fields map[string]Rule

// Rule says what is kept of a field.
type Rule struct {
	kind   ruleKind
	most   int // bytes of a text, elements of a list or a map
	value  int // bytes of a map's value
	fields Fields
	each   *Rule
	allow  func(key string) bool
	own    *Bounds
}

type ruleKind int

const (
	ruleNumber ruleKind = iota
	ruleText
	ruleExact
	ruleWhole
	ruleTime
	ruleMessage
	ruleList
	ruleMap
)

// Number keeps a number or a boolean.
func Number() Rule { return Rule{kind: ruleNumber} }

// Text keeps the first bytes of a text, at most so many.
func Text(most int) Rule { return Rule{kind: ruleText, most: most} }

// Exact keeps a text that means something only as a whole, such as a name. A longer one than
// the API allows makes the answer unusable.
func Exact(most int) Rule { return Rule{kind: ruleExact, most: most} }

// Whole keeps a text of which a part would say something else, such as a list of numbers. In the
// place of a longer one there is Cut.
func Whole(most int) Rule { return Rule{kind: ruleWhole, most: most} }

// Cut stands for a text that is too long.
const Cut = "..."

// Time keeps a metav1.Time or a metav1.MicroTime.
func Time() Rule { return Rule{kind: ruleTime} }

// Message keeps fields of a message.
func Message(fields Fields) Rule { return Rule{kind: ruleMessage, fields: fields} }

// List keeps a list of at most so many elements, of which each keeps what each says. A longer
// list is left out.
func List(most int, each Rule) Rule { return Rule{kind: ruleList, most: most, each: &each} }

// Map keeps the entries of a map of texts whose key is allowed, if they are at most so many,
// with the first bytes of their values.
func Map(most, value int, allow func(key string) bool) Rule {
	return Rule{kind: ruleMap, most: most, value: value, allow: allow}
}

// Within keeps a message within bounds of its own, which what comes before it cannot use up.
func Within(bounds Bounds, message Rule) Rule {
	message.own = &bounds
	return message
}

// Schema says what is kept of an object.
type Schema struct {
	kind   string
	bounds Bounds
	root   *message
}

// Bounds are how many bytes an object may take once it is decoded: its Go types, and its
// texts. They are more than an object takes of which all lists and texts are empty.
type Bounds struct{ Types, Texts int }

// NewSchema returns a Schema for objects of the type that example points to, whose kind has
// that name. It panics when the type does not have the fields: a Schema is part of a program,
// not input.
func NewSchema(example any, kind string, bounds Bounds, fields Fields) *Schema {
	return &Schema{kind: kind, bounds: bounds, root: compile(reflect.TypeOf(example).Elem(), fields)}
}

// message is what is kept of a message.
type message struct {
	size   int // of the Go type, in bytes
	fields map[uint64]*field
}

// field is what is kept of a field.
type field struct {
	kind     ruleKind // never ruleList
	index    int      // among those of its message
	wire     uint64
	most     int // bytes of a text or a value
	elements int // of a list or a map; 0 for what is not repeated
	allow    func(key string) bool
	message  *message
	own      *Bounds
}

// maxFields is how many fields of one message can be kept.
const maxFields = 24

func compile(t reflect.Type, fields Fields) *message {
	require(len(fields) <= maxFields, "%s: too many fields", t)
	m := &message{size: int(t.Size()), fields: make(map[uint64]*field, len(fields))}
	for name, rule := range fields {
		number, goType := find(t, name)
		f := compileField(goType, rule, t.Name()+"."+name)
		f.index = len(m.fields)
		m.fields[number] = f
	}
	return m
}

func compileField(t reflect.Type, rule Rule, path string) *field {
	elements := 0
	if rule.kind == ruleList {
		require(t.Kind() == reflect.Slice, "%s is no list", path)
		elements, rule, t = rule.most, *rule.each, t.Elem()
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	f := &field{kind: rule.kind, wire: wireBytes, most: rule.most, elements: elements, allow: rule.allow, own: rule.own}
	switch rule.kind {
	case ruleNumber:
		require(t.Kind() == reflect.Bool || t.Kind() == reflect.Int32 || t.Kind() == reflect.Int64, "%s is no number", path)
		f.wire = wireVarint
	case ruleText, ruleExact, ruleWhole:
		require(t.Kind() == reflect.String, "%s is no text", path)
	case ruleTime:
		require(t == reflect.TypeFor[metav1.Time]() || t == reflect.TypeFor[metav1.MicroTime](), "%s is no time", path)
		f.message = timeMessage()
	case ruleMessage:
		require(t.Kind() == reflect.Struct, "%s is no message", path)
		f.message = compile(t, rule.fields)
	case ruleMap:
		require(t == reflect.TypeFor[map[string]string](), "%s is no map of texts", path)
		f.elements, f.most = rule.most, rule.value
	case ruleList:
		require(false, "%s: a list of lists", path)
	}
	return f
}

// timeMessage returns metav1.Time as protobuf has it: seconds and nanoseconds.
func timeMessage() *message {
	return &message{size: int(reflect.TypeFor[metav1.Time]().Size()), fields: map[uint64]*field{
		1: {kind: ruleNumber, index: 0, wire: wireVarint}, 2: {kind: ruleNumber, index: 1, wire: wireVarint},
	}}
}

// find returns the number and the Go type of a field. One that is inlined has the name of its
// Go field.
func find(t reflect.Type, name string) (uint64, reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := strings.Split(f.Tag.Get("protobuf"), ",")
		if len(tag) < 3 || (f.Name != name && !slices.Contains(tag, "name="+name)) {
			continue
		}
		number, err := strconv.ParseUint(tag[1], 10, 29)
		require(err == nil, "%s.%s: %v", t, name, err)
		return number, f.Type
	}
	require(false, "%s has no field %s", t, name)
	return 0, nil
}

func require(holds bool, format string, args ...any) {
	if !holds {
		panic("prune: " + fmt.Sprintf(format, args...))
	}
}
