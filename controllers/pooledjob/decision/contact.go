package decision

// Contact is whether the target of a run can be asked.
type Contact int

// The contacts.
const (
	// Reached: there is a lease.
	Reached Contact = iota
	// NotAsked: the target is left alone, because the run has no cluster yet, may not run there, or has
	// to be written first.
	NotAsked
	// Connecting: the connection is being made.
	Connecting
	// Away: the connection cannot be used.
	Away
	// Fenced: a person has stated that nothing runs on the cluster any more.
	Fenced
)
