package hubcache

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// CacheOptions make a manager keep no more of the hub than the reconcilers need:
// Secrets of its own namespace only, of namespaces nothing but their labels, and
// PooledJobs without templates, as the reader has them. Where no reconcilers run, only their
// names are kept.
func CacheOptions(namespace string, pooledJobs *Reader, reconciles bool) cache.Options {
	transform := slim
	if !reconciles {
		transform = keepNames
	}
	return cache.Options{
		DefaultTransform: transform,
		NewInformer: func(source toolscache.ListerWatcher, example runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
			if _, ok := example.(*v1alpha1.PooledJob); ok {
				source = pooledJobs.ListerWatcher()
			}
			return toolscache.NewSharedIndexInformer(source, example, resync, indexers)
		},
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{namespace: {}}},
			&metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}}: {
				Transform: keepLabels,
			},
		},
	}
}
