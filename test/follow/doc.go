// Package follow tells a suite of the objects of a cluster, by a watch of the suite's own.
//
// What the manager says of itself is no evidence against it. A suite that wants to know what
// there was on a cluster, and in which order, follows it with [Objects] and writes down
// what it is told.
//
// A watch that is cut, as by a restart of the API server, is made again where it ended, or
// after a list of all that is there. So the last state of each object is told sooner or
// later, but not each state in between: what was made and removed again in such a gap is not
// told at all, and what was removed in one is not told to be gone. Who needs every request
// reads the audit log.
//
// What no longer fits the options, because it lost a label, is told to be gone, and to be
// there again when it has it back: a watch cannot tell the two apart.
package follow
