package controllers

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// Indexes of the hub's caches.
const (
	// jobsByUID finds the PooledJob that a remote object's label names.
	jobsByUID = "metadata.uid"
	// jobsByCluster finds the PooledJobs of a ClusterConnection.
	jobsByCluster = "spec.clusterName"
	// connectionsBySecret finds the ClusterConnections that use a Secret.
	connectionsBySecret = "spec.kubeconfigSecretRef.name"
)

// addIndexes adds the indexes that the reconcilers look things up by. It must be
// called once, before the caches start.
func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	indexes := []struct {
		object  client.Object
		field   string
		extract func(client.Object) string
	}{
		{&v1alpha1.PooledJob{}, jobsByUID, func(o client.Object) string { return string(o.GetUID()) }},
		{&v1alpha1.PooledJob{}, jobsByCluster, clusterOf},
		{&v1alpha1.ClusterConnection{}, connectionsBySecret, secretOf},
	}
	for _, index := range indexes {
		err := indexer.IndexField(ctx, index.object, index.field, func(o client.Object) []string {
			return []string{index.extract(o)}
		})
		if err != nil {
			return fmt.Errorf("adding index %s: %w", index.field, err)
		}
	}
	return nil
}

func clusterOf(o client.Object) string {
	job, ok := o.(*v1alpha1.PooledJob)
	if !ok {
		return ""
	}
	return job.Spec.ClusterName
}

func secretOf(o client.Object) string {
	connection, ok := o.(*v1alpha1.ClusterConnection)
	if !ok {
		return ""
	}
	return connection.Spec.KubeconfigSecretRef.Name
}
