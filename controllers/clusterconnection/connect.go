package clusterconnection

import (
	"context"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/credentials"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/kubeconfig"
	"github.com/pooledjob/pooledjob/internal/requeue"
)

// connect hands the kubeconfig to the pool and records the connection's state. A
// kubeconfig that cannot be used changes nothing in the pool: it may be a slip, and
// the last one that worked goes on.
func (r *Reconciler) connect(ctx context.Context, connection *v1alpha1.ClusterConnection, m *memory, writer *connectionWriter) error {
	source, reason, err := credentials.Read(ctx, r.Hub, r.Namespace, connection)
	if err != nil && reason == "" {
		return err
	}
	if reason == "" {
		r.confirmCluster(connection)
		config := configOf(connection, source.Identity)
		if pause := m.identity.change(config.Identity, r.Clock.Now()); pause > 0 {
			r.Connections.Keep(connection.Name, config)
			writer.again = pause
		} else {
			r.Connections.Connect(connection.Name, config)
			status, _ := r.Connections.Status(connection.Name)
			writer.renewal = r.renew(ctx, connection, source, status, &m.renewal)
		}
	}
	if reason != "" {
		r.Connections.Keep(connection.Name, configOf(connection, kubeconfig.Identity{}))
		m.renewal.forgetToken()
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
		writer.again = requeue.Earliest(writer.again, writer.renewal.again)
	}
	return nil
}

// configOf returns what a connection asks of the pool.
func configOf(connection *v1alpha1.ClusterConnection, identity kubeconfig.Identity) connpool.Config {
	expiresAt, _ := identity.ExpiresAt()
	return connpool.Config{
		Identity:    credentials.Connpool(identity),
		ExpiresAt:   expiresAt,
		ClusterUID:  connection.Status.ClusterUID,
		Namespaces:  connection.Spec.Namespaces,
		MaxInFlight: int(connection.Spec.MaxInFlight),
		QPS:         int(connection.Spec.QPS),
	}
}

// confirmCluster takes over the UID of the cluster that answers now, if a person has
// confirmed it by the annotation.
func (r *Reconciler) confirmCluster(connection *v1alpha1.ClusterConnection) {
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
