package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
	"github.com/pooledjob/pooledjob/internal/kubeconfig"
)

// kubeconfigKey is the key in the Secret.
const kubeconfigKey = "kubeconfig"

// credential is what the hub's kubeconfig is made of. It must not be printed.
type credential struct {
	server, serverName string
	ca                 []byte
	token              string
}

// targetAddress is how the hub reaches the target, as the user's kubeconfig has it.
func (l *link) targetAddress(server string) (*credential, error) {
	config := rest.CopyConfig(l.target.Config)
	if config.Insecure {
		return nil, errors.New("your kubeconfig does not check the target's certificate (insecure-skip-tls-verify), and a hub must: put the target's CA into certificate-authority-data")
	}
	if err := rest.LoadTLSFiles(config); err != nil {
		return nil, err
	}
	c := &credential{server: config.Host, serverName: config.ServerName, ca: config.CAData}
	if server != "" {
		c.server = server
	}
	// A token is needed to have the rest checked before anything is made.
	trial := *c
	trial.token = "x"
	data, err := trial.kubeconfig()
	if err != nil {
		return nil, err
	}
	if _, err := kubeconfig.Parse(data); err != nil {
		return nil, fmt.Errorf("the hub could not use this address of the target: %w; give another by --server", err)
	}
	return c, nil
}

// knownServer is the address of the target that the hub has already; "" if it has none.
func (l *link) knownServer(ctx context.Context) (string, error) {
	secret := &corev1.Secret{}
	err := l.hub.Get(ctx, client.ObjectKey{Namespace: l.managerNamespace, Name: l.name}, secret)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", failure.Explain(err)
	}
	config, err := clientcmd.Load(secret.Data[kubeconfigKey])
	if err != nil || !l.made(secret) || config.Clusters["target"] == nil {
		return "", nil //nolint:nilerr // what cannot be read is written anew
	}
	return config.Clusters["target"].Server, nil
}

// kubeconfig is the file for the hub.
func (c *credential) kubeconfig() ([]byte, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["target"] = &clientcmdapi.Cluster{Server: c.server, TLSServerName: c.serverName, CertificateAuthorityData: c.ca}
	config.AuthInfos["pooledjob"] = &clientcmdapi.AuthInfo{Token: c.token}
	config.Contexts["target"] = &clientcmdapi.Context{Cluster: "target", AuthInfo: "pooledjob"}
	config.CurrentContext = "target"
	return clientcmd.Write(*config)
}

// requestToken has a token made that expires. It ends earlier with its ServiceAccount.
func (l *link) requestToken(ctx context.Context, lifetime time.Duration) (string, error) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: l.accountNamespace, Name: l.account()}}
	expiry := int64(lifetime / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &expiry}}
	if err := l.target.SubResource("token").Create(ctx, account, request); err != nil {
		return "", fmt.Errorf("asking for a token of ServiceAccount %s/%s: %w", account.Namespace, account.Name, failure.Explain(err))
	}
	return request.Status.Token, nil
}

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
func (p *plugin) applyHub(ctx context.Context, l *link, connection *v1alpha1.ClusterConnection, c *credential, timeout time.Duration) error {
	data, err := c.kubeconfig()
	if err != nil {
		return err
	}
	identity, err := kubeconfig.Parse(data)
	if err != nil {
		return fmt.Errorf("the target's token cannot be used: %w", err)
	}
	secret := &corev1.Secret{
		ObjectMeta: l.meta(l.managerNamespace, l.name), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{kubeconfigKey: data},
	}
	for _, obj := range []client.Object{secret, connection} {
		if err := p.apply(ctx, l, l.hub, obj); err != nil {
			return fmt.Errorf("the hub: %w", err)
		}
	}
	if len(connection.Spec.Access) == 0 {
		p.Sayf("Nobody may use %s yet: run this again with --allow NAMESPACE, or add spec.access.", l.name)
	}
	if timeout <= 0 {
		return nil
	}
	expiry, _ := identity.ExpiresAt()
	return p.awaitReady(ctx, l, c.server, expiry, timeout)
}

// awaitReady waits until the connection is Ready with the new token, which is told by
// when that ends.
func (p *plugin) awaitReady(ctx context.Context, l *link, server string, expiry time.Time, timeout time.Duration) error {
	ctx, stop := command.WithTimeout(ctx, timeout)
	defer stop()
	shown := terminal.NewProgress(p.ErrOut, l.name)
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

// onLoopback is a likely cause.
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
func (p *plugin) printPlan(l *link, options *connectOptions, onTarget []client.Object, connection *v1alpha1.ClusterConnection, c *credential) error {
	c.token = "TOKEN-OF-THE-SERVICE-ACCOUNT"
	data, err := c.kubeconfig()
	if err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: l.meta("", l.accountNamespace)}
	secret := &corev1.Secret{
		ObjectMeta: l.meta(l.managerNamespace, l.name), Type: corev1.SecretTypeOpaque, StringData: map[string]string{kubeconfigKey: string(data)},
	}
	if err := p.printSide(options, "target", append([]client.Object{namespace}, onTarget...)); err != nil {
		return err
	}
	if *options.output.OutputFormat == "yaml" {
		fmt.Fprintln(p.Out, "---")
	}
	return p.printSide(options, "hub", []client.Object{secret, connection})
}

func (p *plugin) printSide(options *connectOptions, side string, objects []client.Object) error {
	if *options.output.OutputFormat == "yaml" {
		fmt.Fprintf(p.Out, "# On the %s:\n", side)
	}
	printer, err := command.NewPrinter(options.output, "created on the "+side, options.dryRun)
	if err != nil {
		return err
	}
	for _, obj := range objects {
		if err := printer.PrintObj(obj, p.Out); err != nil {
			return err
		}
	}
	return nil
}
