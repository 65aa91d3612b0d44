package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

// scriptedHub answers requests about one run as a spec says.
type scriptedHub struct {
	mu      sync.Mutex
	job     *v1alpha1.PooledJob
	patched string                                            // the last patch that was taken
	log     func(w http.ResponseWriter)                       // nil: there is no log API
	trouble func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
	changed chan struct{}
}

func (h *scriptedHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/apis/stream.") {
		if h.log == nil {
			http.NotFound(w, r)
			return
		}
		h.log(w)
		return
	}
	h.mu.Lock()
	trouble := h.trouble
	h.mu.Unlock()
	if trouble != nil && trouble(w, r) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Query().Get("watch") != "" {
		_ = http.NewResponseController(w).Flush()
		h.mu.Lock()
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
		}
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Method == http.MethodPatch {
		data, _ := io.ReadAll(r.Body)
		h.patched = string(data)
	}
	if strings.HasSuffix(r.URL.Path, "/pooledjobs") {
		_ = json.NewEncoder(w).Encode(&v1alpha1.PooledJobList{
			TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "PooledJobList"},
			ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []v1alpha1.PooledJob{*h.job},
		})
		return
	}
	_ = json.NewEncoder(w).Encode(h.job)
}

// becomes changes the run, and ends the watches, so that it is read again.
func (h *scriptedHub) becomes(change func(*v1alpha1.PooledJob)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h.job)
	close(h.changed)
	h.changed = make(chan struct{})
}

// start serves a hub with a run that has not ended.
func (h *scriptedHub) start(t *testing.T) *cluster.Client {
	t.Helper()
	g := NewWithT(t)
	h.changed = make(chan struct{})
	h.job = &v1alpha1.PooledJob{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "PooledJob"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "j", UID: types.UID("u1"), ResourceVersion: "1"},
		Status:     v1alpha1.PooledJobStatus{Phase: v1alpha1.PooledJobRunning, ClusterName: "c"},
	}
	server := httptest.NewServer(h)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	config := &rest.Config{Host: server.URL, QPS: -1}
	hub, err := cluster.NewClient(config, cluster.NewScheme())
	g.Expect(err).NotTo(HaveOccurred())
	return hub
}

func attendantOf(hub *cluster.Client, signals ...os.Signal) *attendant {
	caught := make(chan os.Signal, 2)
	for _, s := range signals {
		caught <- s
	}
	key := client.ObjectKey{Namespace: "n", Name: "j"}
	return &attendant{hub: hub, key: key, uid: "u1", progress: terminal.NewProgress(io.Discard, "n/j"), out: io.Discard, signals: caught}
}

func TestASecondSignalWaitsForTheCancelOfTheFirst(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	// A hub that is far away.
	h := &scriptedHub{trouble: func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch {
			return false
		}
		select {
		case <-r.Context().Done():
			return true
		case <-time.After(300 * time.Millisecond):
			return false
		}
	}}
	err := attendantOf(h.start(t), syscall.SIGINT, syscall.SIGTERM).attend(t.Context())
	g.Expect(err).To(Equal(failure.ExitOfSignal(syscall.SIGINT)))
	h.mu.Lock()
	defer h.mu.Unlock()
	g.Expect(h.patched).To(ContainSubstring(`"cancel":true`))
}

// A command that timeout of GNU coreutils ends gets the signal twice.
func TestASignalThatComesTwiceAtOnceIsOne(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	h := &scriptedHub{}
	a := attendantOf(h.start(t), syscall.SIGTERM, syscall.SIGTERM)
	a.patience = time.Millisecond
	result := make(chan error, 1)
	go func() { result <- a.attend(t.Context()) }()
	g.Eventually(func() string { h.mu.Lock(); defer h.mu.Unlock(); return h.patched }).Should(ContainSubstring(`"cancel":true`))
	g.Consistently(result).Should(Not(Receive()), "it has not left")
	h.becomes(func(job *v1alpha1.PooledJob) { job.Status.Phase = v1alpha1.PooledJobFailed })
	g.Eventually(result).Should(Receive(Equal(failure.ExitOfSignal(syscall.SIGTERM))))
}

// slowOutput is an output that is read only after a while.
type slowOutput struct {
	strings.Builder
	read <-chan struct{}
}

