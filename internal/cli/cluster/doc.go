// Package cluster makes clients for the clusters that the user has access to: the hub,
// and a target while it is connected or disconnected.
//
// It promises that making a client asks the server nothing, so that a user needs no more
// rights than for the objects themselves, and that no request waits for a rate limit.
package cluster
