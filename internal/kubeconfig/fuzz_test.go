package kubeconfig

import (
	"crypto/rand"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// These targets take large inputs, which go test tries for a minute each to make
// smaller: fuzz with -fuzzminimizetime=10x.

func FuzzParse(f *testing.F) {
	for _, data := range shapes(f) {
		f.Add(data)
	}
	f.Add(config(goodCluster, goodUser))
	f.Add(config(`server: "https://me:pw@Target.example:443/a/../b/?q=1", proxy-url: "http://me:pw@proxy.example"`,
		`username: me, password: pw, as: admin, tokenFile: /t, token: t`))
	f.Add(config(`server: "https://[2001:DB8::1]:443/", tls-server-name: X`, goodUser))
	f.Add(config(`server: "https://me:pw@[::1"`, goodUser))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := Parse(data)
		if err == nil {
			checkAccepted(t, id)
		}
		checkKeepsSecrets(t, data)
	})
}

// FuzzCanonical reaches URLs, names and PEM, which FuzzParse has to guess the
// quotes and the base64 around.
func FuzzCanonical(f *testing.F) {
	cert, key := keyPair(f)
	f.Add("https://Target.example:443/a/../b/?", "target.EXAMPLE", join(key, cert, cert), cert, key)
	f.Add("https://[2001:DB8::1]:6443//", "2001:db8:0::1", withHeader(cert), reflow(cert, 20), reflow(key, 70))
	f.Add("https://b\u00fccher.example./%2F%00", "[::1]", []byte(nil), []byte(nil), []byte(nil))
	f.Add("https://[::1%25eth0]:00443/a;b", "::1%eth0", []byte(nil), []byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, server, serverName string, ca, cert, key []byte) {
		if !utf8.ValidString(server + serverName) {
			t.Skip("no kubeconfig can say that")
		}
		id, err := identity(
			&clientcmdapi.Cluster{Server: server, TLSServerName: serverName, CertificateAuthorityData: ca},
			&clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key, Token: "t"})
		if err == nil {
			checkAccepted(t, id)
		}
	})
}

// checkAccepted checks what holds for every Identity that Parse returns.
func checkAccepted(t *testing.T, id Identity) {
	t.Helper()
	u, err := url.Parse(id.Server)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		t.Errorf("accepted server %q", id.Server)
	}
	marshalled := parts{id.Server, id.TLSServerName, id.CAData, id.CertData, id.KeyData, id.Token}.write()
	again, err := Parse(marshalled)
	if err != nil {
		t.Fatalf("refuses what it has accepted: %v", err)
	}
	if !cmp.Equal(id, again) {
		t.Errorf("gives another identity for what it has given:\n%s", cmp.Diff(id, again))
	}
}

// secret is a value that no fuzzer can guess, and put into a name that errors
// quote.
var secret = rand.Text()

// checkKeepsSecrets puts a secret wherever the kubeconfig has one, or may have
// one by mistake, and looks for it in the error.
func checkKeepsSecrets(t *testing.T, data []byte) {
	t.Helper()
	documents := [][]byte{append(append([]byte{}, data...), "\n\x00: "+secret...)}
	if loaded, err := clientcmd.Load(data); err == nil {
		plant(loaded)
		if planted, err := clientcmd.Write(*loaded); err == nil {
			documents = append(documents, planted)
		}
	}
	for _, document := range documents {
		if _, err := Parse(document); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error holds a secret: %v", err)
		}
	}
}

func plant(config *clientcmdapi.Config) {
	for _, cluster := range config.Clusters {
		cluster.Server = plantURL(cluster.Server)
		cluster.ProxyURL = plantURL(cluster.ProxyURL)
		if len(cluster.CertificateAuthorityData) > 0 {
			cluster.CertificateAuthorityData = append(cluster.CertificateAuthorityData, secret...)
		}
	}
	for _, user := range config.AuthInfos {
		user.Token += secret
		if user.Password != "" {
			user.Password = secret
		}
		if len(user.ClientKeyData) > 0 {
			user.ClientKeyData = []byte(secret)
		}
		if user.Exec != nil {
			user.Exec.Args = append(user.Exec.Args, secret)
			user.Exec.Env = append(user.Exec.Env, clientcmdapi.ExecEnvVar{Name: "TOKEN", Value: secret})
		}
		if user.AuthProvider != nil {
			user.AuthProvider.Config = map[string]string{"access-token": secret}
		}
	}
}

// plantURL puts the secret where a URL may have one.
func plantURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text + secret
	}
	if u.User != nil {
		u.User = url.UserPassword("me", secret)
	}
	if u.RawQuery != "" {
		u.RawQuery = "access_token=" + secret
	}
	return u.String()
}

func FuzzExpiresAt(f *testing.F) {
	cert, _ := keyPair(f)
	for _, data := range shapes(f) {
		if id, err := Parse(data); err == nil {
			f.Add(id.CertData, id.Token, "")
		}
	}
	f.Add(cert, claims(`{"exp":1700000000.5}`), `{"exp":1700000000}`)
	f.Add([]byte(nil), "..", `{"exp":-1e300}`)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "a.b.c", `{"exp":253402300799,"exp":null}`)
	f.Fuzz(func(t *testing.T, cert []byte, token, payload string) {
		checkExpiry(t, Identity{CertData: cert, Token: token})
		checkExpiry(t, Identity{Token: claims(payload)})
	})
}

// checkExpiry checks that an expiry can be written into a status and read back.
func checkExpiry(t *testing.T, id Identity) {
	t.Helper()
	at, ok := id.ExpiresAt()
	if !ok {
		if !at.IsZero() {
			t.Errorf("%v, and yet not known", at)
		}
		return
	}
	back, err := time.Parse(time.RFC3339, at.Format(time.RFC3339))
	if err != nil || !back.Equal(at) || at.Location() != time.UTC {
		t.Errorf("%v is not a whole second in UTC that can be written: %v", at, err)
	}
}
