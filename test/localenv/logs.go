package localenv

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/controllers/logs"
	"github.com/pooledjob/pooledjob/internal/logserver"
)

const logsTimeout = 30 * time.Second

// installLogs installs the log API but for its Service, which is the name of this machine
// here: there is no network of the hub's cluster.
func (e *Env) installLogs(ctx context.Context) error {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: logs.Service},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	}
	if err := e.Hub.Client.Create(ctx, service); err != nil {
		return fmt.Errorf("the log API's Service: %w", err)
	}
	for _, file := range []string{"role.yaml", "role_binding.yaml", "apiservice.yaml"} {
		if err := Apply(ctx, e.Hub.Client, filepath.Join(e.Root, "config", "logs", file)); err != nil {
			return err
		}
	}
	return e.LetManagerServeLogs(ctx)
}

// managerBindings give a manager what it needs to serve logs, as docs/logs.md says.
func managerBindings() []client.Object {
	bindings := []client.Object{
		&rbacv1.ClusterRoleBinding{RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "pooledjob-logs"}},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace}, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "pooledjob-logs"}},
		&rbacv1.ClusterRoleBinding{RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "system:auth-delegator"}},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system"}, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "extension-apiserver-authentication-reader"}},
	}
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: Namespace, Name: "pooledjob-manager"}}
	for _, binding := range bindings {
		switch b := binding.(type) {
		case *rbacv1.ClusterRoleBinding:
			b.Name, b.Subjects, b.RoleRef.APIGroup = "pooledjob-manager-"+strings.ReplaceAll(b.RoleRef.Name, ":", "-"), subjects, rbacv1.GroupName
		case *rbacv1.RoleBinding:
			b.Name, b.Subjects, b.RoleRef.APIGroup = "pooledjob-manager-"+b.RoleRef.Name, subjects, rbacv1.GroupName
		}
	}
	return bindings
}

// LetManagerServeLogs gives the manager the rights to serve logs itself.
func (e *Env) LetManagerServeLogs(ctx context.Context) error {
	for _, binding := range managerBindings() {
		if err := client.IgnoreAlreadyExists(e.Hub.Client.Create(ctx, binding)); err != nil {
			return fmt.Errorf("letting the manager serve logs: %w", err)
		}
	}
	return nil
}

// KeepManagerFromLogs takes what LetManagerServeLogs gives.
func (e *Env) KeepManagerFromLogs(ctx context.Context) error {
	for _, binding := range managerBindings() {
		if err := client.IgnoreNotFound(e.Hub.Client.Delete(ctx, binding)); err != nil {
			return fmt.Errorf("keeping the manager from logs: %w", err)
		}
	}
	return nil
}

// ServeLogsBy has the hub ask that manager for logs, and returns when it does. What the hub said
// of the server before does not hold for this one, so it has to lose its server first.
func (e *Env) ServeLogsBy(ctx context.Context, manager *Manager) error {
	if err := manager.waitLogs(ctx); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(manager.logs)
	if err != nil {
		return fmt.Errorf("the log API's port: %w", err)
	}
	if err := e.serveLogsAt(ctx, nobodysPort, false); err != nil {
		return err
	}
	return e.serveLogsAt(ctx, port, true)
}

// nobodysPort is a port at which no server listens.
const nobodysPort = "1"

// serveLogsAt has the hub ask at a port for logs, and returns when both its status and its answers
// show whether somebody serves them there.
func (e *Env) serveLogsAt(ctx context.Context, port string, served bool) error {
	service := &unstructured.Unstructured{}
	service.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"})
	service.SetName(logserver.Version + "." + logserver.Group)
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"service":{"port":%s}}}`, port))
	if err := e.Hub.Client.Patch(ctx, service, patch); err != nil {
		return fmt.Errorf("the log API's port: %w", err)
	}
	hub, err := kubernetes.NewForConfig(e.Hub.Config())
	if err != nil {
		return fmt.Errorf("a client of the hub: %w", err)
	}
	var answer error
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, logsTimeout, true, func(ctx context.Context) (bool, error) {
		if err := e.Hub.Client.Get(ctx, client.ObjectKeyFromObject(service), service); err != nil {
			return false, err
		}
		answer = hub.RESTClient().Get().AbsPath("/apis", logserver.Group, logserver.Version).Do(ctx).Error()
		return available(service) == served && (answer == nil) == served, nil
	})
	if err != nil {
		return fmt.Errorf("the log API at port %s: %w: %v, and the hub answers: %w", port, err, service.Object["status"], answer)
	}
	return nil
}

// waitLogs waits until the log API answers at the manager's port.
func (m *Manager) waitLogs(ctx context.Context) error {
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, logsTimeout, true, func(ctx context.Context) (bool, error) {
		conn, err := dialer.DialContext(ctx, "tcp", m.logs)
		if err == nil {
			conn.Close()
		}
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("the log API does not answer at %s: %w", m.logs, err)
	}
	return nil
}

func available(service *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(service.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == "Available" {
			return c["status"] == "True"
		}
	}
	return false
}
