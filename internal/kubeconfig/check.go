package kubeconfig

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"net/url"
	"strings"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// readServer refuses a URL that cannot work or that credentials must not be sent
// to.
func readServer(server string) (*url.URL, error) {
	if server == "" {
		return nil, errors.New("the cluster has no server; set it to the https URL of the API server")
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, errors.New("server is not a valid URL")
	}
	return u, checkServer(u)
}

func checkServer(u *url.URL) error {
	switch {
	case u.Scheme != "https":
		return errors.New("server must start with https://: credentials are not sent in the clear")
	case u.User != nil:
		return errors.New("server must not hold a user name or password; use a token or a client certificate")
	case u.Hostname() == "":
		return errors.New("server names no host")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("server must not have a query or a fragment")
	}
	// Cloud metadata services live on link-local addresses: a kubeconfig must
	// not make the manager talk to them. Names are checked when they are dialled.
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && addr.Unmap().IsLinkLocalUnicast() {
		return errors.New("server must not be a link-local address")
	}
	return nil
}

func checkCA(data []byte) error {
	if len(data) > 0 && !x509.NewCertPool().AppendCertsFromPEM(data) {
		return errors.New("certificate-authority-data holds no PEM certificate")
	}
	return nil
}

func checkCredential(user *clientcmdapi.AuthInfo) error {
	hasCert, hasKey := len(user.ClientCertificateData) > 0, len(user.ClientKeyData) > 0
	switch {
	case hasCert != hasKey:
		return errors.New("client-certificate-data and client-key-data must be set together")
	case !hasCert && user.Token == "":
		return errors.New("the user has no credential; set token, or client-certificate-data and client-key-data")
	case strings.ContainsAny(user.Token, " \t\r\n"):
		return errors.New("token must not contain white space")
	case hasCert:
		if _, err := tls.X509KeyPair(user.ClientCertificateData, user.ClientKeyData); err != nil {
			// The parser's words describe the defect and quote no key material,
			// but they are not ours to promise that for.
			wrong := errors.New("client-certificate-data and client-key-data are not a matching PEM certificate and key")
			wrong = twice("client-certificate-data", user.ClientCertificateData, wrong)
			return twice("client-key-data", user.ClientKeyData, wrong)
		}
	}
	return nil
}
