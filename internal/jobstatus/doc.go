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
// # Which Pod speaks for the run
//
// The result tells how one container of one Pod ended. Of a failed Job that is
// the Pod whose failure was one too many: by time of ending the failed Pod with
// the number backoffLimit+1, or the last one when fewer failed. Of a Job that
// completed it is the Pod that succeeded last. Within a Pod it is the container
// that failed first, else the first container.
//
// When no such Pod can be found although some ended, the result has reason
// PodGone and no exit code.
//
// # Before the end
//
// Until then the result says why a Pod does not run, if one does not: that it
// cannot be scheduled, or the reason for which a container waits, if it is more than
// that it is being made. The Pod that was named last is named again as long as it
// waits, and its words stand while the reason does: a back-off that grows is no news.
// They stay when the Job fails without any Pod having ended.
package jobstatus
