package kubeconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shapes reads the kubeconfigs of testdata, by file name.
func shapes(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "kubeconfigs", "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no kubeconfigs in testdata: %v", err)
	}
	files := map[string][]byte{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = data
	}
	return files
}

// outcome is what Parse makes of a kubeconfig.
type outcome struct {
	server, serverName string
	ca, key, token     bool
	chain              int    // certificates in CertData
	expires            string // empty: it does not tell
	refused            string // the fields that are not allowed
}

func outcomeOf(data []byte) outcome {
	id, err := Parse(data)
	got := outcome{
		server: id.Server, serverName: id.TLSServerName,
		ca: len(id.CAData) > 0, key: len(id.KeyData) > 0, token: id.Token != "",
		chain: strings.Count(string(id.CertData), "BEGIN CERTIFICATE"),
	}
	if at, ok := id.ExpiresAt(); ok {
		got.expires = at.Format(time.RFC3339)
	}
	if err != nil {
		var fields []string
		for line := range strings.Lines(err.Error()) {
			if field, _, ok := strings.Cut(line, " is not allowed: "); ok {
				fields = append(fields, field)
			}
		}
		got.refused = strings.Join(fields, ", ")
	}
	return got
}

func TestShapes(t *testing.T) {
	tests := map[string]outcome{
		"kubectl.yaml": {server: "https://target.example:6443", serverName: "kubernetes", ca: true, token: true, expires: "2025-03-05T10:20:30Z"},
		"kubectl.json": {server: "https://target.example:6443", serverName: "kubernetes", ca: true, token: true, expires: "2025-03-05T10:20:30Z"},
		"kind.yaml":    {server: "https://127.0.0.1:41273", ca: true, key: true, chain: 1, expires: "2026-03-04T10:20:30Z"},
		"k3s.yaml":     {server: "https://127.0.0.1:6443", ca: true, key: true, chain: 2, expires: "2026-03-04T10:20:30Z"},
		"aks.yaml":     {server: "https://target-dns-1a2b3c4d.hcp.westeurope.azmk8s.example", ca: true, key: true, chain: 1, token: true, expires: "2027-03-04T10:20:30Z"},
		"rancher.yaml": {server: "https://rancher.example/k8s/clusters/c-m-8xk2vq5z", ca: true, token: true},
		// Another context's cluster has insecure-skip-tls-verify.
		"openshift.yaml": {server: "https://api.target.ocp.example:6443", token: true},
		"vcluster.yaml":  {server: "https://target.vcluster-target", ca: true, key: true, chain: 1, expires: "2026-03-04T10:20:30Z"},

		"minikube.yaml":          {refused: "certificate-authority, client-certificate, client-key"},
		"eks.yaml":               {refused: "exec"},
		"gke.yaml":               {refused: "exec"},
		"gke-auth-provider.yaml": {refused: "auth-provider"},
		"aks-kubelogin.yaml":     {refused: "exec"},
	}
	files := shapes(t)
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			if got := outcomeOf(files[name]); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
	for name := range files {
		if _, ok := tests[name]; !ok {
			t.Errorf("nothing is said of %s", name)
		}
	}
}
