package complete

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
)

// Lister lists the names that an argument can be, in a namespace of the hub or in all of
// the hub.
type Lister func(ctx context.Context, hub *cluster.Client, namespace string) ([]string, error)

// RunNames lists the PooledJobs of the namespace.
func RunNames(ctx context.Context, hub *cluster.Client, namespace string) ([]string, error) {
	list := &v1alpha1.PooledJobList{}
	err := hub.List(ctx, list, client.InNamespace(namespace))
	return namesOf(list.Items, func(o *v1alpha1.PooledJob) string { return o.Name }), err
}

// ClusterNames lists the ClusterConnections.
func ClusterNames(ctx context.Context, hub *cluster.Client, _ string) ([]string, error) {
	list := &v1alpha1.ClusterConnectionList{}
	err := hub.List(ctx, list)
	return namesOf(list.Items, func(o *v1alpha1.ClusterConnection) string { return o.Name }), err
}

// NamespaceNames lists the namespaces of the hub.
func NamespaceNames(ctx context.Context, hub *cluster.Client, _ string) ([]string, error) {
	list := &corev1.NamespaceList{}
	err := hub.List(ctx, list)
	return namesOf(list.Items, func(o *corev1.Namespace) string { return o.Name }), err
}

func namesOf[T any](items []T, name func(*T) string) []string {
	found := make([]string, 0, len(items))
	for i := range items {
		found = append(found, name(&items[i]))
	}
	return found
}
