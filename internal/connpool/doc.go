// Package connpool keeps one connection to each target cluster and identity: one
// TCP connection, one client, and shared informers of Jobs and Pods, which hold only
// the objects that a label selector picks and of those only the fields that a run
// needs. A connection takes 11 goroutines and about 70 KiB of live heap, and a Job with
// its Pod about 600 bytes.
//
// Whoever uses a Pool needs two nouns of it: a connection, which has a name and a Status, and a Lease, which is
// taken each time that a target is needed. All others are of this package alone.
//
// # Who is who
//
//	member ──hold──▶ entry ──▶ session ──▶ transport ──▶ wire ──▶ TCP connection
//	(a name)     (an identity)    │
//	                              └─▶ view ──▶ two informers   (one view per namespace, or one for all)
//
// A member is a connection as its user knows it, by its name. An entry is one
// Identity: server, CA and the whole credential. Members whose identities are equal
// hold the same entry; the last one that lets go closes it. Different identities
// share nothing, also not behind the same address.
//
// # Where is what
//
//	pool.go            what a user of the pool calls; config.go and state.go have its words
//	lease.go           what a run sees; requests.go what it asks the target; admission.go and gate.go bound how
//	                   many calls are under way
//	tokenrequest.go    the target is asked for a token
//	member.go          a connection by its name, and its status; rotation.go swaps its credential
//	entry.go           sessions, one after the other
//	session.go         one session: probes, views, why it ends; reviews.go says which rights are missing
//	view.go            one view, and when it is denied; informers.go lists and watches for it
//	transitions.go     changes of the pool by sessions and views, and the calls of OnState
//	news.go            how often OnChange is called for a run
//
// # Life cycle of an entry
//
// A goroutine per entry runs sessions, one after the other, as long as somebody holds
// the entry and needs it:
//
//	Connecting ──▶ Ready ──▶ Unreachable | Rejected | Forbidden | LimitExceeded
//	     ▲           │                │
//	     │           └──▶ Idle        │
//	     └── when leased ──┘          │
//	     └──────── after a back-off ──┘
//
// A session opens a transport, starts the views, and is put in use when every view
// has come to a first result and a probe was answered. It ends when its probe has
// failed three times in a row, when a probe or a watch is rejected for its credentials (a call
// that is, only causes a probe at once), when another cluster answers, when nobody needs it, and when the entry is
// closed. Nothing of a session outlives it: the next one dials anew and lists anew.
// Watches that end by themselves are no such event, nor is a TCP connection that
// breaks: the wire makes another, and the informers resume where they were.
//
// Behind one address another cluster may answer from one TCP connection to the next.
// So the wire sends nothing over a new one but the question for the UID of the
// namespace kube-system, until that is answered as before. (Where that is denied it
// also asks which rights are missing.)
//
// A view that is denied a right does not end the session: it stops, the target is
// asked which rights are missing, and it is tried again after a while. A watch that
// is silent for long is opened again; when that brings nothing either, the view is
// Stale.
//
// # What is watched
//
// An informer is a reflector of client-go and, as its store, the half of the view's that
// is for its kind. The store keeps records, not objects: each has a name, a key, and the
// rest packed into bytes. A Job or Pod is made of it for whoever asks, who may change it.
// An event that changes no byte is no news: OnChange is not called.
//
//	TCP ──▶ net/http ──▶ answers ──▶ prune ──▶ reflector ──▶ store ──▶ OnChange
//
// A guard stands in the place of a watch's body, counts each event, and ends the watch when
// there is none. Between two arrows there is no timer and no queue.
//
// # Packages below
//
// Package transport sends requests and reads answers, package store holds what the informers bring, package budget
// bounds what all this takes, package sanitize says what of an answer can be believed, and package pause has
// the pauses. Package streams has the connections for logs; a Pool knows nothing of it.
//
// # Bounds
//
// Nothing that a target answers, and nothing that users of an honest target write there, can take
// memory without bound:
//
//	headers of an answer               64 KiB (net/http)
//	answers that nobody reads          512 KiB each, 2 MiB of one TCP connection (HTTP/2)
//	answers that are taken whole       64 KiB (answers)
//	an object, also in lists, watches  what its schema keeps, counted as it is decoded
//	Jobs and Pods of a connection      MaxMemory and 4 KiB for each of its runs, and half as much
//	                                   again while a list comes
//	Jobs and Pods of all connections   four times MaxMemory, beside what their runs account for; beyond
//	                                   it the connection that holds the most is given up (package budget)
//	looks at runs                      the largest counts there as well, in steps of 64 KiB
//	                                   (package store)
//	Jobs and Pods that went            about an eighth of a connection's each
//	a list of the Pods of a run        2 MiB beside those that are in view; of lists above 64 KiB
//	                                   two of a connection are read at a time, and count as lists that come
//	                                   (package store)
//	Pods of those who read logs        128 MiB, of one connection 64 MiB, of one run 16 MiB
//	how fast lists and watches come    16 MiB a second after the first 64 MiB (transport/pacing.go)
//	and answers to single requests     another 16 MiB a second
//	how often runs are looked at       500 times a second for each CPU after the first 20,000 of a
//	                                   connection, none later than after 10 s; a run of more than 25
//	                                   objects once in 2 ms for each of them, or in 10 s (news.go)
//
// Answers are in protobuf only: of JSON no field can be read alone. A target that exceeds a
// limit is LimitExceeded, or the view is that exceeds it, and is tried again after LimitPause.
//
// # Rotation
//
// An entry never changes its identity. When a member is connected with another one,
// it holds two entries: the current goes on, the next has to become Ready. Then they
// are swapped, and the member lets go of the former: calls under way may end, watches
// end at once, for a watch outlives the credential that it was opened with.
//
// # Leases
//
// A stopped informer goes on answering from its last view without an error. So
// nobody holds a client or an informer: consumers take a Lease each time they
// need the target, and every request, Job and Pods fail with ErrClosed once the
// session has ended. Lease fails at once, with the reason, while the connection is not
// Ready; nobody waits for a target. Nor does anybody wait in front of a busy one:
// the gate refuses what is too much, and OnChange is called when there is room.
//
// # Locking
//
// Pool.mu guards everything that is marked so: members, entries, and of sessions and
// views what is not fixed or atomic. It is held for assignments only: never while
// dialling, calling or waiting, and never while calling OnState or OnChange. The locks
// of wire, sockets and stores are leaves. OnState and
// OnChange come from the pool's goroutines and must not block.
//
// Contexts descend from the pool's, never from a caller's, and carry no logger: a
// target can send back the credential that it was sent, and client-go would log it.
package connpool
