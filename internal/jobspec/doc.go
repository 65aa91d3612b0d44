// Package jobspec turns a PooledJob into the batch/v1 Job to create on its
// target cluster, and makes the patches of that Job. It is pure. The Job's name and the
// intent are package binding's.
//
// What the author wrote arrives unchanged, but for these additions: the labels
// pooledjob.io/hub and pooledjob.io/uid on the Job and its Pods, the annotation
// pooledjob.io/source on the Job, and terminationMessagePolicy
// FallbackToLogsOnError on containers that leave it out.
package jobspec
