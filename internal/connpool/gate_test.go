package connpool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestGateListsThoseWhoFindItFull(t *testing.T) {
	g := NewWithT(t)
	gate := &gate{}
	gate.set(2, 0)
	g.Expect(gate.enter("a")).To(BeTrue())
	g.Expect(gate.enter("b")).To(BeTrue())
	for _, key := range []string{"c", "d", "c", "", "e", "d", "c"} {
		g.Expect(gate.enter(key)).To(BeFalse())
	}
	g.Expect(gate.inFlight).To(Equal(2))
	g.Expect(gate.dequeue()).To(BeEmpty(), "there is no room")
	gate.leave()
	g.Expect(gate.dequeue()).To(Equal([]string{"c"}))
	g.Expect(gate.enter("x")).To(BeTrue(), "a place is kept for nobody")
	g.Expect(gate.enter("c")).To(BeFalse())
	gate.leave()
	gate.leave()
	g.Expect(gate.dequeue()).To(Equal([]string{"d", "e"}), "first come, first served")
	g.Expect(gate.dequeue()).To(Equal([]string{"c"}), "it came again after it was notified")
	g.Expect(gate.dequeue()).To(BeEmpty())
	g.Expect(gate.queued).To(BeEmpty())
	g.Expect(gate.tick()).To(BeZero())
}

func TestGateFollowsItsBounds(t *testing.T) {
	g := NewWithT(t)
	gate := &gate{}
	gate.set(3, 0)
	for range 3 {
		g.Expect(gate.enter("a")).To(BeTrue())
	}
	gate.set(1, 0)
	g.Expect(gate.enter("b")).To(BeFalse())
	gate.leave()
	gate.leave()
	g.Expect(gate.dequeue()).To(BeEmpty(), "one is still under way")
	g.Expect(gate.enter("b")).To(BeFalse())
	gate.set(2, 0)
	g.Expect(gate.dequeue()).To(Equal([]string{"b"}))
}

func TestGateBoundsCallsPerSecond(t *testing.T) {
	g := NewWithT(t)
	gate := &gate{}
	gate.set(90, 3)
	for range 3 {
		g.Expect(gate.enter("a")).To(BeTrue())
	}
	limiter := gate.limiter
	gate.set(80, 3)
	g.Expect(gate.limiter).To(BeIdenticalTo(limiter), "setting the same bound again gives new tokens")
	for _, key := range []string{"b", "c", "d"} {
		g.Expect(gate.enter(key)).To(BeFalse())
	}
	g.Expect(gate.inFlight).To(Equal(3))
	g.Expect(gate.tick()).To(Equal(time.Second / 3))
	g.Expect(gate.tick()).To(BeZero(), "somebody looks already")
	g.Expect(gate.dequeue()).To(Equal([]string{"b"}), "one for each token")
	gate.ticking = false
	g.Expect(gate.tick()).To(Equal(time.Second / 3))
	gate.set(80, 0)
	g.Expect(gate.dequeue()).To(Equal([]string{"c", "d"}))
	g.Expect(gate.enter("e")).To(BeTrue())
}

// TestNamespacesTakeRoom: each namespace has two watches in the one TCP connection,
// which carries 100 requests.
func TestNamespacesTakeRoom(t *testing.T) {
	for _, test := range []struct{ namespaces, asked, limit int }{
		{0, 0, 64},
		{1, 0, 64},
		{1, 90, 90},
		{16, 0, 64},
		{17, 0, 62},
		{30, 0, 36},
		{30, 10, 10},
		{40, 0, 16},
		{41, 0, 16},
		{400, 0, 16},
		{400, 4, 4},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			e := &entry{pool: New(t.Context(), Options{}), holds: map[*hold]struct{}{}}
			h := &hold{member: &member{}, entry: e, config: Config{MaxInFlight: test.asked}}
			for i := range test.namespaces {
				h.config.Namespaces = append(h.config.Namespaces, fmt.Sprint(i))
			}
			e.holds[h] = struct{}{}
			e.apply()
			NewWithT(t).Expect(e.gate.limit).To(Equal(test.limit))
		})
	}
}

