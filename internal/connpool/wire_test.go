package connpool

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// redirect sends the connections that are made from now on elsewhere.
func (p *proxy) redirect(server string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = strings.TrimPrefix(server, "https://")
}

// listed returns the requests for whole lists of Jobs and Pods, be it by watches.
func (s *apiserver) listed() []request {
	var listed []request
	for _, r := range append(s.asked(jobsPath), s.asked(podsPath)...) {
		if r.query.Get("watch") == "" || r.query.Get("sendInitialEvents") == "true" {
			listed = append(listed, r)
		}
	}
	return listed
}

var _ = Describe("Another cluster that answers over a new TCP connection", func() {
	// premature are the requests that came to the other cluster before the
	// connection was IdentityChanged, but for those which tell clusters apart.
	var (
		r         *history
		p         *proxy
		theirs    *gateway
		lease     *Lease
		premature func() []string
		config    Config
	)
	BeforeEach(func(ctx context.Context) {
		ca := newAuthority()
		ours := newGateway(ca, realServer(), "user")
		theirs = newQuietGateway(ca, nil)
		var mu sync.Mutex
		var early []string
		other := fakeServer("another")
		theirs.user("user", http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if state := r.stateOf(target)(); q.Method != http.MethodGet || q.URL.Path != identityPath {
				mu.Lock()
				if state != IdentityChanged {
					early = append(early, fmt.Sprint(q.Method, " ", q.URL, " while ", state))
				}
				mu.Unlock()
			}
			other.Config.Handler.ServeHTTP(w, q)
		}))
		premature = func() []string {
			mu.Lock()
			defer mu.Unlock()
			return append([]string{}, early...)
		}
		theirs.EnableHTTP2 = true
		theirs.start()
		p, r = newProxy(ours.URL), newHistory()
		config = withToken(ours.config(ca), "user")
		config.Server = "https://" + p.address
		lease = r.connect(ctx, target, config)
	})

	// switchOver cuts the connection and has the other cluster answer; Jobs are
	// created meanwhile.
	switchOver := func(ctx context.Context) {
		p.redirect(theirs.URL)
		p.cut()
		Eventually(ctx, func() State {
			_, _, err := lease.CreateJob(ctx, toCreate(r.newJob()))
			Expect(err).To(HaveOccurred())
			if current, err := r.pool.Lease(target, ""); err == nil {
				_, _, err := current.CreateJob(ctx, toCreate(r.newJob()))
				Expect(err).To(HaveOccurred())
			}
			return r.stateOf(target)()
		}).WithPolling(time.Millisecond).Should(Equal(IdentityChanged))
	}

	It("receives no request to create a Job, and no other call of a run", func(ctx context.Context) {
		switchOver(ctx)
		expectClosed(ctx, lease)
		Expect(r.status().Err).To(MatchError(ContainSubstring("another")))
		Expect(theirs.seen(func(v visit) bool { return v.method != http.MethodGet })).To(BeEmpty())
		Expect(theirs.seen(func(v visit) bool { return strings.Contains(v.path, "/namespaces/default/") })).To(BeEmpty())
		Expect(r.of(target)).NotTo(ContainElement(Unreachable))
	})

	It("receives only identity requests before the connection becomes IdentityChanged", func(ctx context.Context) {
		switchOver(ctx)
		Expect(premature()).To(BeEmpty())
		for _, v := range theirs.seen(func(visit) bool { return true })[:1] {
			Expect(v.path).To(Equal(identityPath))
		}
	})

	It("receives only identity requests from a new connection that has recorded another UID", func(ctx context.Context) {
		r.pool.Disconnect(target)
		p.redirect(theirs.URL)
		config.ClusterUID = clusterUID
		r.pool.Connect(target, config)
		Eventually(ctx, r.stateOf(target)).Should(Equal(IdentityChanged))
		Expect(premature()).To(BeEmpty())
	})

	It("does not keep the connection from becoming Ready when its own cluster is back", func(ctx context.Context) {
		ours := p.upstream
		switchOver(ctx)
		p.redirect(ours)
		p.cut()
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		Expect(r.createThrough(ctx, target)).To(Succeed())
	})
})

