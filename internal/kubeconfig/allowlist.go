package kubeconfig

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	clientcmdv1 "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"
)

// refusal is a field that must not be set, and what to do instead.
type refusal struct {
	field  string
	set    bool
	remedy string
}

// unknownField matches the decoder's words for one, if its name can be repeated: what is
// in the place of a name by mistake may be a secret, and few of those have no digit.
var unknownField = regexp.MustCompile(`unknown field "([A-Za-z][A-Za-z-]{0,39})"`)

// checkFieldsKnown refuses what the decoder would pass over: a field of another version,
// one that is written wrongly, and one that is there twice.
func checkFieldsKnown(data []byte) error {
	err := yaml.UnmarshalStrict(data, &clientcmdv1.Config{})
	if err == nil {
		return nil
	}
	if named := unknownField.FindStringSubmatch(err.Error()); named != nil {
		return fmt.Errorf("the kubeconfig has a field %q, which is not one of the format; take it out, or mend its name", named[1])
	}
	return errors.New("the kubeconfig has a field twice, or one that is not of the format; compare it with what kubectl config view --raw prints")
}

// checkNothingElse refuses a cluster or user that sets anything beyond what an
// Identity holds. Known fields are refused with advice; any other by the
// comparison with an empty one.
func checkNothingElse(cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo) error {
	known := append(clusterRefusals(cluster), userRefusals(user)...)
	var errs []error
	for _, r := range known {
		if r.set {
			errs = append(errs, fmt.Errorf("%s is not allowed: %s", r.field, r.remedy))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if !reflect.DeepEqual(strippedCluster(cluster), clientcmdapi.Cluster{}) {
		return errors.New("the cluster has a field that is not allowed; keep server, certificate-authority-data and tls-server-name")
	}
	if !reflect.DeepEqual(strippedUser(user), clientcmdapi.AuthInfo{}) {
		return errors.New("the user has a field that is not allowed; keep client-certificate-data, client-key-data and token")
	}
	return nil
}

func clusterRefusals(c *clientcmdapi.Cluster) []refusal {
	return []refusal{
		{"certificate-authority", c.CertificateAuthority != "", "the manager reads no files; embed the data as certificate-authority-data"},
		{"insecure-skip-tls-verify", c.InsecureSkipTLSVerify, "give the server's CA as certificate-authority-data"},
		{"proxy-url", c.ProxyURL != "", "the manager connects to the server directly"},
	}
}

func userRefusals(u *clientcmdapi.AuthInfo) []refusal {
	return []refusal{
		{"exec", u.Exec != nil, "the manager runs no programs; use a token or a client certificate"},
		{"auth-provider", u.AuthProvider != nil, "use a token or a client certificate"},
		{"tokenFile", u.TokenFile != "", "the manager reads no files; embed the token as token"},
		{"client-certificate", u.ClientCertificate != "", "the manager reads no files; embed the data as client-certificate-data"},
		{"client-key", u.ClientKey != "", "the manager reads no files; embed the data as client-key-data"},
		{"username and password", u.Username != "" || u.Password != "", "basic authentication is not supported; use a token or a client certificate"},
		{
			"as (impersonation)",
			u.Impersonate != "" || u.ImpersonateUID != "" || len(u.ImpersonateGroups) > 0 || len(u.ImpersonateUserExtra) > 0,
			"use credentials of the identity itself",
		},
	}
}

// strippedCluster returns the cluster without the fields that an Identity holds and
// without those that configure nothing.
func strippedCluster(c *clientcmdapi.Cluster) clientcmdapi.Cluster {
	rest := *c
	rest.LocationOfOrigin, rest.Extensions = "", nil
	rest.Server, rest.TLSServerName, rest.CertificateAuthorityData = "", "", nil
	// Compression only changes how answers are encoded; the pool decides it.
	rest.DisableCompression = false
	return rest
}

func strippedUser(u *clientcmdapi.AuthInfo) clientcmdapi.AuthInfo {
	rest := *u
	rest.LocationOfOrigin, rest.Extensions = "", nil
	rest.ClientCertificateData, rest.ClientKeyData, rest.Token = nil, nil, ""
	// An empty map is what the decoder makes of an absent one.
	rest.ImpersonateUserExtra, rest.ImpersonateGroups = nil, nil
	return rest
}
