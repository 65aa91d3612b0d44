// Command bench measures PooledJob beside what it competes with, on one machine and in one
// run: `make bench`. docs/performance.md has its results and tells how to read them.
//
// # What is measured
//
// A world is a hub and targets, real API servers with etcd, and the manager as a process
// of its own, with the rights that it would have. The driver creates and deletes
// PooledJobs; a simulator plays the targets' controllers, so that what is measured is not
// the Job controller; watches of the driver's own, on the hub and on the targets, tell when
// what happened. All of that is plain HTTP and JSON and uses nothing of the manager's code,
// and it is the same for every variant.
//
// Beside the manager run, in the same world and in turn with it:
//
//   - the floor: the requests that no such system can do without, as fast as they go, with
//     nobody who watches or decides;
//   - a client for each task, as Apache DolphinScheduler has it.
//
// # What can be said with it
//
// Times and rates depend on the machine, and on what else it does: only ratios within one
// run mean something, and no time fails a run. What is counted, requests, connections,
// watches and Jobs, must be as promised: else the run fails.
package main
