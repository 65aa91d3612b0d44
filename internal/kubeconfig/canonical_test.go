package kubeconfig

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// parts is what a kubeconfig says, before anything is made canonical.
type parts struct {
	server, serverName string
	ca, cert, key      []byte
	token              string
}

// write makes a kubeconfig with every field, also those that are empty.
func (p parts) write() []byte {
	b64 := base64.StdEncoding.EncodeToString
	return config(
		fmt.Sprintf("server: %q, tls-server-name: %q, certificate-authority-data: %q", p.server, p.serverName, b64(p.ca)),
		fmt.Sprintf("client-certificate-data: %q, client-key-data: %q, token: %q", b64(p.cert), b64(p.key), p.token))
}

// chained returns parts with two CAs, a client certificate with a chain of two,
// and a token.
func chained(t *testing.T) parts {
	t.Helper()
	caA, _ := keyPair(t)
	caB, _ := keyPair(t)
	cert, key := keyPair(t)
	return parts{
		server: "https://target.example/k8s/a", serverName: "inner.example",
		ca: join(caA, caB), cert: join(cert, caA, caB), key: key, token: "s3cret-t0ken",
	}
}

func join(all ...[]byte) []byte { return bytes.Join(all, nil) }

// blocks splits PEM into its blocks, each encoded again.
func blocks(data []byte) [][]byte {
	var all [][]byte
	for block := range pemBlocks(data) {
		all = append(all, pem.EncodeToMemory(block))
	}
	return all
}

// reflow sets PEM in lines of the given length, in another style throughout:
// with a text and a blank line before each block, and CRLF at line ends.
func reflow(data []byte, length int) []byte {
	var out strings.Builder
	for block := range pemBlocks(data) {
		fmt.Fprintf(&out, "subject=/CN=somebody\nissuer: nobody\n\n-----BEGIN %s-----\r\n", block.Type)
		for text := base64.StdEncoding.EncodeToString(block.Bytes); text != ""; {
			n := min(length, len(text))
			out.WriteString(text[:n] + "\r\n")
			text = text[n:]
		}
		fmt.Fprintf(&out, "-----END %s-----  \n\n\n", block.Type)
	}
	return []byte(out.String())
}

func mustParse(t *testing.T, data []byte) Identity {
	t.Helper()
	id, err := Parse(data)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return id
}

func TestSameIdentity(t *testing.T) {
	base := chained(t)
	junk := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8}})
	cas := blocks(base.ca)
	tests := map[string]func(p *parts){
		"scheme in capitals":       func(p *parts) { p.server = "HTTPS://target.example/k8s/a" },
		"host in capitals":         func(p *parts) { p.server = "https://Target.EXAMPLE/k8s/a" },
		"default port":             func(p *parts) { p.server = "https://target.example:443/k8s/a" },
		"colon without a port":     func(p *parts) { p.server = "https://target.example:/k8s/a" },
		"slash at the end":         func(p *parts) { p.server = "https://target.example/k8s/a/" },
		"path that goes round":     func(p *parts) { p.server = "https://target.example/x/..//k8s/./a" },
		"escaped path":             func(p *parts) { p.server = "https://target.example/%6b8s/a" },
		"question mark at the end": func(p *parts) { p.server = "https://target.example/k8s/a?" },
		"server name in capitals":  func(p *parts) { p.serverName = "Inner.Example" },
		"CA, lines of 48":          func(p *parts) { p.ca = reflow(p.ca, 48) },
		"CA on one line":           func(p *parts) { p.ca = reflow(p.ca, 1<<20) },
		"CA in another order":      func(p *parts) { p.ca = join(cas[1], cas[0]) },
		"CA given twice":           func(p *parts) { p.ca = join(p.ca, p.ca) },
		"CA with a key beside it":  func(p *parts) { p.ca = join(p.key, p.ca, junk) },
		"CA with headers":          func(p *parts) { p.ca = join(p.ca, withHeader(p.cert)) },
		"CA that cannot be parsed": func(p *parts) {
			p.ca = join(p.ca, pem.EncodeToMemory(&pem.Block{Type: certificateType, Bytes: []byte("x")}))
		},
		"CA, blank lines after it":        func(p *parts) { p.ca = append(p.ca, "\n \n\t\n"...) },
		"chain, lines of 76":              func(p *parts) { p.cert = reflow(p.cert, 76) },
		"chain with headers":              func(p *parts) { p.cert = withHeader(p.cert) },
		"chain and key in one file":       func(p *parts) { p.cert, p.key = join(p.key, p.cert), join(p.cert, p.key) },
		"key, lines of 20":                func(p *parts) { p.key = reflow(p.key, 20) },
		"key after parameters of a curve": func(p *parts) { p.key = join(junk, p.key) },
	}
	want := mustParse(t, base.write())
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			changed := base
			changed.ca = bytes.Clone(base.ca) // which a change may append to
			change(&changed)
			if diff := cmp.Diff(want, mustParse(t, changed.write())); diff != "" {
				t.Errorf("identity (-want +got):\n%s", diff)
			}
		})
	}
}

