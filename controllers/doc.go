// Package controllers sets up what is registered with a manager: the reconcilers and what they share, which is
// the pool of connections, the cache of the hub and the figures. Each is a package of its own:
//
//	controllers/pooledjob          a PooledJob is decided on, its Job created, and its end written
//	controllers/clusterconnection  a ClusterConnection is connected, and its state shown
//	controllers/orphan             Jobs are found that no PooledJob stands behind
//	controllers/credentials        kubeconfigs are read, and their tokens swapped
//	controllers/logs               what the log API needs of the hub and of targets
//
// Only these read and write the hub.
package controllers
