// Package decision says what to do about a PooledJob. It is pure: a Snapshot has everything that it is made
// from, with the time, and nothing here asks the hub or a target.
//
//	snapshot.go   what is known: PooledJob, connection, Job and Pods in view
//	memory.go     what the process remembers of its own requests
//	rules.go      the states that a PooledJob may be in, and the rules of each
//	decide.go     what the rules say: verbs, words, questions; failover.go and refusal.go have more
//
// Of the state that a Snapshot shows, the first rule that applies decides. An Action carries the name of its
// rule, which is logged, and a test sees to it that every rule decides somewhere.
package decision
