package controllers

import (
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
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
	shareStrings(job)
}

// shareStrings lets PooledJobs share what many of them say in the same words.
func shareStrings(job *v1alpha1.PooledJob) {
	status := &job.Status
	shared.share(&job.Namespace, &job.Spec.ClusterName, &job.Spec.TargetNamespace)
	shared.share(&status.ClusterName, &status.ClusterUID, &status.JobRef.Namespace, &status.Result.Reason, &status.Reason)
	for i := range status.Conditions {
		c := &status.Conditions[i]
		shared.share(&c.Type, &c.Reason, &c.Message, (*string)(&c.Status))
	}
	if creator, ok := job.Annotations[v1alpha1.AnnotationCreator]; ok {
		shared.share(&creator)
		job.Annotations[v1alpha1.AnnotationCreator] = creator
	}
}

// maxShared bounds how many strings are shared: reasons and messages of the manager are some
// dozens, and each name of a namespace and of a connection is one.
const maxShared = 4096

// vocabulary has one copy of each string that was lately in use.
type vocabulary struct {
	mu    sync.Mutex
	known map[string]string
}

var shared vocabulary

// share replaces strings by the copies that are there.
func (v *vocabulary) share(all ...*string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range all {
		copied, ok := v.known[*s]
		if !ok {
			if v.known == nil || len(v.known) >= maxShared {
				v.known = map[string]string{} // those in use come back
			}
			copied = strings.Clone(*s) // of what it was decoded from
			v.known[copied] = copied
		}
		*s = copied
	}
}
