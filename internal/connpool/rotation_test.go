package connpool

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// swapTime bounds how long a good new identity may take to be in use.
const swapTime = 5 * time.Second

// rotation is a connection with one identity, and servers that know others.
type rotation struct {
	*history
	ca     *authority // of the servers
	next   *authority // that they will have some day
	g      *gateway
	second *gateway // another address of the same cluster
	old    Config
	lease  *Lease
}

// newRotation connects as the user "old".
func newRotation(ctx context.Context) *rotation {
	t := &rotation{ca: newAuthority(), next: newAuthority()}
	t.g = newGateway(t.ca, realServer(), "old", "new")
	t.second = newGateway(t.ca, realServer(), "old", "new")
	t.history = newHistory()
	t.old = t.ca.withCertificate(t.g.config(t.ca), "old")
	t.lease = t.connect(ctx, target, t.old)
	return t
}

// expectSwap waits until the connection uses the identity. Until then the lease of
// the one before works, and at no time is there none.
func (t *rotation) expectSwap(ctx context.Context, before *Lease, to Config) {
	GinkgoHelper()
	began := time.Now()
	Eventually(ctx, func(g Gomega) {
		_, err := before.Job("default", "job")
		status := t.status()
		if err != nil {
			g.Expect(status.IdentityHash).To(Equal(to.Hash()), "the old lease refuses before the new one is in use")
		}
		_, leaseErr := t.pool.Lease(target, "")
		if leaseErr != nil || status.State != Ready {
			StopTrying("the connection was not Ready").Wrap(leaseErr).Now()
		}
		g.Expect(status.IdentityHash).To(Equal(to.Hash()))
	}).WithTimeout(swapTime).WithPolling(time.Millisecond).Should(Succeed())
	Expect(time.Since(began)).To(BeNumerically("<", swapTime))
	expectClosed(ctx, before)
}

var _ = Describe("An identity that is replaced", func() {
	DescribeTable("stays in use until the new one works, and its calls are not cut, when the new one has another:",
		func(ctx context.Context, change func(*rotation, *Config), user string) {
			t := newRotation(ctx)
			job := t.createJob(ctx)
			Eventually(ctx, t.inView(target, job)).Should(BeTrue())
			hook, release := holdUp()
			t.g.hook(jobPath, hook)
			underWay := getJob(ctx, t.lease)
			Eventually(ctx, func() []visit { return t.g.seen(forJob) }).Should(HaveLen(1))
			oldConns := t.g.open()
			Expect(oldConns).To(HaveLen(1))

			config := t.old
			change(t, &config)
			t.pool.Connect(target, config)
			t.expectSwap(ctx, t.lease, config)

			Expect(t.inView(target, job)()).To(BeTrue(), "the new view is not whole")
			server := t.g
			if config.Server == t.second.URL {
				server = t.second
			}
			Expect(t.createThrough(ctx, target)).To(Succeed())
			Expect(server.creators()).To(Equal([]string{user}))
			onNewConns := func(v visit) bool {
				return server != t.g || v.from != oldConns[0]
			}
			Eventually(ctx, func() []visit {
				return server.seen(func(v visit) bool { return !v.ended && v.watching() && v.user == user && onNewConns(v) })
			}).Should(HaveLen(2))
			Eventually(ctx, func() []visit {
				return t.g.seen(func(v visit) bool { return !v.ended && v.watching() && v.from == oldConns[0] })
			}).Should(BeEmpty(), "the watches outlive their credential")

			Consistently(ctx, t.g.open).WithTimeout(200 * time.Millisecond).Should(ContainElement(oldConns[0]))
			Expect(underWay).NotTo(Receive(), "a call under way was cut")
			release()
			Eventually(ctx, underWay).Should(Receive(Satisfy(apierrors.IsNotFound)), "the answer of a call under way is lost")
			Eventually(ctx, t.g.open).ShouldNot(ContainElement(oldConns[0]))
			Eventually(ctx, server.open).Should(HaveLen(1))
			Expect(t.of(target)).To(HaveEach(Ready))
			Expect(t.status().Next).To(BeNil())
		},
		Entry("token", func(_ *rotation, c *Config) {
			c.CertData, c.KeyData, c.Token = nil, nil, "new"
		}, "new"),
		Entry("client certificate", func(t *rotation, c *Config) {
			*c = t.ca.withCertificate(*c, "new")
		}, "new"),
		Entry("client certificate of the same user", func(t *rotation, c *Config) {
			*c = t.ca.withCertificate(*c, "old")
		}, "old"),
		Entry("CA", func(t *rotation, c *Config) {
			c.CAData = bytes.Join([][]byte{t.ca.pem(), t.next.pem()}, nil)
		}, "old"),
		Entry("CA, as has the server's certificate", func(t *rotation, c *Config) {
			t.g.mu.Lock()
			defer t.g.mu.Unlock()
			t.g.certificate = t.next.issue("gateway")
			c.CAData = t.next.pem()
		}, "old"),
		Entry("TLS server name", func(_ *rotation, c *Config) {
			c.TLSServerName = "gateway.example"
		}, "old"),
		Entry("address", func(t *rotation, c *Config) {
			c.Server = t.second.URL
		}, "old"),
		Entry("everything", func(t *rotation, c *Config) {
			t.second.mu.Lock()
			defer t.second.mu.Unlock()
			t.second.certificate = t.next.issue("gateway")
			*c = t.next.withCertificate(t.second.config(t.next), "new")
			c.TLSServerName = "gateway.example"
		}, "new"),
	)

	It("gives way to the latest identity when several are given in a row", func(ctx context.Context) {
		t := newRotation(ctx)
		hook, release := holdUp()
		t.g.user("slow", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hook(w, r); realServer().ServeHTTP(w, r) }))
		slow, last := t.ca.withCertificate(t.old, "slow"), t.ca.withCertificate(t.old, "new")
		t.pool.Connect(target, slow)
		Eventually(ctx, func() []string { return t.g.connsOf("slow") }).ShouldNot(BeEmpty())
		t.pool.Connect(target, last)
		t.expectSwap(ctx, t.lease, last)
		release()
		Eventually(ctx, t.g.open).Should(HaveLen(1))
		Consistently(ctx, t.hashOf(target)).Should(Equal(last.Hash()))
		Expect(t.of(target)).To(HaveEach(Ready))
	})
})

