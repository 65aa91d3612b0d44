// Package connect has the commands connect and disconnect: what the manager needs on a
// target, the ClusterConnection on the hub, and the kubeconfig between them.
//
// It promises that an object that connect did not make, for this connection of this hub,
// is never changed and never deleted; that everything is looked at before anything is
// changed; and that a token is never printed.
package connect
