// Package transport sends requests to one target and reads its answers.
//
// A Transport has the clients of one session. Its requests go over one TCP connection (wire.go); over a new
// one nothing is sent before it is proven to lead to the same cluster. Sockets are counted, paced and closed
// together, and the addresses of cloud metadata services are never dialled (sockets.go).
//
// Every answer passes through one place (answers.go). Each is bounded there, or is read as it comes, by the
// fields that a schema names, and at a pace (pacing.go). The events of a watch are decoded by Events and
// guarded by a Guard, which ends a watch that says nothing for too long. What a target says of errors is cut, and
// never has the credential in it (redact.go).
//
// net/http's own pool would dial without notice: behind the same address another cluster may have appeared
// meanwhile. That is why there is a wire of our own.
package transport