var _ = Describe("A new identity that does not work", func() {
	forbidden := answerForbidden("new may do nothing")
	DescribeTable("leaves the old identity in use, and is reported as Next in the status:",
		func(ctx context.Context, broken func(*rotation) Config, state State, words string) {
			t := newRotation(ctx)
			t.pool.Connect(target, broken(t))
			Eventually(ctx, t.nextState).Should(Equal(state))
			status := t.status()
			Expect(status.State).To(Equal(Ready))
			Expect(status.Err).NotTo(HaveOccurred())
			Expect(status.IdentityHash).To(Equal(t.old.Hash()))
			Expect(status.Server).To(Equal(t.old.Server))
			Expect(status.Next.Err).To(MatchError(ContainSubstring(words)))
			if state == IdentityChanged {
				Expect(status.Next.ClusterUID).To(Equal("another"))
			}
			Expect(t.createThrough(ctx, target)).To(Succeed())
			Consistently(ctx, t.of).WithArguments(target).Should(HaveEach(Ready))
			Expect(t.lease.ReadClusterUID(ctx)).To(Equal(clusterUID))
			Expect(t.nextState()).To(Equal(state))

			t.pool.Connect(target, t.old)
			Expect(t.status().Next).To(BeNil(), "it is told of an identity that nobody wants any more")
			Expect(t.status().State).To(Equal(Ready))
			Eventually(ctx, t.g.open).Should(Equal(t.g.connsOf("old")), "the broken one goes on trying")
			Expect(t.g.connsOf("old")).To(HaveLen(1))

			t.pool.Connect(target, broken(t))
			Eventually(ctx, t.nextState).Should(Equal(state))
			good := t.ca.withCertificate(t.old, "good")
			t.g.user("good", realServer())
			t.pool.Connect(target, good)
			t.expectSwap(ctx, t.lease, good)
			Expect(t.status().Next).To(BeNil())
			Expect(t.of(target)).To(HaveEach(Ready))
			Eventually(ctx, t.g.open).Should(HaveLen(1))
		},
		Entry("401", func(t *rotation) Config {
			return t.ca.withCertificate(t.old, "nobody")
		}, Rejected, "nobody knows nobody"),
		Entry("403", func(t *rotation) Config {
			t.g.user("new", forbidden)
			return t.ca.withCertificate(t.old, "new")
		}, Forbidden, "new may do nothing"),
		Entry("nobody listens", func(t *rotation) Config {
			config := t.ca.withCertificate(t.old, "new")
			config.Server = "https://" + closedAddress()
			return config
		}, Unreachable, "connection refused"),
		Entry("a CA that is not the server's", func(t *rotation) Config {
			config := t.old
			config.CAData = t.next.pem()
			return config
		}, Unreachable, "certificate"),
		Entry("another cluster answers", func(t *rotation) Config {
			t.g.user("new", fakeServer("another"))
			return t.ca.withCertificate(t.old, "new")
		}, IdentityChanged, "another"),
	)

	It("replaces the old identity by itself once it works", func(ctx context.Context) {
		t := newRotation(ctx)
		later := t.ca.withCertificate(t.old, "later")
		t.pool.Connect(target, later)
		Eventually(ctx, t.nextState).Should(Equal(Rejected))
		t.g.user("later", realServer())
		t.expectSwap(ctx, t.lease, later)
		Expect(t.of(target)).To(HaveEach(Ready))
	})

	It("appears as the status once the old identity is Rejected too, and is used once it works", func(ctx context.Context) {
		t := newRotation(ctx)
		later := t.ca.withCertificate(t.old, "later")
		t.pool.Connect(target, later)
		Eventually(ctx, t.nextState).Should(Equal(Rejected))
		t.g.user("old", nil)
		Eventually(ctx, t.stateOf(target)).Should(Equal(Rejected))
		Expect(t.status().Err).To(MatchError(ContainSubstring("nobody knows later")))
		Expect(t.status().IdentityHash).To(Equal(later.Hash()))
		Expect(t.status().Next).To(BeNil())
		_, err := t.pool.Lease(target, "")
		var notReady *NotReadyError
		Expect(errors.As(err, &notReady)).To(BeTrue(), "%v", err)
		Expect(err).To(MatchError(ContainSubstring("nobody knows later")))
		expectClosed(ctx, t.lease)

		t.g.user("later", realServer())
		Eventually(ctx, t.stateOf(target)).Should(Equal(Ready))
		Expect(t.status().IdentityHash).To(Equal(later.Hash()))
		Expect(t.status().Next).To(BeNil())
		Expect(t.createThrough(ctx, target)).To(Succeed())
		Expect(t.g.creators()).To(Equal([]string{"later"}))
		Eventually(ctx, t.g.open).Should(HaveLen(1))
	})

	It("stays Next in the status when the old identity fails too, but works again first", func(ctx context.Context) {
		t := newRotation(ctx)
		later := t.ca.withCertificate(t.old, "later")
		t.pool.Connect(target, later)
		Eventually(ctx, t.nextState).Should(Equal(Rejected))
		t.g.user("old", nil)
		Eventually(ctx, t.stateOf(target)).Should(Equal(Rejected))
		t.g.user("old", realServer())
		Eventually(ctx, t.stateOf(target)).Should(Equal(Ready))
		Expect(t.status().IdentityHash).To(Equal(t.old.Hash()))
		Expect(t.status().Next.Err).To(MatchError(ContainSubstring("nobody knows later")))
		Expect(t.createThrough(ctx, target)).To(Succeed())
		Expect(t.g.creators()).To(Equal([]string{"old"}))
	})
})

