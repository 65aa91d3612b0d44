package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/pooledjob/pooledjob/test/localcluster"
)

// startWith starts a manager of no reconcilers with these flags. It ends with the test.
func startWith(t *testing.T, hub *localcluster.Cluster, args ...string) {
	t.Helper()
	g := NewWithT(t)
	kubeconfig, err := hub.Kubeconfig()
	g.Expect(err).NotTo(HaveOccurred())
	file := filepath.Join(t.TempDir(), "kubeconfig")
	g.Expect(os.WriteFile(file, kubeconfig, 0o600)).To(Succeed())
	t.Setenv("KUBECONFIG", file)
	options, _ := parse(t, append([]string{"--namespace=a", "--metrics-bind-address=0", "--health-probe-bind-address=127.0.0.1:0"}, args...)...)
	mgr, _, err := newManager(*options)
	g.Expect(err).NotTo(HaveOccurred())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		NewWithT(t).Expect(<-ended).To(Succeed())
	})
}

// block waits long enough to be sampled.
func block() {
	timer := time.NewTimer(5 * time.Millisecond)
	<-timer.C
}

func TestProfilesAreServedWhenAskedFor(t *testing.T) {
	localcluster.SkipIfShort(t)
	hub, err := localcluster.Start(t.Context(), localcluster.Options{Name: "hub"})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { NewWithT(t).Expect(hub.Stop()).To(Succeed()) })
	t.Run("not otherwise", func(t *testing.T) {
		startWith(t, hub)
		NewWithT(t).Expect(runtime.SetMutexProfileFraction(-1)).To(BeZero())
	})
	t.Run("with what goroutines wait for", func(t *testing.T) {
		g := NewWithT(t)
		t.Cleanup(func() {
			runtime.SetBlockProfileRate(0)
			runtime.SetMutexProfileFraction(0)
		})
		address := freeAddress(t)
		startWith(t, hub, "--pprof-bind-address="+address)
		g.Expect(runtime.SetMutexProfileFraction(-1)).To(BeNumerically(">", 0), "or the profile of mutexes is empty")
		g.Eventually(func(g Gomega) {
			block()
			g.Expect(profile(g, t, "http://"+address+"/debug/pprof/block?debug=1")).To(ContainSubstring("manager.block"))
		}).WithTimeout(15 * time.Second).Should(Succeed())
	})
}

// freeAddress returns one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	defer listener.Close()
	return listener.Addr().String()
}

func profile(g Gomega, t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	g.Expect(err).NotTo(HaveOccurred())
	response, err := http.DefaultClient.Do(request)
	g.Expect(err).NotTo(HaveOccurred())
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	g.Expect(err).NotTo(HaveOccurred())
	return string(text)
}