// withHeader gives the blocks of data a header.
func withHeader(data []byte) []byte {
	var out []byte
	for block := range pemBlocks(data) {
		block.Headers = map[string]string{"Proc-Type": "x"}
		out = append(out, pem.EncodeToMemory(block)...)
	}
	return out
}

// TestSameServer has the cases that need another server than the table above.
func TestSameServer(t *testing.T) {
	tests := map[string]struct{ a, b parts }{
		"root and nothing":               {parts{server: "https://a.example"}, parts{server: "https://a.example/"}},
		"root and slashes":               {parts{server: "https://a.example"}, parts{server: "https://a.example//"}},
		"port and slash":                 {parts{server: "https://a.example"}, parts{server: "https://A.example:443/"}},
		"server name is the host":        {parts{server: "https://a.example:6443"}, parts{server: "https://a.example:6443", serverName: "a.example"}},
		"... in capitals":                {parts{server: "https://a.example"}, parts{server: "https://A.example", serverName: "a.EXAMPLE"}},
		"... an address":                 {parts{server: "https://192.0.2.1"}, parts{server: "https://192.0.2.1", serverName: "192.0.2.1"}},
		"... an address, v6":             {parts{server: "https://[2001:db8::1]:6443"}, parts{server: "https://[2001:db8::1]:6443", serverName: "2001:DB8:0::1"}},
		"address, v6, long":              {parts{server: "https://[2001:db8::1]"}, parts{server: "https://[2001:0DB8:0:0::0001]:443"}},
		"name in another script, escape": {parts{server: "https://bücher.example"}, parts{server: "https://b%C3%BCcher.example"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.a.token, test.b.token = "s3cret-t0ken", "s3cret-t0ken"
			a, b := mustParse(t, test.a.write()), mustParse(t, test.b.write())
			if diff := cmp.Diff(a, b); diff != "" {
				t.Errorf("identities differ:\n%s", diff)
			}
		})
	}
}

