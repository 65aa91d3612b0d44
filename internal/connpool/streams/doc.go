// Package streams has the connections for answers without an end, such as logs. They are apart from those of
// a Pool, and may be in a process of their own, so that who reads slowly, or much, delays nothing there.
//
// Who shares a connection has a Stream. It opens logs, lists the Pods of a run (lists.go), and watches them
// (watches.go, source.go). All who list or watch the same run at a time share one list and one watch; a list
// is never shared with somebody who asked after it began. What the Pods take counts in a budget for all
// Streams and one for each connection.
package streams
