// Package clusterconnection connects ClusterConnections and shows their state.
//
//	reconciler.go   one ClusterConnection is looked at: finalizer, connect, count, status
//	connect.go      hands the kubeconfig to the pool
//	identitychanges.go  how often a connection may change its credential
//	connections.go  what is needed of the pool
//	token.go        tokens of ServiceAccounts are renewed before they end
//	usage.go        status.jobs, and when a connection may sleep
//	memory.go       what one process remembers of a connection
//	conditions.go   what is known of a connection, as conditions and Events
//
// A connection belongs to the pool: the reconciler hands it the kubeconfig, and shows its state. The
// credential is swapped by the pool, which keeps the one in use until the next has proven itself; in the
// Secret it is swapped by package credentials.
package clusterconnection
