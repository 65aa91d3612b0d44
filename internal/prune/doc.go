// Package prune reads what a Kubernetes API server answers in protobuf, and keeps of each
// object only the fields that a Schema names. What it keeps is protobuf again, for the
// Unmarshal method of the object's type.
//
// The server is not trusted. An answer that nobody could hold in memory is read like any
// other, because nothing of it is held but what is kept:
//
//	bytes of the answer ──▶ pruner ──▶ at most Bounds once decoded ──▶ Unmarshal
//	                           └─────▶ the rest is read and dropped, and not descended into
//
// Bytes alone bound nothing: an empty element of a list takes two bytes in an answer and
// some hundred once it is decoded. So a Schema counts what a message will take once it is
// decoded, by the sizes of the Go types, and no object takes more than its Bounds.
//
// # What happens at a bound
//
// There are two kinds of bounds. What the users of an honest cluster can write never makes
// an answer unreadable, or one of them could cut off all others:
//
//   - A Text that is longer than its bound is cut, between two characters.
//   - A List or a Map with too many elements is left out whole, as if it were not there. Half
//     of a list could be taken for all of it.
//   - A text that is worth something only as a whole is replaced by Cut when it is too long.
//   - An object that would take too much once it is decoded loses its lists, and the texts that
//     come after. A message can have Bounds of its own, so that what comes before it does not
//     use up its room.
//
// What no API server sends ends the reading with an error, and the rest of the answer with
// it: messages that are not well-formed, a field that is not repeated and comes twice, an
// Exact text that is longer than the API allows (a *LimitError), an object that is longer
// than any that an API server stores (a *LimitError).
//
// The time that an answer takes is not bounded here but by whoever reads the connection.
package prune
