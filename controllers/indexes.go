package controllers

import (
	"cmp"
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// Indexes of the hub's caches.
const (
	// jobsByUID finds the PooledJob that a remote object's label names.
	jobsByUID = "metadata.uid"
	// jobsByCluster finds the PooledJobs of a ClusterConnection.
	jobsByCluster = "cluster"
	// jobsInNeed finds the PooledJobs of a ClusterConnection that still need it:
	// those that are not finished, and those that have something to clean up.
	jobsInNeed = "unfinished"
	// connectionsBySecret finds the ClusterConnections that use a Secret.
	connectionsBySecret = "spec.kubeconfigSecretRef.name"
	// connectionsByFence finds the ClusterConnections that state a fence of the
	// cluster of that UID.
	connectionsByFence = "fence"

	// anyCluster is where jobsInNeed has the PooledJobs that wait for a cluster to
	// be chosen. No ClusterConnection can have that name.
	anyCluster = "*"
)

// addIndexes adds the indexes that the reconcilers look things up by. It must be
// called once, before the caches start.
func addIndexes(ctx context.Context, indexer client.FieldIndexer, hubID string) error {
	indexes := []struct {
		object  client.Object
		field   string
		extract func(client.Object) string
	}{
		{&v1alpha1.PooledJob{}, jobsByUID, func(o client.Object) string { return string(o.GetUID()) }},
		{&v1alpha1.PooledJob{}, jobsByCluster, func(o client.Object) string { return clusterOf(o, hubID) }},
		{&v1alpha1.PooledJob{}, jobsInNeed, func(o client.Object) string { return clusterInNeed(o, hubID) }},
		{&v1alpha1.ClusterConnection{}, connectionsBySecret, secretOf},
		{&v1alpha1.ClusterConnection{}, connectionsByFence, func(o client.Object) string { return o.GetAnnotations()[v1alpha1.AnnotationFenced] }},
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

// clusterOf is the ClusterConnection that a PooledJob is bound to or asks for; empty
// while none was chosen.
func clusterOf(o client.Object, hubID string) string {
	job, ok := o.(*v1alpha1.PooledJob)
	if !ok {
		return ""
	}
	return jobspec.ClusterOf(job, hubID)
}

// clusterInNeed is the ClusterConnection that a PooledJob still needs, if it does.
func clusterInNeed(o client.Object, hubID string) string {
	job, ok := o.(*v1alpha1.PooledJob)
	if !ok || !needsConnection(job) {
		return ""
	}
	return cmp.Or(jobspec.ClusterOf(job, hubID), anyCluster)
}

func needsConnection(job *v1alpha1.PooledJob) bool {
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
