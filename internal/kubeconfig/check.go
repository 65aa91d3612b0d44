package kubeconfig

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

// check refuses an Identity that cannot work or would send its credential
// somewhere unsafe.
func (id Identity) check() error {
	return errors.Join(checkServer(id.Server), checkCA(id.CAData), checkCredential(id))
}

func checkServer(server string) error {
	if server == "" {
		return errors.New("the cluster has no server; set it to the https URL of the API server")
	}
	u, err := url.Parse(server)
	if err != nil {
		return errors.New("server is not a valid URL")
	}
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

func checkCredential(id Identity) error {
	hasCert, hasKey := len(id.CertData) > 0, len(id.KeyData) > 0
	switch {
	case hasCert != hasKey:
		return errors.New("client-certificate-data and client-key-data must be set together")
	case !hasCert && id.Token == "":
		return errors.New("the user has no credential; set token, or client-certificate-data and client-key-data")
	case strings.ContainsAny(id.Token, " \t\r\n"):
		return errors.New("token must not contain white space")
	case hasCert:
		if _, err := tls.X509KeyPair(id.CertData, id.KeyData); err != nil {
			// The parser's words describe the defect and quote no key material,
			// but they are not ours to promise that for.
			return errors.New("client-certificate-data and client-key-data are not a matching PEM certificate and key")
		}
	}
	return nil
}
