package connect

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
	"github.com/pooledjob/pooledjob/internal/kubeconfig"
)

// accessRules open the target to hub namespaces.
func accessRules(allow, to []string) []v1alpha1.AccessRule {
	allow = withoutEmpty(allow)
	if len(allow) == 0 {
		return nil
	}
	rule := v1alpha1.AccessRule{HubNamespaces: &v1alpha1.LabelSelector{}}
	if !slices.Contains(allow, "*") {
		rule.HubNamespaces.MatchExpressions = []v1alpha1.LabelSelectorRequirement{
			{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: allow},
		}
	}
	if len(to) > 0 {
		rule.TargetNamespaces.Names = to
	} else {
		same := true
		rule.TargetNamespaces.Same = &same
	}
	return []v1alpha1.AccessRule{rule}
}

// applyHub writes the Secret and the ClusterConnection, and waits.
func (l *link) applyHub(ctx context.Context, connection *v1alpha1.ClusterConnection, c *credential, timeout time.Duration) error {
	data, err := c.kubeconfig()
	if err != nil {
		return err
	}
	identity, err := kubeconfig.Parse(data)
	if err != nil {
		return fmt.Errorf("the target's token cannot be used: %w", err)
	}
	secret := &corev1.Secret{
		ObjectMeta: l.objectMeta(l.managerNamespace, l.name), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{kubeconfigKey: data},
	}
	for _, obj := range []client.Object{secret, connection} {
		if err := l.apply(ctx, l.hub, obj); err != nil {
			return fmt.Errorf("the hub: %w", err)
		}
	}
	if len(connection.Spec.Access) == 0 {
		l.env.Sayf("Nobody may use %s yet: run this again with --allow NAMESPACE, or add spec.access.", l.name)
	}
	if timeout <= 0 {
		return nil
	}
	expiry, _ := identity.ExpiresAt()
	return l.awaitReady(ctx, c.server, expiry, timeout)
}

// awaitReady waits until the connection is Ready with the new token. It recognizes the token by when
// that expires.
func (l *link) awaitReady(ctx context.Context, server string, expiry time.Time, timeout time.Duration) error {
	ctx, stop := command.WithTimeout(ctx, timeout)
	defer stop()
	shown := terminal.NewProgress(l.env.ErrOut, l.name)
	defer shown.Close()
	connection := &v1alpha1.ClusterConnection{}
	err := wait.PollUntilContextCancel(ctx, 250*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if err := l.hub.Get(ctx, client.ObjectKey{Name: l.name}, connection); err != nil {
			return false, failure.UnlessItMayPass(err)
		}
		if isReadyUntil(connection, expiry) {
			return true, nil
		}
		if word, problem := state.DescribeConnection(connection); len(connection.Status.Conditions) > 0 && problem != "" {
			shown.ShowState(state.WithMessage(word, problem))
		}
		return false, nil
	})
	switch {
	case err == nil:
		shown.ShowState(fmt.Sprintf("Ready, Kubernetes %s at %s", connection.Status.KubernetesVersion, connection.Status.Server))
		return nil
	case ctx.Err() == nil:
		return fmt.Errorf("the hub: %w", failure.Explain(err))
	}
	word, problem := state.DescribeConnection(connection)
	return fmt.Errorf("%s is not Ready after %s: %s%s; it is tried on, see `kubectl pooledjob clusters`",
		l.name, timeout, state.WithMessage(word, problem), onLoopback(server))
}

func isReadyUntil(connection *v1alpha1.ClusterConnection, expiry time.Time) bool {
	ready := meta.FindStatusCondition(connection.Status.Conditions, v1alpha1.ConditionReady)
	at := connection.Status.CredentialsExpireAt
	return ready != nil && ready.Status == metav1.ConditionTrue && ready.Reason != v1alpha1.ReasonLastKubeconfig &&
		at != nil && at.Unix() == expiry.Unix()
}

// onLoopback returns a likely cause.
func onLoopback(server string) string {
	address, err := url.Parse(server)
	if err != nil {
		return ""
	}
	ip := net.ParseIP(address.Hostname())
	if address.Hostname() == "localhost" || (ip != nil && ip.IsLoopback()) {
		return " (the address is that of this machine: if the hub must use another, give --server)"
	}
	return ""
}

// printPlan prints what would be made on both clusters, without a token.
func (l *link) printPlan(options *connectOptions, onTarget []client.Object, connection *v1alpha1.ClusterConnection, c *credential) error {
	c.token = "TOKEN-OF-THE-SERVICE-ACCOUNT"
	data, err := c.kubeconfig()
	if err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: l.objectMeta("", l.accountNamespace)}
	secret := &corev1.Secret{
		ObjectMeta: l.objectMeta(l.managerNamespace, l.name), Type: corev1.SecretTypeOpaque, StringData: map[string]string{kubeconfigKey: string(data)},
	}
	if err := l.printSide(options, "target", append([]client.Object{namespace}, onTarget...)); err != nil {
		return err
	}
	if *options.output.OutputFormat == "yaml" {
		fmt.Fprintln(l.env.Out, "---")
	}
	return l.printSide(options, "hub", []client.Object{secret, connection})
}

func (l *link) printSide(options *connectOptions, side string, objects []client.Object) error {
	if *options.output.OutputFormat == "yaml" {
		fmt.Fprintf(l.env.Out, "# On the %s:\n", side)
	}
	printer, err := command.NewPrinter(options.output, "created on the "+side, options.dryRun)
	if err != nil {
		return err
	}
	for _, obj := range objects {
		if err := printer.PrintObj(obj, l.env.Out); err != nil {
			return err
		}
	}
	return nil
}
