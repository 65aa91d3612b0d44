// Package binding binds a run of any Kind to one cluster, so that it has at most one remote object there. It is
// pure but for Prove, which asks the target.
//
//	names.go    the name and the labels of the remote object
//	intent.go   what is written to the hub before the first request to the target
//	proof.go    how the remote object is proven absent
//
// # What it promises
//
// The name of a remote object is a function of the hub, the UID of its object on the hub and the attempt, and of
// nothing else: whoever creates it, however often and from whichever process, creates the same one, and the
// target's API server refuses the second. That is the ground on which "at most one" stands, so the name of an
// attempt must never change between versions of this program.
//
// An intent is on the hub before anything is sent to the target, so that every later process knows where to
// look. Its author can change annotations, but can have nothing created or deleted by them that the spec and the
// status do not say.
//
// A remote object is absent when the cluster that the run is bound to has said that there is none of its name, no
// other cluster can have said so in its place, and no request to create it can still take effect.
package binding
