// Package health checks what people and programs see at a glance of PooledJobs and
// ClusterConnections in each of their states: the columns of kubectl get, the health by kstatus, and
// that by the checks of config/gitops for Flux and Argo CD. The objects are those of a running
// manager.
package health