var _ = Describe("The same cluster that answers over a new TCP connection", func() {
	It("continues the session, and nothing is listed again", func(ctx context.Context) {
		s := newAPIServer()
		jobs, pods := s.feeds()
		p, r := newProxy(s.URL), newHistory()
		figures := r.registry()
		config := s.config("token")
		config.Server = "https://" + p.address
		lease := r.connect(ctx, target, config)
		for round := range 3 {
			jobs.bookmark()
			pods.bookmark()
			heard := func() int64 {
				i := r.lease(target).views[allNamespaces]
				return i.lastWords()
			}
			// A reflector lists again if its watch ends within a second and it has counted no event.
			// It counts an event after the event was read, and before it takes the next one: once
			// the third bookmark has been read, the first has been counted.
			for range 3 {
				last := heard()
				Eventually(ctx, func() int64 { jobs.bookmark(); pods.bookmark(); return heard() }).Should(BeNumerically(">", last))
			}
			p.cut()
			for _, path := range []string{jobsPath, podsPath} {
				Eventually(ctx, s.asked).WithArguments(path).Should(HaveLen(round + 2))
			}
		}
		Expect(s.listed()).To(HaveLen(2))
		Expect(s.asked(versionPath)).To(HaveLen(1), "there was another session")
		Expect(s.asked(identityPath)).To(HaveLen(p.dialled()), "a TCP connection was used without a proof")
		Expect(lease.ReadClusterUID(ctx)).To(Equal("fake"))
		Consistently(ctx, r.of).WithArguments(target).Should(Equal([]State{Ready}))
		Eventually(ctx, p.open).Should(Equal(1))
		Expect(figures()).To(HaveKeyWithValue(`reconnects_total{target,Redialled}`, float64(p.dialled()-1)))
	})
})

var _ = Describe("A new TCP connection whose far end does not say which cluster it is", func() {
	DescribeTable("carries only identity requests while those are answered by",
		func(ctx context.Context, answer http.HandlerFunc, state State) {
			s, ca := newAPIServer(), newAuthority()
			s.feeds()
			g, r := newGateway(ca, s.Config.Handler, "user"), newHistory()
			lease := r.connect(ctx, target, withToken(g.config(ca), "user"))
			first := g.open()[0]
			says := s.answers[identityPath]
			s.answer(identityPath, answer)
			g.CloseClientConnections()
			Eventually(ctx, func() State {
				_, _, err := lease.CreateJob(ctx, toCreate(r.newJob()))
				Expect(err).To(HaveOccurred())
				return r.stateOf(target)()
			}).WithPolling(time.Millisecond).Should(Equal(state))
			Consistently(ctx, r.stateOf(target)).Should(Equal(state))
			Expect(len(g.connsOf("user"))).To(BeNumerically(">", 1))
			Expect(g.seen(func(v visit) bool {
				// Which rights are missing may be asked of whoever says that some are.
				explaining := state == Forbidden && strings.HasSuffix(v.path, "/selfsubjectaccessreviews")
				return v.from != first && v.path != identityPath && !explaining
			})).To(BeEmpty())
			s.answer(identityPath, says)
			Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
			Expect(r.lease(target).ReadClusterUID(ctx)).To(Equal("fake"))
		},
		Entry("401", answerError(apierrors.NewUnauthorized("no")), Rejected),
		Entry("403", answerForbidden("no"), Forbidden),
		Entry("a page", answerPage(http.StatusOK), Unreachable),
		Entry("502", answerPage(http.StatusBadGateway), Unreachable),
	)
})

var _ = Describe("A server that wants a TCP connection to end", func() {
	It("gets no new requests over it, while watches and calls under way may finish", func(ctx context.Context) {
		s := newAPIServer()
		jobs, pods := s.feeds()
		ca := newAuthority()
		g, r := newGateway(ca, s.Config.Handler, "user"), newHistory()
		lease := r.connect(ctx, target, withToken(g.config(ca), "user"))
		first := g.open()
		Expect(first).To(HaveLen(1))
		hook, release := holdUp()
		g.hook(jobPath, hook)
		underWay := getJob(ctx, lease)
		Eventually(ctx, func() []visit { return g.seen(forJob) }).Should(HaveLen(1))

		sayGoodbye := sync.OnceFunc(func() { g.hook(identityPath, nil) })
		g.hook(identityPath, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close") // which is GOAWAY in HTTP/2
			sayGoodbye()
		})
		Expect(lease.ReadClusterUID(ctx)).To(Equal("fake"))
		Eventually(ctx, func(gm Gomega) {
			gm.Expect(lease.ReadClusterUID(ctx)).To(Equal("fake"))
			gm.Expect(g.open()).To(HaveLen(2))
		}).Should(Succeed())
		late := len(g.seen(func(v visit) bool { return v.from == first[0] }))
		for range 5 {
			Expect(lease.ReadClusterUID(ctx)).To(Equal("fake"))
		}
		Consistently(ctx, g.open).Should(ContainElement(first[0]), "calls and watches were cut")
		Expect(g.seen(func(v visit) bool { return v.from == first[0] })).To(HaveLen(late), "a request over the connection that is to end")
		Expect(underWay).NotTo(Receive())
		release()
		Eventually(ctx, underWay).Should(Receive(Satisfy(apierrors.IsNotFound)), "the answer of a call under way is lost")

		jobs.bookmark() // a watch that told nothing would be listed anew
		pods.bookmark()
		jobs.end()
		pods.end()
		Eventually(ctx, g.open).Should(And(HaveLen(1), Not(ContainElement(first[0]))))
		Eventually(ctx, g.watchesOf("user")).Should(Equal(2))
		Expect(s.listed()).To(HaveLen(2))
		Expect(r.of(target)).To(Equal([]State{Ready}))
		Expect(s.asked(versionPath)).To(HaveLen(1), "there was another session")
	})
})

