// Package jobspec turns a PooledJob into the batch/v1 Job to create on its
// target cluster, and names it. It is pure.
//
// The name is a function of the hub, the PooledJob's UID and the attempt, and of
// nothing else: whoever creates the Job, however often and from whichever
// process, creates the same one, and the target's API server refuses the second.
// That is the ground on which "at most one remote Job" stands, so the name of an
// attempt must never change between versions of this program.
//
// What the author wrote arrives unchanged, but for these additions: the labels
// pooledjob.io/hub and pooledjob.io/uid on the Job and its Pods, the annotation
// pooledjob.io/source on the Job, and terminationMessagePolicy
// FallbackToLogsOnError on containers that leave it out.
package jobspec