// TestSameDocument writes the same document in other ways.
func TestSameDocument(t *testing.T) {
	base := chained(t)
	document := base.write()
	asJSON, err := yaml.YAMLToJSON(document)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	tests := map[string][]byte{
		"JSON": asJSON,
		"sorted, without comments": func() []byte {
			sorted, err := yaml.JSONToYAML(asJSON)
			if err != nil {
				t.Fatal(err)
			}
			return sorted
		}(),
		"with comments": []byte("# mine\n" + strings.ReplaceAll(string(document), "\nusers:", "\n# theirs\nusers: # all\n")),
		"other order, other names, unused contexts, clusters and users": fmt.Appendf(nil, `
users:
- {name: unused, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, interactiveMode: Never}}}
- name: person
  user:
    token: %s
    client-key-data: %s
    client-certificate-data: %s
clusters:
- {name: unused, cluster: {server: "http://elsewhere.example", insecure-skip-tls-verify: true}}
- name: place
  cluster:
    disable-compression: true
    certificate-authority-data: %s
    tls-server-name: %s
    server: %s
contexts:
- {name: unused, context: {cluster: unused, user: unused}}
- {name: both, context: {user: person, cluster: place}}
kind: Config
current-context: both
apiVersion: v1
`, base.token, b64(base.key), b64(base.cert), b64(base.ca), base.serverName, base.server),
	}
	want := mustParse(t, document)
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(want, mustParse(t, data)); diff != "" {
				t.Errorf("identity (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEmptyIsAbsent(t *testing.T) {
	empty := parts{server: "https://target.example:6443", token: "s3cret-t0ken"}
	if diff := cmp.Diff(mustParse(t, config(goodCluster, goodUser)), mustParse(t, empty.write())); diff != "" {
		t.Errorf("absent and empty differ:\n%s", diff)
	}
}

func TestOtherIdentity(t *testing.T) {
	base := chained(t)
	otherCert, otherKey := keyPair(t)
	cas, chain := blocks(base.ca), blocks(base.cert)
	renewed := certificate(t, privateKey(t, base.cert, base.key), time.Now().Add(24*time.Hour))
	tests := map[string]func(p *parts){
		"base":                  func(*parts) {},
		"host":                  func(p *parts) { p.server = "https://other.example/k8s/a" },
		"host with a dot":       func(p *parts) { p.server = "https://target.example./k8s/a" },
		"port":                  func(p *parts) { p.server = "https://target.example:6443/k8s/a" },
		"longer port":           func(p *parts) { p.server = "https://target.example:4430/k8s/a" },
		"path":                  func(p *parts) { p.server = "https://target.example/k8s/b" },
		"path in capitals":      func(p *parts) { p.server = "https://target.example/k8s/A" },
		"no path":               func(p *parts) { p.server = "https://target.example" },
		"escaped slash, twice":  func(p *parts) { p.server = "https://target.example/k8s%252Fa" },
		"letter":                func(p *parts) { p.server = "https://target.examplek/k8s/a" },
		"letter like it":        func(p *parts) { p.server = "https://target.example\u212a/k8s/a" }, // the Kelvin sign
		"server name":           func(p *parts) { p.serverName = "other.example" },
		"no server name":        func(p *parts) { p.serverName = "" },
		"another CA":            func(p *parts) { p.ca = otherCert },
		"one CA less":           func(p *parts) { p.ca = cas[0] },
		"the other CA less":     func(p *parts) { p.ca = cas[1] },
		"one CA more":           func(p *parts) { p.ca = join(p.ca, otherCert) },
		"no CA":                 func(p *parts) { p.ca = nil },
		"certificate and key":   func(p *parts) { p.cert, p.key = otherCert, otherKey },
		"renewed certificate":   func(p *parts) { p.cert = join(renewed, chain[1], chain[2]) },
		"no certificate":        func(p *parts) { p.cert, p.key = nil, nil },
		"chain in other order":  func(p *parts) { p.cert = join(chain[0], chain[2], chain[1]) },
		"no chain":              func(p *parts) { p.cert = chain[0] },
		"a certificate repeats": func(p *parts) { p.cert = join(p.cert, chain[2]) },
		"token":                 func(p *parts) { p.token = "s3cret-t0ken2" },
		"token in capitals":     func(p *parts) { p.token = "S3CRET-T0KEN" },
		"no token":              func(p *parts) { p.token = "" },
	}
	identities := map[string]Identity{}
	for name, change := range tests {
		changed := base
		change(&changed)
		identities[name] = mustParse(t, changed.write())
	}
	for a, identity := range identities {
		for b, other := range identities {
			if a != b && reflect.DeepEqual(identity, other) {
				t.Errorf("%q and %q give the same identity", a, b)
			}
		}
	}
}