var _ = Describe("A new identity of a connection that is Idle", func() {
	It("connects at once to prove that it works, and then becomes Idle", func(ctx context.Context) {
		t := newRotation(ctx)
		t.pool.Sleep(target)
		Eventually(ctx, t.stateOf(target)).Should(Equal(Idle))
		config := t.ca.withCertificate(t.old, "new")
		t.pool.Connect(target, config)
		Eventually(ctx, t.hashOf(target)).Should(Equal(config.Hash()))
		Eventually(ctx, t.stateOf(target)).Should(Equal(Idle))
		Eventually(ctx, t.g.open).Should(BeEmpty())
		Expect(t.of(target)).To(HaveEach(BeElementOf(Ready, Idle)))
		Expect(t.g.connsOf("new")).To(HaveLen(1))
		Consistently(ctx, t.g.open).Should(BeEmpty())

		Eventually(ctx, t.leaseError).Should(Succeed())
		Expect(t.createThrough(ctx, target)).To(Succeed())
		Expect(t.g.creators()).To(Equal([]string{"new"}))
		Expect(t.g.connsOf("old")).To(HaveLen(1), "the old one was woken too")
	})

	It("stays Next as Rejected when it fails, and a lease wakes the old identity", func(ctx context.Context) {
		t := newRotation(ctx)
		t.pool.Sleep(target)
		Eventually(ctx, t.stateOf(target)).Should(Equal(Idle))
		t.pool.Connect(target, t.ca.withCertificate(t.old, "nobody"))
		Eventually(ctx, t.nextState).Should(Equal(Rejected))
		Expect(t.status().IdentityHash).To(Equal(t.old.Hash()))
		Consistently(ctx, t.stateOf(target)).Should(Equal(Idle))
		Eventually(ctx, t.leaseError).Should(Succeed())
		Expect(t.createThrough(ctx, target)).To(Succeed())
		Expect(t.g.creators()).To(Equal([]string{"old"}))
		Expect(t.nextState()).To(Equal(Rejected))
	})
})

// leaseError asks for a lease of target.
func (r *rig) leaseError() error {
	_, err := r.pool.Lease(target, "")
	return err
}

// forJob picks the requests for the Job that getJob asks for.
func forJob(v visit) bool { return v.path == jobPath }

// answerForbidden denies everything.
func answerForbidden(words string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answerError(apierrors.NewForbidden(schema.GroupResource{}, "", errors.New(words)))(w, r)
	}
}
