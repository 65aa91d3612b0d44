package kubeconfig

import (
	"errors"
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Identity is everything a kubeconfig may say: a server, what proves that it is
// the right one, and what proves who we are. It holds secrets; it must not be
// printed, and its String method does not. Parse makes it canonical: equal
// fields are the same identity, see the package's doc.
type Identity struct {
	// Server is the URL of the API server: https, without user information,
	// query or fragment.
	Server string
	// TLSServerName replaces Server's host in the check of its certificate.
	// Empty means Server's host.
	TLSServerName string
	// CAData are the PEM certificates that vouch for the server. Empty means
	// the system's.
	CAData []byte
	// CertData and KeyData are the client certificate, with the chain that was
	// given after it, and its key, PEM. Both are set or none is.
	CertData, KeyData []byte
	// Token is a bearer token. At least one of it and CertData is set.
	Token string
}

// String names the server only.
func (id Identity) String() string { return id.Server }

// GoString returns String, so that %#v prints no secret either.
func (id Identity) GoString() string { return id.Server }

// Parse reads the current context of a kubeconfig. Every error is meant for the
// author of the kubeconfig: it names what to mend.
func Parse(data []byte) (Identity, error) {
	if len(data) == 0 {
		return Identity{}, errors.New("the kubeconfig is empty")
	}
	if err := checkSize(data); err != nil {
		return Identity{}, err
	}
	config, err := clientcmd.Load(data)
	if err != nil {
		return Identity{}, notAConfig(data)
	}
	if err := checkFieldsKnown(data); err != nil {
		return Identity{}, err
	}
	cluster, user, err := currentContext(config)
	if err != nil {
		return Identity{}, err
	}
	return identity(cluster, user)
}

// identity checks a cluster and a user and makes their Identity, in its
// canonical form.
func identity(cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo) (Identity, error) {
	server, serverErr := readServer(cluster.Server)
	err := errors.Join(
		checkNothingElse(cluster, user),
		serverErr,
		twice("certificate-authority-data", cluster.CertificateAuthorityData, checkCA(cluster.CertificateAuthorityData)),
		checkCredential(user),
	)
	if err != nil {
		return Identity{}, err
	}
	return Identity{
		Server:        canonicalServer(server),
		TLSServerName: canonicalServerName(cluster.TLSServerName, server),
		CAData:        canonicalCA(cluster.CertificateAuthorityData),
		CertData:      canonicalChain(user.ClientCertificateData),
		KeyData:       canonicalKey(user.ClientKeyData),
		Token:         user.Token,
	}, nil
}

// currentContext finds the cluster and the user that the current context names.
func currentContext(config *clientcmdapi.Config) (*clientcmdapi.Cluster, *clientcmdapi.AuthInfo, error) {
	name := config.CurrentContext
	if name == "" {
		return nil, nil, errors.New("the kubeconfig has no current-context; set it to the name of one of its contexts")
	}
	current, ok := config.Contexts[name]
	if !ok || current == nil {
		return nil, nil, fmt.Errorf("current-context %q is not among the kubeconfig's contexts", name)
	}
	cluster, ok := config.Clusters[current.Cluster]
	if !ok || cluster == nil {
		return nil, nil, fmt.Errorf("context %q names cluster %q, which is not in the kubeconfig", name, current.Cluster)
	}
	user, ok := config.AuthInfos[current.AuthInfo]
	if !ok || user == nil {
		return nil, nil, fmt.Errorf("context %q names user %q, which is not in the kubeconfig", name, current.AuthInfo)
	}
	return cluster, user, nil
}