var _ = Describe("More requests than a TCP connection may carry", func() {
	It("open more TCP connections, which are verified first and closed afterwards", func(ctx context.Context) {
		const streams, calls = 10, 20
		s, ca := newAPIServer(), newAuthority()
		g := newQuietGateway(ca, s.Config.Handler, "user")
		g.EnableHTTP2 = true
		g.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
		g.start()
		r := newHistory()
		lease := r.connect(ctx, target, withToken(g.config(ca), "user"))
		Expect(g.open()).To(HaveLen(1))
		first := g.open()[0]
		hook, release := holdUp()
		g.hook(jobPath, hook)
		var ended []<-chan error
		for range calls {
			ended = append(ended, getJob(ctx, lease))
		}
		Eventually(ctx, func() []visit { return g.seen(forJob) }).Should(HaveLen(calls))
		Expect(len(g.open())).To(BeNumerically(">", 1))
		Expect(len(g.open())).To(BeNumerically("<=", 3))
		for _, conn := range g.open() {
			asked := g.seen(func(v visit) bool { return v.from == conn })
			Expect(asked[0].path).To(Equal(identityPath), "a TCP connection was used without a proof")
		}
		release()
		for _, call := range ended {
			Eventually(ctx, call).Should(Receive(Satisfy(apierrors.IsNotFound)))
		}
		Eventually(ctx, g.open).Should(Equal([]string{first}))
		Consistently(ctx, g.open).Should(Equal([]string{first}))
		Expect(r.of(target)).To(Equal([]State{Ready}))
		Expect(g.watchesOf("user")()).To(Equal(2))
	})
})

var _ = Describe("A server that speaks HTTP/1.1 only", func() {
	It("can be used with one TCP connection per watch and one for other requests", func(ctx context.Context) {
		ca := newAuthority()
		g := newQuietGateway(ca, realServer(), "user")
		g.start()
		r := newHistory()
		lease := r.connect(ctx, target, withToken(g.config(ca), "user"))
		job := r.createJob(ctx)
		Eventually(ctx, r.inView(target, job)).Should(BeTrue())
		Expect(r.createThrough(ctx, target)).To(Succeed())
		Expect(lease.ReadClusterUID(ctx)).To(Equal(clusterUID))
		// Two watches, and one for what else there is.
		Eventually(ctx, g.open).Should(HaveLen(3))
		Consistently(ctx, g.open).WithTimeout(2*time.Second).Should(HaveLen(3), "each request has a TCP connection of its own")
		Expect(len(g.connsOf("user"))).To(BeNumerically("<", 10))
		for _, conn := range g.connsOf("user") {
			Expect(g.seen(func(v visit) bool { return v.from == conn })[0].path).To(Equal(identityPath), "a TCP connection was used without a proof")
		}
		Expect(r.of(target)).To(Equal([]State{Ready}))
		r.pool.Disconnect(target)
		Eventually(ctx, g.open).Should(BeEmpty())
	})
})

var _ = Describe("A connection that breaks under a call", func() {
	It("repeats a read, but does not send the creation of a Job again", func(ctx context.Context) {
		s, r := newAPIServer(), newRig()
		lease := r.connect(ctx, target, s.config("token"))
		jobs := "/apis/batch/v1/namespaces/default/jobs"
		broken := 0
		breakOnce := func(then http.HandlerFunc) http.HandlerFunc {
			return func(w http.ResponseWriter, q *http.Request) {
				if broken++; broken == 1 {
					s.CloseClientConnections()
					return
				}
				then(w, q)
			}
		}
		s.answer(jobPath, breakOnce(answerError(apierrors.NewNotFound(batchJobs, "job"))))
		_, err := lease.GetJob(ctx, "default", "job")
		Expect(apierrors.IsNotFound(err)).To(BeTrue(), "%v", err)
		reads := s.asked(jobs)
		Expect(reads).To(HaveLen(2))

		broken = 0
		s.answer(jobs, breakOnce(answerError(apierrors.NewAlreadyExists(batchJobs, "job"))))
		_, _, err = lease.CreateJob(ctx, toCreate(r.newJob()))
		Expect(err).To(HaveOccurred())
		Expect(apierrors.IsAlreadyExists(err)).To(BeFalse(), "it was sent twice")
		Expect(s.asked(jobs)).To(HaveLen(len(reads) + 1))
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})
})
