// Package logs reads what runs write, through the log API of the hub.
//
// It promises that a log that is followed is whole: a stream that breaks is asked for
// again, and nothing is lost or doubled, whether it is the log of one Pod or of several.
package logs
