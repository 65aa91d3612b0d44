// Package chaos breaks everything around the manager, and the manager itself, and
// checks that PooledJob keeps its promises.
//
// A hub and three targets run as real API servers with real Job controllers, each
// behind a fault proxy; managers are real processes. While PooledJobs of every kind run,
// faults come one after the other. Afterwards a ledger that owes nothing to the manager
// is checked: the targets' audit logs, and watches of the suite's own. It says that each
// run had one Job, that each result is the remote Job's, that no foreign object was
// touched, that nothing is left behind, and that every outage was reported.
//
// Some targets collect: a policy gives each Job a TTL of a second, or a script deletes those
// that have finished. There a run may end without a result, but only if its Job is gone and
// something disturbed the manager or its way meanwhile, and never may it have a second Job.
//
//   - killpoints_test.go kills the manager before and after each API call of one job's
//     life, one by one.
//   - storm_test.go runs many jobs (kinds_test.go) under many faults (faults_test.go).
//   - lies_test.go has Jobs that only seem to be gone, late_test.go requests that come later
//     than they seem.
//   - collected_test.go has Jobs complete and be collected while nobody looks.
//   - kept_test.go deletes PooledJobs whose Job is to stay, orphans_test.go has clusters go away
//     that are then fenced, or given up, and come back with what was left on them.
//   - leader_test.go changes the leader, also by one that stands still and comes back.
//
// go test runs a short form of a few minutes. These environment variables make it longer:
//
//	CHAOS_DURATION  how long storms shall go on (such as 2h); also runs every kind
//	                through every kill point, and what takes minutes
//	CHAOS_JOBS      how many PooledJobs a storm has
//	CHAOS_SEED      the seed of the storms' choices; printed by each run
//	CHAOS_MANAGER   another manager program than bin/manager
//
// The seed decides what is done and in which order. What the machine makes of it also
// depends on its speed, so a seed makes a failure likely to come again, not certain.
package chaos
