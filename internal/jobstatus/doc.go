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
// These Pods count (pods.go, failures.go). A Pod is the Job's when the Job's UID controls it; labels
// prove nothing. Of those the Job controller counts the ones that have its finalizer
// (batch.kubernetes.io/job-tracking) when they end: when it suspends or scales down a Job it
// takes the finalizer off before it deletes a Pod. Unless it waits for their end
// (podReplacementPolicy Failed, or a podFailurePolicy), it counts a Pod as failed when its deletion
// is asked for: one that is evicted, that somebody deletes, or that never had a node. When it has
// decided that the Job fails, it deletes all Pods that it has not counted, and counts them, too.
// So a Pod whose deletion was asked for at the decision (from the second before it, for times have
// whole seconds, until the Job failed), and that nothing else disrupted, comes after the one that
// decided, whenever it ended, and whatever a podFailurePolicy says of it.
//
// The end of a Pod has a time if each of its containers but the sidecars has one, if it was
// disrupted, or if the kubelet refused it. Else it ended at its deletion or later; without that
// nobody knows, and the Pod comes into question for any place in the order.
//
// These containers of a Pod count (containers.go). A state without startedAt is no end: the
// kubelet invents exit code 137 for containers that never ran. Of a Pod that failed the init
// or main container speaks that failed first, by the order of the spec where seconds are
// equal; of one that succeeded the first main container of the spec. Sidecars do not speak,
// with two exceptions: a rule of a podFailurePolicy can match one, and its restarts count.
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
//	BackoffLimitExceeded, where    if the Pods that were killed had as many restarts as the Job
//	Pods are restarted             allows: the container that was started again last, a sidecar,
//	                               too, as it had ended before that; with more restarts all must
//	                               have ended alike
//	BackoffLimitExceeded, others   of the Pods that no Ignore rule matches the number
//	                               backoffLimit+1
//
// Pods of one second have no order but that those that were killed come last. Where the order would
// matter and the Pods ended differently, or where there are more failures than the Job has counted,
// the result has reason Ambiguous. Where a Pod is gone that the Job has counted, any Pod that may
// have been the one too many comes into question, but none that was killed, for the one that decided
// may be what is gone; nor one that had ended more than ten seconds before the decision. If they did
// not end alike, the result has reason PodGone. Neither has an exit code.
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
