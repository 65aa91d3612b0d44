package connect

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/internal/cli/failure"
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

// targetAddress returns how the hub reaches the target, as the user's kubeconfig has it.
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

// knownServer returns the address of the target that the hub has already; "" if it has none.
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
	if err != nil || !l.isOurs(secret) || config.Clusters["target"] == nil {
		return "", nil //nolint:nilerr // what cannot be read is written anew
	}
	return config.Clusters["target"].Server, nil
}

// kubeconfig returns the file for the hub.
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
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: l.accountNamespace, Name: l.accountName()}}
	expiry := int64(lifetime / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &expiry}}
	if err := l.target.SubResource("token").Create(ctx, account, request); err != nil {
		return "", fmt.Errorf("asking for a token of ServiceAccount %s/%s: %w", account.Namespace, account.Name, failure.Explain(err))
	}
	return request.Status.Token, nil
}
