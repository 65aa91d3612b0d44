package hubcache

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// IsFenced reports whether a person has stated that nothing runs on the cluster of that
// UID any more, on whichever of its ClusterConnections.
func IsFenced(ctx context.Context, hub client.Reader, clusterUID string) (bool, error) {
	if clusterUID == "" {
		return false, nil
	}
	var fencing v1alpha1.ClusterConnectionList
	if err := hub.List(ctx, &fencing, client.MatchingFields{ConnectionsByFence: clusterUID}, client.Limit(1), client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("looking for fences: %w", err)
	}
	return len(fencing.Items) > 0, nil
}

// OthersFencedBy returns the names of the other ClusterConnections of the cluster that one states to
// be fenced; none when the caches have stopped.
func OthersFencedBy(ctx context.Context, hub client.Reader, connection client.Object) []string {
	var all v1alpha1.ClusterConnectionList
	fenced := connection.GetAnnotations()[v1alpha1.AnnotationFenced]
	if fenced == "" || hub.List(ctx, &all, client.UnsafeDisableDeepCopy) != nil {
		return nil
	}
	var names []string
	for i := range all.Items {
		if other := &all.Items[i]; other.Name != connection.GetName() && other.Status.ClusterUID == fenced {
			names = append(names, other.Name)
		}
	}
	return names
}
