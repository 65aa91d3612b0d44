package scriptedhub

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
)

// UID is the UID of the run that the hub has at first.
const UID = types.UID("u1")

// Run returns the namespace and the name of the hub's run.
func Run() types.NamespacedName { return types.NamespacedName{Namespace: "n", Name: "j"} }

// Interference answers a request in place of the hub, and reports whether it has.
type Interference func(w http.ResponseWriter, r *http.Request) bool

// Hub answers requests about one run as a test says.
type Hub struct {
	mu        sync.Mutex
	run       *v1alpha1.PooledJob
	lastPatch string
	log       func(w http.ResponseWriter) // nil: there is no log API
	interfere Interference
	changed   chan struct{}
}

// New returns a hub with a run that has not ended.
func New() *Hub {
	return &Hub{
		changed: make(chan struct{}),
		run: &v1alpha1.PooledJob{
			TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "PooledJob"},
			ObjectMeta: metav1.ObjectMeta{Namespace: Run().Namespace, Name: Run().Name, UID: UID, ResourceVersion: "1"},
			Status:     v1alpha1.PooledJobStatus{Phase: v1alpha1.PooledJobRunning, ClusterName: "c"},
		},
	}
}

// Test is what the hub needs of a *testing.T.
type Test interface {
	// Helper leaves the caller out of the lines that a failure names.
	Helper()
	// Cleanup has something done when the test ends.
	Cleanup(do func())
	// Fatal ends the test.
	Fatal(args ...any)
}

// Start serves the hub until the test ends, and returns a client for it.
func (h *Hub) Start(t Test) *cluster.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	client, err := cluster.NewClient(&rest.Config{Host: server.URL, QPS: -1}, cluster.NewScheme())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// ServeLog has the hub answer requests for a log.
func (h *Hub) ServeLog(log func(w http.ResponseWriter)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = log
}

// Interfere has requests about the run answered by another first.
func (h *Hub) Interfere(interfere Interference) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.interfere = interfere
}

// Change changes the run, and ends the watches, so that it is read again.
func (h *Hub) Change(change func(*v1alpha1.PooledJob)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h.run)
	close(h.changed)
	h.changed = make(chan struct{})
}

// LastPatch returns the last patch of the run that was taken.
func (h *Hub) LastPatch() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastPatch
}

// ServeHTTP answers as the test said.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	log, interfere, changed := h.log, h.interfere, h.changed
	h.mu.Unlock()
	switch {
	case strings.HasPrefix(r.URL.Path, "/apis/stream."):
		if log == nil {
			http.NotFound(w, r)
			return
		}
		log(w)
	case interfere != nil && interfere(w, r):
	case r.URL.Query().Get("watch") != "":
		w.Header().Set("Content-Type", "application/json")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
		}
	default:
		h.serveRun(w, r)
	}
}

// serveRun answers a request for the run, for a list, or to patch it.
func (h *Hub) serveRun(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Method == http.MethodPatch {
		data, _ := io.ReadAll(r.Body)
		h.lastPatch = string(data)
	}
	if strings.HasSuffix(r.URL.Path, "/pooledjobs") {
		_ = json.NewEncoder(w).Encode(&v1alpha1.PooledJobList{
			TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "PooledJobList"},
			ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []v1alpha1.PooledJob{*h.run},
		})
		return
	}
	_ = json.NewEncoder(w).Encode(h.run)
}
