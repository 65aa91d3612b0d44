package kubeconfig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// keyPair returns a self-signed certificate and its key, PEM.
func keyPair(t testing.TB) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return certificate(t, private, time.Now().Add(time.Hour)),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// certificate returns a self-signed certificate, PEM.
func certificate(t testing.TB, private crypto.Signer, notAfter time.Time) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// privateKey reads what keyPair returned.
func privateKey(t testing.TB, cert, key []byte) crypto.Signer {
	t.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair.PrivateKey.(crypto.Signer)
}

// config returns a kubeconfig with the given lines in its cluster and its user.
func config(cluster, user string) []byte {
	return []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: main
contexts:
- name: main
  context: {cluster: c, user: u, namespace: ignored}
clusters:
- name: c
  cluster: {%s}
users:
- name: u
  user: {%s}
`, cluster, user))
}

const (
	goodCluster = `server: "https://target.example:6443"`
	goodUser    = `token: s3cret-t0ken`
)

func TestParseTakesWhatIsAllowed(t *testing.T) {
	cert, key := keyPair(t)
	b64 := base64.StdEncoding.EncodeToString
	tests := map[string]struct {
		data []byte
		want Identity
	}{
		"token": {
			data: config(goodCluster, goodUser),
			want: Identity{Server: "https://target.example:6443", Token: "s3cret-t0ken"},
		},
		"client certificate, CA and server name": {
			data: config(
				goodCluster+", tls-server-name: inner.example, certificate-authority-data: "+b64(cert),
				"client-certificate-data: "+b64(cert)+", client-key-data: "+b64(key)),
			want: Identity{
				Server: "https://target.example:6443", TLSServerName: "inner.example",
				CAData: cert, CertData: cert, KeyData: key,
			},
		},
		"a path, as gateways have": {
			data: config(`server: "https://gateway.example/k8s/clusters/c-1"`, goodUser),
			want: Identity{Server: "https://gateway.example/k8s/clusters/c-1", Token: "s3cret-t0ken"},
		},
		"contexts that are not current may say anything": {
			data: append(config(goodCluster, goodUser), []byte(`
extensions: [{name: tool, extension: {version: 1}}]
preferences: {}
`)...),
			want: Identity{Server: "https://target.example:6443", Token: "s3cret-t0ken"},
		},
		"fields that configure nothing": {
			data: config(goodCluster+`, disable-compression: true, extensions: [{name: a, extension: {b: c}}]`, goodUser),
			want: Identity{Server: "https://target.example:6443", Token: "s3cret-t0ken"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(test.data)
			if err != nil {
				t.Fatalf("Parse: %v", err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("identity (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	cert, _ := keyPair(t)
	_, otherKey := keyPair(t)
	b64 := base64.StdEncoding.EncodeToString
	tests := map[string]struct {
		data []byte
		want string
	}{
		"nothing":             {nil, "is empty"},
		"too much":            {make([]byte, MaxSize+1), "at most 262144"},
		"garbage":             {[]byte("\x00\x01 s3cret-t0ken"), "not a valid v1 Config"},
		"a string":            {[]byte("s3cret-t0ken"), "not a valid v1 Config"},
		"another kind":        {[]byte("apiVersion: v1\nkind: Secret\n"), "not a valid v1 Config"},
		"no current context":  {[]byte("apiVersion: v1\nkind: Config\n"), "no current-context"},
		"dangling context":    {[]byte("apiVersion: v1\nkind: Config\ncurrent-context: x\n"), `current-context "x"`},
		"dangling cluster":    {[]byte("apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: a, user: b}}]\n"), `cluster "a"`},
		"dangling user":       {[]byte("apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: a, user: b}}]\nclusters: [{name: a, cluster: {}}]\n"), `user "b"`},
		"no server":           {config(``, goodUser), "has no server"},
		"plain http":          {config(`server: "http://target.example"`, goodUser), "https://"},
		"no host":             {config(`server: "https://:6443"`, goodUser), "no host"},
		"broken URL":          {config(`server: "https://me:s3cret-t0ken@[::1"`, goodUser), "not a valid URL"},
		"user in the URL":     {config(`server: "https://me:s3cret-t0ken@target.example"`, goodUser), "user name or password"},
		"query in the URL":    {config(`server: "https://target.example?x=s3cret-t0ken"`, goodUser), "query"},
		"link-local":          {config(`server: "https://169.254.169.254"`, goodUser), "link-local"},
		"link-local, v6":      {config(`server: "https://[fe80::1]"`, goodUser), "link-local"},
		"link-local, mapped":  {config(`server: "https://[::ffff:169.254.169.254]"`, goodUser), "link-local"},
		"CA file":             {config(goodCluster+`, certificate-authority: /etc/passwd`, goodUser), "certificate-authority is not allowed"},
		"no verification":     {config(goodCluster+`, insecure-skip-tls-verify: true`, goodUser), "insecure-skip-tls-verify"},
		"proxy":               {config(goodCluster+`, proxy-url: "http://proxy.example"`, goodUser), "proxy-url"},
		"all in base64":       {[]byte(b64(config(goodCluster, goodUser))), "base64 once too often"},
		"CA encoded twice":    {config(goodCluster+`, certificate-authority-data: `+b64([]byte(b64(cert))), goodUser), "certificate-authority-data is encoded in base64 twice"},
		"key encoded twice":   {config(goodCluster, `client-certificate-data: `+b64(cert)+`, client-key-data: `+b64([]byte(b64(otherKey)))), "client-key-data is encoded in base64 twice"},
		"two clusters":        {[]byte("apiVersion: v1\nkind: Config\nclusters: [{name: a}, {name: b}, {name: a}]"), "clusters[2] of the kubeconfig has the same name as clusters[0]"},
		"two users":           {[]byte("apiVersion: v1\nkind: Config\nusers: [{name: s3cret-t0ken}, {name: s3cret-t0ken}]"), "users[1] of the kubeconfig has the same name as users[0]"},
		"CA without PEM":      {config(goodCluster+`, certificate-authority-data: AAAA`, goodUser), "no PEM certificate"},
		"exec":                {config(goodCluster, `exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [/tmp/x], interactiveMode: Never}`), "exec is not allowed"},
		"exec beside a token": {config(goodCluster, goodUser+`, exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, interactiveMode: Never}`), "exec is not allowed"},
		"auth provider":       {config(goodCluster, `auth-provider: {name: oidc}`), "auth-provider is not allowed"},
		"token file":          {config(goodCluster, `tokenFile: /etc/passwd`), "tokenFile is not allowed"},
		"certificate file":    {config(goodCluster, goodUser+`, client-certificate: /etc/passwd`), "client-certificate is not allowed"},
		"key file":            {config(goodCluster, goodUser+`, client-key: /etc/passwd`), "client-key is not allowed"},
		"basic auth":          {config(goodCluster, `username: me, password: s3cret-t0ken`), "username and password"},
		"impersonation":       {config(goodCluster, goodUser+`, as: admin`), "impersonation"},
		"impersonated groups": {config(goodCluster, goodUser+`, as-groups: [system:masters]`), "impersonation"},
		"impersonated extra":  {config(goodCluster, goodUser+`, as-user-extra: {a: [b]}`), "impersonation"},
		"unknown, user":       {config(goodCluster, goodUser+`, future-field: x`), `a field "future-field"`},
		"unknown, cluster":    {config(goodCluster+`, insecureSkipTLSVerify: true`, goodUser), `a field "insecureSkipTLSVerify"`},
		"unknown, top":        {append([]byte("somethingNew: 1\n"), config(goodCluster, goodUser)...), `a field "somethingNew"`},
		"unknown, a secret":   {append([]byte("s3cret-t0ken: 1\n"), config(goodCluster, goodUser)...), "not of the format"},
		"a field twice":       {config(goodCluster, goodUser+`, token: other`), "a field twice"},
		"no credential":       {config(goodCluster, ``), "no credential"},
		"key without cert":    {config(goodCluster, goodUser+`, client-key-data: `+b64(otherKey)), "set together"},
		"another's key":       {config(goodCluster, `client-certificate-data: `+b64(cert)+`, client-key-data: `+b64(otherKey)), "not a matching"},
		"header injection":    {config(goodCluster, `token: "s3cret-t0ken\r\nX: y"`), "white space"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(test.data)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("Parse = %v, want an error with %q", err, test.want)
			}
			if strings.Contains(err.Error(), "s3cret-t0ken") {
				t.Errorf("the error quotes a secret: %v", err)
			}
		})
	}
}

func TestIdentityPrintsNoSecret(t *testing.T) {
	id, err := Parse(config(goodCluster, goodUser))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if printed := fmt.Sprintf(verb, id); strings.Contains(printed, "s3cret") {
			t.Errorf("%s prints %q", verb, printed)
		}
	}
}