// told is the order in which OnChange named keys.
type told struct {
	mu   sync.Mutex
	keys []string
}

func (t *told) follow(o *Options) {
	o.OnChange = func(key string) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.keys = append(t.keys, key)
	}
}

func (t *told) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string{}, t.keys...)
}

var _ = Describe("A run that finds a connection busy", func() {
	// oneByOne has the server answer for the Job when it is told to, once each time.
	oneByOne := func(s *apiserver) chan<- struct{} {
		next := make(chan struct{})
		s.answer(jobPath, func(w http.ResponseWriter, q *http.Request) {
			select {
			case <-next:
			case <-q.Context().Done():
			}
			w.WriteHeader(http.StatusNotFound)
		})
		return next
	}
	busy := func(ctx context.Context, lease *Lease, keys ...string) {
		GinkgoHelper()
		for _, key := range keys {
			Expect(keyed(lease, key).DeleteJob(ctx, "default", "job", "uid", "")).To(MatchError(ErrBusy))
		}
	}

	It("gets one OnChange call when there is room, in the order of refusal", func(ctx context.Context) {
		s, t := newAPIServer(), &told{}
		next := oneByOne(s)
		r := newRig(t.follow, func(o *Options) { o.MaxInFlight = 2 })
		lease := r.connect(ctx, target, s.config("token"))
		getJob(ctx, lease)
		getJob(ctx, lease)
		Eventually(ctx, func() []request { return s.asked(jobPath) }).Should(HaveLen(2))
		busy(ctx, lease, "a", "b", "a", "c", "d", "b", "")
		Consistently(ctx, t.all).WithTimeout(200 * time.Millisecond).Should(BeEmpty())

		next <- struct{}{}
		Eventually(ctx, t.all).Should(Equal([]string{"a"}))
		Consistently(ctx, t.all).WithTimeout(200*time.Millisecond).Should(Equal([]string{"a"}), "there is room for one")
		next <- struct{}{}
		Eventually(ctx, t.all).Should(Equal([]string{"a", "b", "c"}))
		Expect(keyed(lease, "a").ReadClusterUID(ctx)).To(Equal("fake"))
		Eventually(ctx, t.all).Should(Equal([]string{"a", "b", "c", "d"}))
		Expect(lease.ReadClusterUID(ctx)).To(Equal("fake"))
		Consistently(ctx, t.all).WithTimeout(200 * time.Millisecond).Should(HaveLen(4))
		Expect(s.asked(jobPath)).To(HaveLen(2), "something was sent for a call that was turned away")
	})

	It("gets an OnChange call when the call before it failed", func(ctx context.Context) {
		s, t := newAPIServer(), &told{}
		oneByOne(s)
		r := newRig(t.follow, func(o *Options) { o.MaxInFlight = 1 })
		lease := r.connect(ctx, target, s.config("token"))
		short, giveUp := context.WithCancel(ctx)
		ended := getJob(short, lease)
		Eventually(ctx, func() []request { return s.asked(jobPath) }).Should(HaveLen(1))
		busy(ctx, lease, "a")
		giveUp()
		Eventually(ctx, ended).Should(Receive(HaveOccurred()))
		Eventually(ctx, t.all).Should(Equal([]string{"a"}))
	})

	It("gets an OnChange call when a QPS limit was set meanwhile", func(ctx context.Context) {
		s, t := newAPIServer(), &told{}
		next := oneByOne(s)
		r := newRig(t.follow, func(o *Options) { o.MaxInFlight = 1 })
		config := s.config("token")
		lease := r.connect(ctx, target, config)
		getJob(ctx, lease)
		Eventually(ctx, func() []request { return s.asked(jobPath) }).Should(HaveLen(1))
		busy(ctx, lease, "a", "b")
		config.QPS = 10
		r.pool.Connect(target, config)
		next <- struct{}{}
		Eventually(ctx, t.all).Should(Equal([]string{"a", "b"}))
	})

	It("gets an OnChange call when MaxInFlight was raised meanwhile", func(ctx context.Context) {
		s, t := newAPIServer(), &told{}
		next := oneByOne(s)
		r := newRig(t.follow)
		config := s.config("token")
		config.MaxInFlight = 1
		lease := r.connect(ctx, target, config)
		getJob(ctx, lease)
		Eventually(ctx, func() []request { return s.asked(jobPath) }).Should(HaveLen(1))
		busy(ctx, lease, "a", "b")
		config.MaxInFlight = 3
		r.pool.Connect(target, config)
		next <- struct{}{}
		Eventually(ctx, t.all).Should(Equal([]string{"a", "b"}))
	})
})

