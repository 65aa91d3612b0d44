package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/kubeconfig"
)

// defaultSecretKey is spec.kubeconfigSecretRef.key when it is left out.
const defaultSecretKey = "kubeconfig"

// connect hands the kubeconfig to the pool and records the connection's state. A
// kubeconfig that cannot be used changes nothing in the pool: it may be a slip, and
// the last one that worked goes on.
func (r *ClusterConnectionReconciler) connect(ctx context.Context, connection *v1alpha1.ClusterConnection, writer *connectionWriter) error {
	identity, reason, err := r.readKubeconfig(ctx, connection)
	if err != nil && reason == "" {
		return err
	}
	if reason == "" {
		r.confirmCluster(connection)
		r.Connections.Connect(connection.Name, configOf(connection, identity))
	}
	if reason != "" {
		r.Connections.Keep(connection.Name, configOf(connection, kubeconfig.Identity{}))
	}
	status, ok := r.Connections.Status(connection.Name)
	switch {
	case !ok && reason != "":
		writer.notConnected(reason, err.Error())
	case ok && reason != "":
		writer.observe(status, &finding{reason: reason, message: err.Error()})
	case ok:
		writer.observe(status, nil)
	}
	return nil
}

// configOf is what a connection asks of the pool.
func configOf(connection *v1alpha1.ClusterConnection, identity kubeconfig.Identity) connpool.Config {
	expiresAt, _ := identity.ExpiresAt()
	return connpool.Config{
		Identity: connpool.Identity{
			Server:        identity.Server,
			TLSServerName: identity.TLSServerName,
			CAData:        identity.CAData,
			CertData:      identity.CertData,
			KeyData:       identity.KeyData,
			Token:         identity.Token,
		},
		ExpiresAt:   expiresAt,
		ClusterUID:  connection.Status.ClusterUID,
		Namespaces:  connection.Spec.Namespaces,
		MaxInFlight: int(connection.Spec.MaxInFlight),
		QPS:         int(connection.Spec.QPS),
	}
}

// confirmCluster takes over the UID of the cluster that answers now, if a person has
// confirmed it by the annotation.
func (r *ClusterConnectionReconciler) confirmCluster(connection *v1alpha1.ClusterConnection) {
	confirmed := connection.Annotations[v1alpha1.AnnotationConfirmClusterUID]
	if confirmed == "" || confirmed == connection.Status.ClusterUID {
		return
	}
	status, ok := r.Connections.Status(connection.Name)
	if !ok {
		return
	}
	if status.ClusterUID == confirmed || (status.Next != nil && status.Next.ClusterUID == confirmed) {
		connection.Status.ClusterUID = confirmed
	}
}

// readKubeconfig reads the kubeconfig's identity from its Secret. An error with a
// reason is for the user to mend; one without may pass.
func (r *ClusterConnectionReconciler) readKubeconfig(ctx context.Context, connection *v1alpha1.ClusterConnection) (kubeconfig.Identity, string, error) {
	ref := connection.Spec.KubeconfigSecretRef
	secretKey := ref.Key
	if secretKey == "" {
		secretKey = defaultSecretKey
	}
	secret := &corev1.Secret{}
	err := r.Hub.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: ref.Name}, secret)
	if apierrors.IsNotFound(err) {
		return kubeconfig.Identity{}, v1alpha1.ReasonSecretNotFound,
			fmt.Errorf("Secret %s/%s does not exist; create it with the kubeconfig under key %q", r.Namespace, ref.Name, secretKey)
	}
	if err != nil {
		return kubeconfig.Identity{}, "", fmt.Errorf("reading the kubeconfig Secret: %w", err)
	}
	data, ok := secret.Data[secretKey]
	if !ok {
		return kubeconfig.Identity{}, v1alpha1.ReasonSecretNotFound,
			fmt.Errorf("Secret %s/%s has no key %q; put the kubeconfig there", r.Namespace, ref.Name, secretKey)
	}
	identity, err := kubeconfig.Parse(data)
	if err != nil {
		return kubeconfig.Identity{}, v1alpha1.ReasonInvalidKubeconfig,
			fmt.Errorf("Secret %s/%s, key %q: %w", r.Namespace, ref.Name, secretKey, err)
	}
	return identity, "", nil
}
