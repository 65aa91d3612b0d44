package controllers

import (
	"cmp"
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
	source, reason, err := readSource(ctx, r.Hub, r.Namespace, connection)
	if err != nil && reason == "" {
		return err
	}
	if reason == "" {
		r.confirmCluster(connection)
		r.Connections.Connect(connection.Name, configOf(connection, source.identity))
		status, _ := r.Connections.Status(connection.Name)
		writer.renewal = r.renew(ctx, connection, source, status)
	}
	if reason != "" {
		r.Connections.Keep(connection.Name, configOf(connection, kubeconfig.Identity{}))
		r.renewals.drop(connection.Name)
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
	if writer.renewal != nil {
		writer.again = earliest(writer.again, writer.renewal.again)
	}
	return nil
}

// configOf is what a connection asks of the pool.
func configOf(connection *v1alpha1.ClusterConnection, identity kubeconfig.Identity) connpool.Config {
	expiresAt, _ := identity.ExpiresAt()
	return connpool.Config{
		Identity:    identityOf(identity),
		ExpiresAt:   expiresAt,
		ClusterUID:  connection.Status.ClusterUID,
		Namespaces:  connection.Spec.Namespaces,
		MaxInFlight: int(connection.Spec.MaxInFlight),
		QPS:         int(connection.Spec.QPS),
	}
}

func identityOf(identity kubeconfig.Identity) connpool.Identity {
	return connpool.Identity{
		Server:        identity.Server,
		TLSServerName: identity.TLSServerName,
		CAData:        identity.CAData,
		CertData:      identity.CertData,
		KeyData:       identity.KeyData,
		Token:         identity.Token,
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
func readKubeconfig(ctx context.Context, hub client.Reader, namespace string, connection *v1alpha1.ClusterConnection) (kubeconfig.Identity, string, error) {
	source, reason, err := readSource(ctx, hub, namespace, connection)
	return source.identity, reason, err
}

// kubeconfigSource is a kubeconfig's identity and where it is from.
type kubeconfigSource struct {
	secret   *corev1.Secret
	key      string
	identity kubeconfig.Identity
}

// readSource is readKubeconfig, with the Secret.
func readSource(ctx context.Context, hub client.Reader, namespace string, connection *v1alpha1.ClusterConnection) (kubeconfigSource, string, error) {
	ref := connection.Spec.KubeconfigSecretRef
	source := kubeconfigSource{secret: &corev1.Secret{}, key: cmp.Or(ref.Key, defaultSecretKey)}
	err := hub.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, source.secret)
	if apierrors.IsNotFound(err) {
		return source, v1alpha1.ReasonSecretNotFound,
			fmt.Errorf("Secret %s/%s does not exist; create it with the kubeconfig under key %q", namespace, ref.Name, source.key)
	}
	if err != nil {
		return source, "", fmt.Errorf("reading the kubeconfig Secret: %w", err)
	}
	data, ok := source.secret.Data[source.key]
	if !ok {
		return source, v1alpha1.ReasonSecretNotFound,
			fmt.Errorf("Secret %s/%s has no key %q; put the kubeconfig there", namespace, ref.Name, source.key)
	}
	source.identity, err = kubeconfig.Parse(data)
	if err != nil {
		return source, v1alpha1.ReasonInvalidKubeconfig,
			fmt.Errorf("Secret %s/%s, key %q: %w", namespace, ref.Name, source.key, err)
	}
	return source, "", nil
}
