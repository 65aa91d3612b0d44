// Package jobstatus says what a remote Job and its Pods mean for a PooledJob's
// status. It is pure.
//
// Three rules govern it:
//
//   - Succeeded and Failed come from the remote Job's own Complete and Failed
//     conditions, or from a failure that the caller has proven. Counters, Pods and
//     times decide nothing.
//   - A terminal result is final: once Complete or Failed is True nothing here
//     changes the status again, whatever is observed later.
//   - The order of phases never regresses: a run that has started stays started
//     while it waits for the Pod of its next try. Two things begin it anew, and say
//     so: resuming a suspended Job, and moving the run to another cluster.
//
// The phase is derived from the conditions, in one place:
//
//	Complete=True                      Succeeded
//	Failed=True                        Failed
//	Suspended=True                     Suspended
//	Dispatched=True, reason Started    Running
//	anything else                      Pending
//
// # Who speaks for a run that has ended
//
// The result tells how one container ended: the one whose end decided the Job's fate. If
// that cannot be told there is no exit code, and the result says why. The rules below
// follow the Job controller of Kubernetes 1.37 (pkg/controller/job).
//
// These Pods count (pods.go). A Pod is the Job's when the Job's UID controls it; labels
// prove nothing. Of those the Job controller counts the ones that have its finalizer
// (batch.kubernetes.io/job-tracking) when they end: when it suspends or scales down a Job it
// takes the finalizer off before it deletes a Pod. A Pod was stopped when its deletion was
// asked for before its end, to the second; that ranks it behind those that ended by
// themselves, and does not exclude it: an evicted Pod, or one that somebody deletes, counts as
// a failure, also when it never had a node.
//
// These containers of a Pod count (containers.go). A state without startedAt is no end: the
// kubelet invents exit code 137 for containers that never ran. Of a Pod that failed the init
// or main container speaks that failed first, by the order of the spec where seconds are
// equal; of one that succeeded the first main container of the spec. Sidecars do not speak,
// with one exception: a rule of a podFailurePolicy can match one.
//
// The first rule that applies decides (rules.go):
//
//	verdict                        who speaks
//	Complete, no Pod succeeded     nobody: a Job without completions
//	Complete                       the Pod that succeeded last; after a successPolicy, of the
//	                               indexes that its rule names
//	PodFailurePolicy               the Pod and container that the condition's message names, if
//	                               the Pod agrees; else the first Pod that a FailJob rule matches
//	DeadlineExceeded, or cancel    nobody decided: the exit code is that of the containers that
//	                               were stopped, if all agree; without any, what the Pods waited
//	                               for stays
//	MaxFailedIndexesExceeded       the index that was one too many, by its last Pod
//	FailedIndexes                  the index that failed first, by its last Pod
//	BackoffLimitExceeded, where    of the Pods that were stopped the container that was started
//	Pods are restarted             again last, as it had ended before that
//	BackoffLimitExceeded, others   of the Pods that no Ignore rule matches the number
//	                               backoffLimit+1
//
// The Job controller decides by the failure that is one too many, and then kills the other
// Pods, which fail later or in the same second. Times have whole seconds, so Pods of one second
// have no order but this: those that were killed in it come after those that ended by themselves
// or were disrupted. A Pod that somebody else deletes in that very second looks like a killed
// one.
//
// Where the order would matter and the Pods ended differently, the result has reason
// Ambiguous. Where a Pod is gone that the Job has counted, any Pod that may have been the one
// too many comes into question; if they did not end alike, the result has reason PodGone. Neither
// has an exit code.
//
// # Before the end
//
// Until then the result says why a Pod does not run, if one does not: that it
// cannot be scheduled, or the reason for which a container waits, if it is more than
// that it is being made. The Pod that was named last is named again as long as it
// waits, and its words stand while the reason does: a back-off that grows is no news.
// They stay when the Job fails without any container having started. If nothing waits, the
// result says which container of a Pod has ended while another goes on.
package jobstatus
