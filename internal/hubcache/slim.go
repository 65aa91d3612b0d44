package hubcache

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// slim cuts objects of the hub down to what is needed of them, before they are cached.
func slim(obj any) (any, error) {
	if job, ok := obj.(*v1alpha1.PooledJob); ok {
		slimJob(job)
	}
	return cache.TransformStripManagedFields()(obj)
}

// slimJob cuts a PooledJob down. Its template, which is most of it, is not in the cache at all.
func slimJob(job *v1alpha1.PooledJob) {
	delete(job.Annotations, corev1.LastAppliedConfigAnnotation) // as long as the object, and read by kubectl only
	shareWords(job)
}

// keepNames returns slim, but keeps of a PooledJob only what those need to know that wait for its changes.
func keepNames(obj any) (any, error) {
	job, ok := obj.(*v1alpha1.PooledJob)
	if !ok {
		return slim(obj)
	}
	return &v1alpha1.PooledJob{
		TypeMeta:   job.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: job.Name, UID: job.UID, ResourceVersion: job.ResourceVersion},
	}, nil
}

func keepLabels(obj any) (any, error) {
	if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
		m.Annotations, m.ManagedFields = nil, nil
	}
	return obj, nil
}
