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
// The result is how one container ended: the one whose end decided the end of the Job. If
// that is not known, there is no exit code, and the result says why. The rules below
// follow the Job controller of Kubernetes 1.37 (pkg/controller/job).
//
// These Pods count (pods.go, failures.go). A Pod is the Job's when the Job's UID controls it; labels
// prove nothing. Of those the Job controller counts the ones that have its finalizer
// (batch.kubernetes.io/job-tracking) when they end: when it suspends or scales down a Job it
// takes the finalizer off before it deletes a Pod. Unless it waits for their end
// (podReplacementPolicy Failed, or a podFailurePolicy), it counts a Pod as failed when its deletion
// is asked for: one that is evicted, that somebody deletes, or that never had a node. When it has
// decided that the Job fails, it deletes all Pods that it does not know to have ended, and counts
// them, too. So these rules take it that a Pod was killed by the decision, and comes after the one
// that decided, if its deletion was asked for at that time (from the second before, for times have
// whole seconds, until the Job failed), if it ended after that, and if nothing disrupted it. Where
// the times are ten seconds apart at most and not in this order, it may have been: clocks differ,
// requests are sent again, others delete Pods as well. Such a Pod comes into question for any place.
//
// So does a Pod of which nobody knows when it ended: a container of it never ran, or its end was
// lost, and neither was the Pod disrupted, nor its deletion asked for, nor was it refused by the
// kubelet. (What happens to a Pod after its end, or after its deletion was asked for, is no
// disruption.)
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
//	BackoffLimitExceeded, where    if the Pods that were not over had backoffLimit restarts (or one,
//	Pods are restarted             where that is 0): the container that was started again last, a
//	                               sidecar, too, as it had ended before that; with more restarts
//	                               all must have ended alike, each container once
//	BackoffLimitExceeded, others   of the Pods that no Ignore rule matches the number
//	                               backoffLimit+1
//
// Pods of one second have no order but that those that were killed come last. All that come into
// question for the place of the one that decided must have ended alike; else the result has reason
// Ambiguous. That is also so where there are more failures than the Job has counted, unless as many
// are left without the Pods that were told to stop and then succeeded, or without those that an
// Ignore rule matches.
//
// Where a Pod is gone that the Job has counted, the rules take it that it was killed. Each of the
// others that may have been the one too many comes into question, but none that was killed. If they
// did not end alike, or if the one in the place ended more than ten seconds before the decision, the
// result has reason PodGone. Neither Ambiguous nor PodGone has an exit code.
//
// A Job controller that is not Kubernetes' own may let a Job fail by fewer failures than
// backoffLimit+1: then the last of them speaks.
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
