// Package pooledjob reconciles PooledJobs. It is the only package that writes them.
//
//	reconciler.go   what wakes a PooledJob, and what happens then
//	snapshot.go     what is known is gathered; placement.go has the clusters to choose from
//	decision/       what to do, pure
//	act.go          what the decision asks for; delete.go is for deleted PooledJobs: their Job goes first
//	dispatch.go     the Job is created; collected.go makes sure that it has not been before
//	absence.go      the Job is proven absent; gonejob.go says how its run ends then
//	standstill.go   why nothing happens is looked up
//	write.go        the hub is written to; size.go says what is too large for it
//	memory.go       what this process remembers; offload.go frees its workers
//
// A reconcile gathers a snapshot, decides on one action, acts, and writes at most
// one status patch. The decision is a pure function of the snapshot: of the state that
// it shows, the first rule that applies decides (decision.Decide).
//
//		unbound ──bind──▶ bound ──create──▶ dispatched ──observe──▶ finished
//		   │                │                    │                     │
//		   └────refuse──────┴──refuse, proven────┴─lost, proven────────┘
//
//	  - unbound: nothing was written or sent. What is missing is a condition.
//	  - bound: finalizer and intent are on the PooledJob, in one patch. From here a
//	    Job may exist on the target, whether or not anybody heard of it.
//	  - dispatched: the Job was seen. From here its absence is loss, never a reason
//	    to create.
//	  - finished: condition Complete or Failed is True. Nothing changes any more.
//
// Deletion, in any of them, deletes the remote Job in the foreground and takes the
// finalizer off when the Job's absence is proven.
//
// # What makes it exactly one Job
//
// The remote name is a function of the hub, the PooledJob's UID and the attempt, so
// a second creation is refused by the target. A Job that was created, ran and was
// deleted leaves its name free, however. So before a process continues a creation
// that it did not begin, it writes its own ID to the PooledJob (takeOver in dispatch.go): that
// fails if its cache does not show yet that the Job was seen. Before it continues its own after
// a pause, it reads the PooledJob from the hub's API server itself (isCurrent). All hub writes
// carry the resourceVersion that was read.
//
// # What makes it never a lie
//
// A verdict without the remote Job's own word needs proof of absence: a 404 that is
// a Kubernetes API server's own, then the same cluster's UID over the same
// transport, and no request of ours to create it that may still be under way.
package pooledjob