func (o *slowOutput) Write(data []byte) (int, error) {
	<-o.read
	return o.Builder.Write(data)
}

func TestAnOutputThatNobodyReadsYetIsNoSilence(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	h := &scriptedHub{log: func(w http.ResponseWriter) {
		for _, line := range []string{line1, line3} {
			_, _ = io.WriteString(w, line)
			_ = http.NewResponseController(w).Flush()
		}
	}}
	a := attendantOf(h.start(t))
	h.becomes(func(job *v1alpha1.PooledJob) { job.Status.Phase = v1alpha1.PooledJobSucceeded })
	a.patience = 50 * time.Millisecond
	read := make(chan struct{})
	time.AfterFunc(10*a.patience, func() { close(read) })
	out := &slowOutput{read: read}
	a.out = out
	g.Expect(a.attend(t.Context())).To(Succeed())
	g.Expect(out.String()).To(Equal("one\nthree\n"))
}

// refuse answers the first so many requests with 403.
func refuse(times int32) func(http.ResponseWriter, *http.Request) bool {
	var left atomic.Int32
	left.Store(times)
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if left.Add(-1) < 0 {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, status(http.StatusForbidden, "Forbidden").body)
		return true
	}
}

func TestARefusalForAMomentEndsNothing(t *testing.T) {
	t.Parallel()
	seen := make(chan *v1alpha1.PooledJob, 9)
	watch := func(ctx context.Context, hub *cluster.Client) error {
		w := &watcher{hub: hub, key: client.ObjectKey{Namespace: "n", Name: "j"}}
		return w.follow(ctx, func(job *v1alpha1.PooledJob) bool { seen <- job; return state.HasEnded(job) })
	}
	g := NewWithT(t)
	h := &scriptedHub{}
	hub := h.start(t)
	ended := make(chan error, 1)
	go func() { ended <- watch(t.Context(), hub) }()
	g.Eventually(seen).Should(Receive())
	h.mu.Lock()
	h.trouble = refuse(2)
	h.mu.Unlock()
	h.becomes(func(job *v1alpha1.PooledJob) { job.Status.Phase = v1alpha1.PooledJobSucceeded })
	g.Eventually(ended, 10*time.Second).Should(Receive(BeNil()))
	h.mu.Lock()
	h.trouble = refuse(100)
	h.mu.Unlock()
	g.Expect(apierrors.IsForbidden(watch(t.Context(), hub))).To(BeTrue(), "who was never let in is told at once")
}

func TestACancelIsAskedForAgainAfterARefusal(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	h := &scriptedHub{trouble: refuse(2)}
	attendantOf(h.start(t)).cancel(t.Context())
	h.mu.Lock()
	defer h.mu.Unlock()
	g.Expect(h.patched).To(ContainSubstring(`"cancel":true`))
}

func TestAnotherRunOfTheSameNameIsNotTakenForOurs(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	h := &scriptedHub{}
	a := attendantOf(h.start(t), syscall.SIGTERM)
	h.becomes(func(job *v1alpha1.PooledJob) { job.UID, job.Status.Phase = "u2", v1alpha1.PooledJobSucceeded })
	g.Expect(a.attend(t.Context())).To(MatchError(failure.DeletedError{Run: a.key}))
	a.cancel(t.Context())
	h.mu.Lock()
	defer h.mu.Unlock()
	g.Expect(h.patched).To(BeEmpty())
}

func TestARunThatIsGoneHasEnded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	h := &scriptedHub{}
	hub, key := h.start(t), client.ObjectKey{Namespace: "n", Name: "j"}
	g.Expect(ended(t.Context(), hub, key, "u1")).To(BeFalse())
	g.Expect(ended(t.Context(), hub, key, "u0")).To(BeTrue(), "another run has its name")
	h.mu.Lock()
	h.trouble = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, status(http.StatusNotFound, "NotFound").body)
		return true
	}
	h.mu.Unlock()
	g.Expect(ended(t.Context(), hub, key, "u1")).To(BeTrue())
	h.mu.Lock()
	h.trouble = func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }
	h.mu.Unlock()
	g.Expect(ended(t.Context(), hub, key, "u1")).To(BeFalse(), "that is no answer of the hub's")
}