var _ = Describe("A QPS limit", func() {
	It("limits the rate of requests, and every run that was refused gets its turn", func(ctx context.Context) {
		const qps, runs = 10, 40
		s := newAPIServer()
		var mu sync.Mutex
		var arrived []time.Time
		s.answer(jobPath, func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			arrived = append(arrived, time.Now())
			w.WriteHeader(http.StatusNotFound)
		})
		woken := make(chan string, 10*runs)
		r := newRig(func(o *Options) { o.QPS, o.OnChange = qps, func(key string) { woken <- key } })
		lease := r.connect(ctx, target, s.config("token"))
		done, turnedAway := map[string]bool{}, 0
		began := time.Now()
		// Each run does what a reconcile does: it asks, and comes again when it is told.
		ask := func(key string) {
			switch _, err := keyed(lease, key).GetJob(ctx, "default", "job"); {
			case errors.Is(err, ErrBusy):
				turnedAway++
			default:
				Expect(apierrors.IsNotFound(err)).To(BeTrue(), "%v", err)
				done[key] = true
			}
		}
		for i := range runs {
			ask(fmt.Sprint("run-", i))
		}
		for len(done) < runs {
			select {
			case key := <-woken:
				Expect(done).NotTo(HaveKey(key), "it was told although it asked for nothing")
				ask(key)
			case <-time.After(patience):
				Fail(fmt.Sprint("nobody was told; done are ", len(done)))
			}
		}
		Expect(turnedAway).To(BeNumerically(">=", runs-2*qps))
		Expect(time.Since(began)).To(BeNumerically("<", 4*time.Second*(runs-qps)/qps), "there was room long before")
		mu.Lock()
		defer mu.Unlock()
		Expect(arrived).To(HaveLen(runs))
		for i, at := range arrived {
			// As many as come in a second may come at once.
			earliest := began.Add(time.Second * time.Duration(i+1-qps) / qps)
			Expect(at).To(BeTemporally(">=", earliest), "request %d", i)
		}
	})
})

var _ = Describe("A connection with many namespaces", func() {
	It("limits its calls so that they fit into one TCP connection beside its watches", func(ctx context.Context) {
		const namespaces, room = 30, 36
		s, ca := newAPIServer(), newAuthority()
		namespaced := regexp.MustCompile(`/namespaces/ns-\d+/`)
		g := newQuietGateway(ca, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			q.URL.Path = namespaced.ReplaceAllString(q.URL.Path, "/")
			s.ServeHTTP(w, q)
		}), "user")
		g.EnableHTTP2 = true
		g.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 100}
		g.start()
		config := withToken(g.config(ca), "user")
		for i := range namespaces {
			config.Namespaces = append(config.Namespaces, fmt.Sprint("ns-", i))
		}
		r := newRig()
		lease := r.connect(ctx, target, config)
		Eventually(ctx, g.watchesOf("")).Should(Equal(2 * namespaces))
		hook, release := holdUp()
		g.hook(jobPath, hook)
		var ended []<-chan error
		for range room {
			ended = append(ended, getJob(ctx, lease))
		}
		underWay := func() []visit { return g.seen(forJob) }
		Eventually(ctx, underWay).Should(HaveLen(room))
		Expect(lease.DeleteJob(ctx, "default", "job", "uid", "")).To(MatchError(ErrBusy))
		Consistently(ctx, g.open).Should(HaveLen(1), "calls, watches and probes need more than one TCP connection")
		release()
		for _, call := range ended {
			Eventually(ctx, call).Should(Receive(Satisfy(apierrors.IsNotFound)))
		}
		Expect(g.connsOf("user")).To(HaveLen(1))
	})
})
