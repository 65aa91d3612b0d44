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
//     while it waits for the Pod of its next try.
//
// The phase is derived from the conditions, in one place:
//
//	Complete=True                      Succeeded
//	Failed=True                        Failed
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
package jobstatus
