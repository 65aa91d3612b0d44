package cluster

import (
	"errors"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// NewScheme returns a scheme with the Kinds of Kubernetes and of PooledJob.
func NewScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	// These cannot fail: the types are compiled in.
	_ = errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
	return scheme
}

// newMapper returns the resources of the Kinds that commands read and write.
func newMapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(v1alpha1.GroupVersion.WithKind("PooledJob"), meta.RESTScopeNamespace)
	m.Add(v1alpha1.GroupVersion.WithKind("ClusterConnection"), meta.RESTScopeRoot)
	for _, kind := range []string{"ConfigMap", "Secret", "ServiceAccount"} {
		m.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	m.Add(corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot)
	for _, kind := range []string{"Role", "RoleBinding"} {
		m.Add(rbacv1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
		m.Add(rbacv1.SchemeGroupVersion.WithKind("Cluster"+kind), meta.RESTScopeRoot)
	}
	return m
}
