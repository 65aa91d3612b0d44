// Package connpool keeps one connection to each target cluster: one transport,
// one client and two shared informers, one for Jobs and one for Pods, which hold
// only the objects that a label selector picks and of those only the fields that a
// run needs.
//
// # Life cycle
//
// Connect starts a connection and returns at once. A goroutine per connection
// then runs sessions, one after the other, until Disconnect or the end of the
// pool's context:
//
//	Connecting ──▶ Ready ──▶ Unreachable | Rejected | Forbidden | IdentityChanged
//	     ▲                          │
//	     └──── after a back-off ◀───┘
//
// A session opens a transport, proves who answers (the version, and the UID of
// the namespace kube-system, which tells clusters apart), starts the informers and
// becomes Ready when both have listed everything. It ends when its probe has
// failed three times in a row, when the target rejects the credentials or denies
// a right, and when the connection is closed. Nothing of a session outlives it:
// the next one dials anew and lists anew, so a Ready connection never shows what
// an older one saw. Watches that end by themselves are no such event: the
// informers resume them.
//
// # Leases
//
// A stopped informer goes on answering from its last view without an error. So
// nobody holds a client or an informer: consumers take a Lease each time they
// need the target, and every call that reads or asks fails with ErrClosed once the
// session has ended. Lease fails at once, with the reason, while the connection is not
// Ready; nobody waits for a target.
//
// # Locking
//
// Pool.mu guards the map of connections and connection.mu the state of one. Both
// are held for a few assignments only: never while dialling, calling or waiting,
// and never while calling OnState or OnChange. Those callbacks come from the
// connection's goroutines and must not block.
package connpool
