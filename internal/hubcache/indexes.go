package hubcache

import (
	"cmp"
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// Indexes of the hub's caches.
const (
	// JobsByCluster finds the PooledJobs of a ClusterConnection.
	JobsByCluster = "cluster"
	// JobsInNeed finds the PooledJobs of a ClusterConnection that still need it:
	// those that are not finished, and those that have something to clean up.
	JobsInNeed = "unfinished"
	// ConnectionsBySecret finds the ClusterConnections that use a Secret.
	ConnectionsBySecret = "spec.kubeconfigSecretRef.name"
	// ConnectionsByFence finds the ClusterConnections that state a fence of the
	// cluster of that UID.
	ConnectionsByFence = "fence"

	// AnyCluster is where JobsInNeed has the PooledJobs that wait for a cluster to
	// be chosen. No ClusterConnection can have that name.
	AnyCluster = "*"
)

// AddIndexes adds the indexes that the reconcilers look things up by. It must be
// called once, before the caches start.
func AddIndexes(ctx context.Context, indexer client.FieldIndexer, hubID string) error {
	indexes := []struct {
		object  client.Object
		field   string
		extract func(client.Object) string
	}{
		{&v1alpha1.PooledJob{}, JobsByCluster, func(o client.Object) string { return ClusterOf(o, hubID) }},
		{&v1alpha1.PooledJob{}, JobsInNeed, func(o client.Object) string { return clusterInNeed(o, hubID) }},
		{&v1alpha1.ClusterConnection{}, ConnectionsBySecret, secretOf},
		{&v1alpha1.ClusterConnection{}, ConnectionsByFence, func(o client.Object) string { return o.GetAnnotations()[v1alpha1.AnnotationFenced] }},
	}
	for _, index := range indexes {
		err := indexer.IndexField(ctx, index.object, index.field, func(o client.Object) []string {
			if value := index.extract(o); value != "" {
				return []string{value}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("adding index %s: %w", index.field, err)
		}
	}
	return nil
}

// ClusterOf returns the ClusterConnection that a PooledJob is bound to or asks for; empty while none was chosen.
func ClusterOf(o client.Object, hubID string) string {
	job, ok := o.(*v1alpha1.PooledJob)
	if !ok {
		return ""
	}
	return jobspec.RunOf(hubID, job).ClusterName()
}

// clusterInNeed returns the ClusterConnection that a PooledJob still needs, if it does.
func clusterInNeed(o client.Object, hubID string) string {
	job, ok := o.(*v1alpha1.PooledJob)
	if !ok || !NeedsConnection(job) {
		return ""
	}
	return cmp.Or(jobspec.RunOf(hubID, job).ClusterName(), AnyCluster)
}

// NeedsConnection reports whether a PooledJob still needs its connection: it has not finished or, once it
// is being deleted, has something to clean up.
func NeedsConnection(job *v1alpha1.PooledJob) bool {
	if !job.DeletionTimestamp.IsZero() {
		return controllerutil.ContainsFinalizer(job, v1alpha1.FinalizerPooledJob)
	}
	return !jobstatus.Finished(&job.Status)
}

func secretOf(o client.Object) string {
	connection, ok := o.(*v1alpha1.ClusterConnection)
	if !ok {
		return ""
	}
	return connection.Spec.KubeconfigSecretRef.Name
}

// FindJobs lists PooledJobs in a cache, as requests. A cache that is not running
// yet has nothing to wake.
func FindJobs(ctx context.Context, hub client.Reader, which ...client.ListOption) []reconcile.Request {
	var list v1alpha1.PooledJobList
	if err := hub.List(ctx, &list, append(which, client.UnsafeDisableDeepCopy)...); err != nil {
		logf.FromContext(ctx).V(1).Info("PooledJobs could not be woken", "which", which, "reason", err.Error())
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}
