// Package v1alpha1 is the API of PooledJob, group pooledjob.io.
//
// A ClusterConnection describes a target cluster: where its kubeconfig is, and
// which hub namespaces may send Jobs to which of its namespaces. A PooledJob
// describes one run of one Job on such a cluster.
//
// Everything that a user can get wrong and that the API server can know is
// refused there, by the schema or by a CEL rule with a message that says what to
// change. The types import apimachinery and k8s.io/api only, so that clients
// can use them without the operator's dependencies.
//
// +kubebuilder:object:generate=true
// +groupName=pooledjob.io
package v1alpha1
