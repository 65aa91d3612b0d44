// Package controllers reconciles ClusterConnections and PooledJobs. It is the only
// package that reads and writes the hub.
//
// # ClusterConnection
//
// Its reconciler turns the kubeconfig Secret into a connection of the pool, and
// the pool's state into conditions. Nobody else connects or disconnects. A deleted
// ClusterConnection stays connected until no PooledJob needs it to clean up. Where its
// spec asks for it, the ServiceAccount's token in the Secret is renewed in good time;
// clusterconnection_token.go says what is promised.
//
// # PooledJob
//
// A reconcile gathers a snapshot, decides on one action, acts, and writes at most
// one status patch. The decision is a pure function of the snapshot (decide), a
// chain of rules in which the first that applies wins.
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
// deleted leaves its name free, however; so before a process continues a creation
// that it did not begin, it reads the PooledJob from the hub's API server itself
// (a cache may not show yet that the Job was seen). All hub writes carry the
// resourceVersion that was read.
//
// # What makes it never a lie
//
// A verdict without the remote Job's own word needs proof of absence: a 404 that is
// a Kubernetes API server's own, then the same cluster's UID over the same
// transport, and no request of ours to create it that may still be under way.
package controllers
