// Package logserver serves the logs of PooledJobs on the hub, from the clusters where their
// Pods are, to people and programs that have no credentials there. It is an aggregated
// API: the hub's API server passes requests on to it.
//
//	GET /apis/stream.pooledjob.io/v1alpha1/namespaces/{namespace}/pooledjobs/{name}/log
//
// # What it promises
//
// Who may not read the PooledJob, or has not the right to get pooledjobs/log in the group
// stream.pooledjob.io, gets nothing. Who asks, and what that one may, the hub decides: by
// the libraries that every aggregated API server uses. Only Pods of the Job that
// the PooledJob's status names are read, and only in the cluster that it was bound to.
//
// A log that is followed comes whole, each line once and in its order: over connections that
// break, and containers that are started again. Following begins before there is a Pod and
// ends when the run has ended and everything is read. A response that ends in any other way
// is broken off, never ended as if it were complete.
//
// Nothing is collected: what the client does not read, the target is not asked for. A
// client that goes away ends what was asked for on its behalf at once. How many are
// served at a time is bounded, for each user and for each connection.
//
// # How a log is followed
//
//	                  ┌── hub: has the run a Job? has it ended?
//	request ── view ──┤
//	            │     └── target: which Pods are there, what do their containers do?
//	            ▼
//	         which Pods to read now ──▶ for each: read, until its container will not go on
//
// The states of one Pod that is followed:
//
//	not started ── the container runs, or ran ──▶ reading
//	not started ── the Pod or the run has ended ──▶ done
//	reading ── the stream breaks ──▶ reading, from there on
//	reading ── it breaks, and the Pod is gone ──▶ the response is broken off
//	reading ── the log ends, and asked again it has nothing more ──▶ read
//	read ── the container was started again ──▶ reading
//	read ── the Pod has ended or is gone, or the run has ended ──▶ done
//
// The request is done when the run has ended and each Pod is done that is to be read. Of a
// run with several Pods that is the newest, and then those that are made after it;
// or with allPods each.
package logserver
