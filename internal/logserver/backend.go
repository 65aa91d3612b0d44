package logserver

import (
	"context"
	"io"

	corev1 "k8s.io/api/core/v1"
)

// Backend is what the server needs to know of the hub, and the way to the targets.
type Backend interface {
	// Run reads a PooledJob from the hub's API server itself. The error is one to give to
	// a client, as of package errors of apimachinery.
	Run(ctx context.Context, namespace, name string) (Run, error)
	// Watch fills changed after each change of a PooledJob, until stop is called.
	Watch(namespace, name string) (changed <-chan struct{}, stop func())
	// Open returns the way to the target of a run. It need not be reachable. The error is
	// one to give to a client.
	Open(ctx context.Context, run Run) (Target, error)
}

// Run is what matters here of a PooledJob.
type Run struct {
	// UID is the PooledJob's own.
	UID string
	// Connection names the ClusterConnection, ClusterUID the cluster that was found there.
	Connection, ClusterUID string
	// Namespace is that of the Job, and JobUID is the Job's; empty while it is not known
	// to exist.
	Namespace, JobUID string
	// Ended is true if the run has its result, and Stopped if it was stopped for that: the
	// Job controller then deletes its Pods.
	Ended, Stopped bool
	// Speaker is the Pod that the result is from; empty if there is none.
	Speaker string
	// State says in a sentence how the run stands, for a client that gets no log.
	State string
}

// sameJob reports whether two readings of a run are about the same Job.
func (r Run) sameJob(other Run) bool {
	return r.UID == other.UID && r.JobUID == other.JobUID && r.Connection == other.Connection && r.ClusterUID == other.ClusterUID
}

// Target is a cluster where Pods are. Runs are identified by the UID of the PooledJob.
type Target interface {
	// Pods reads the Pods of a run.
	Pods(ctx context.Context, namespace, uid string) ([]*corev1.Pod, error)
	// WatchPods calls changed with the Pods of a run, at first and after each change,
	// until ctx is done, and failed with what keeps it from that.
	WatchPods(ctx context.Context, namespace, uid string, changed func([]*corev1.Pod), failed func(error))
	// Log opens a container's log.
	Log(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error)
	// Close gives the target back, after everything that was asked of it has ended.
	Close()
}
