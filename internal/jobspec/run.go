package jobspec

import (
	"cmp"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/binding"
)

// RunOf returns what a PooledJob's binding to a cluster is made from.
func RunOf(hubID string, job *v1alpha1.PooledJob) binding.Run {
	return binding.Run{
		HubID: hubID, Object: job, Finalizer: v1alpha1.FinalizerPooledJob,
		Cluster: cmp.Or(job.Spec.ClusterName, job.Status.ClusterName), ClusterUID: job.Status.ClusterUID,
		Namespace: TargetNamespace(job), Attempt: job.Status.Attempt,
	}
}

// TargetNamespace returns the namespace that a PooledJob's spec asks for.
func TargetNamespace(job *v1alpha1.PooledJob) string {
	if job.Spec.TargetNamespace != "" {
		return job.Spec.TargetNamespace
	}
	return job.Namespace
}
