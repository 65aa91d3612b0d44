package localcluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	// clientQPS and clientBurst are high enough that no client of a test waits
	// for its own rate limit.
	clientQPS   = 1000
	clientBurst = 2000

	// adminGroup may do everything, and its requests are never queued.
	adminGroup = "system:masters"
)

// Config returns a configuration of the cluster's administrator, each time a new
// copy.
func (c *Cluster) Config() *rest.Config {
	return rest.CopyConfig(c.admin)
}

// Kubeconfig returns the kubeconfig of the cluster's administrator.
func (c *Cluster) Kubeconfig() ([]byte, error) {
	return encodeKubeconfig(c.name, c.admin)
}

// KubeconfigFor returns the kubeconfig of a user in the given groups, with a
// newly signed client certificate. What the user may do is up to the cluster's
// RBAC; the user needs no registration.
func (c *Cluster) KubeconfigFor(user string, groups ...string) ([]byte, error) {
	if user == "" {
		return nil, errors.New("a kubeconfig needs the name of a user")
	}
	config, err := c.newUser(user, groups...)
	if err != nil {
		return nil, err
	}
	return encodeKubeconfig(c.name, config)
}

// encodeKubeconfig writes the configuration with all data in it and no paths.
func encodeKubeconfig(name string, config *rest.Config) ([]byte, error) {
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   strings.TrimSuffix(config.Host, "/"),
		CertificateAuthorityData: config.CAData,
	}
	kubeconfig.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: config.CertData,
		ClientKeyData:         config.KeyData,
	}
	kubeconfig.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	kubeconfig.CurrentContext = name
	data, err := clientcmd.Write(*kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("encoding a kubeconfig of cluster %s: %w", name, err)
	}
	return data, nil
}

// writeKubeconfig puts a kubeconfig of the user with an administrator's rights
// into the cluster's folder and returns its path.
func (c *Cluster) writeKubeconfig(user string) (string, error) {
	data, err := c.KubeconfigFor(user, adminGroup)
	if err != nil {
		return "", err
	}
	path := filepath.Join(c.dir, strings.TrimPrefix(user, "system:")+".kubeconfig")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("writing a kubeconfig for %s: %w", user, err)
	}
	return path, nil
}
