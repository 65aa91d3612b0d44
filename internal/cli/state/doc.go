// Package state says what a run or a connection is doing, in a few words for people.
//
// It promises that two states that a person would call the same have the same words, so
// that whoever shows changes shows nothing twice. It looks at the object only, and asks
// no server.
package state
