package fakekubelet

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Kubelet serves the logs of containers.
type Kubelet struct {
	server *httptest.Server

	mu   sync.Mutex
	logs map[string]*Log
}

// Start starts one on loopback.
func Start() *Kubelet {
	k := &Kubelet{logs: map[string]*Log{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		k.Log(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")).serve(w, r)
	})
	k.server = httptest.NewUnstartedServer(mux)
	k.server.StartTLS()
	return k
}

// Stop ends the server, and every stream.
func (k *Kubelet) Stop() {
	k.mu.Lock()
	for _, log := range k.logs {
		log.Break()
	}
	k.mu.Unlock()
	k.server.CloseClientConnections()
	k.server.Close()
}

// Log returns the log of a container.
func (k *Kubelet) Log(namespace, pod, container string) *Log {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := strings.Join([]string{namespace, pod, container}, "/")
	if k.logs[key] == nil {
		k.logs[key] = newLog(key)
	}
	return k.logs[key]
}

// Announce has a cluster's API server take this for the kubelet of all nodes that there
// are.
func (k *Kubelet) Announce(ctx context.Context, c client.Client) error {
	address, ok := k.server.Listener.Addr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("the kubelet listens on %s, which is not TCP", k.server.Listener.Addr())
	}
	nodes := &corev1.NodeList{}
	if err := c.List(ctx, nodes); err != nil {
		return fmt.Errorf("listing the nodes: %w", err)
	}
	for i := range nodes.Items {
		patch := client.RawPatch("application/strategic-merge-patch+json", fmt.Appendf(nil,
			`{"status":{"addresses":[{"type":"Hostname","address":%q}],"daemonEndpoints":{"kubeletEndpoint":{"Port":%d}}}}`,
			address.IP, address.Port))
		if err := c.Status().Patch(ctx, &nodes.Items[i], patch); err != nil {
			return fmt.Errorf("writing the status of node %s: %w", nodes.Items[i].Name, err)
		}
	}
	return nil
}
