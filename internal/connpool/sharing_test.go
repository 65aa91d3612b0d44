package connpool

import (
	"context"
	"net/http"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// other names the connection beside target.
const other = "other"

var _ = Describe("Two connections with one identity", func() {
	It("share one TCP connection and one pair of watches", func(ctx context.Context) {
		ca := newAuthority()
		g, r := newGateway(ca, realServer(), "user"), newHistory()
		r.connect(ctx, target, withToken(g.config(ca), "user"))
		r.connect(ctx, other, withToken(g.config(ca), "user"))
		Expect(r.hashOf(other)()).To(Equal(r.hashOf(target)()))
		Expect(r.hashOf(target)()).To(HavePrefix("sha256:"))
		Consistently(ctx, g.connsOf).WithArguments("").Should(HaveLen(1))
		Expect(g.open()).To(HaveLen(1))
		Expect(g.watchesOf("")()).To(Equal(2))
		Expect(r.of(target)).To(Equal([]State{Ready}))
		Expect(r.of(other)).To(Equal([]State{Ready}))
	})

	It("share one TCP connection when both connect at the same time", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		r.pool.Connect(target, adminConfig(p))
		r.pool.Connect(other, adminConfig(p))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		Eventually(ctx, r.stateOf(other)).Should(Equal(Ready))
		Expect(p.dialled()).To(Equal(1))
	})

	It("report each change once, and both can create Jobs", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		r.connect(ctx, target, adminConfig(p))
		r.connect(ctx, other, adminConfig(p))
		job := r.createJob(ctx)
		Eventually(ctx, r.inView(target, job)).Should(BeTrue())
		Eventually(ctx, r.inView(other, job)).Should(BeTrue())
		suspendJob(ctx, job)
		Eventually(ctx, r.changesOf(job.Name)).Should(Equal(2))
		Consistently(ctx, r.changesOf(job.Name)).Should(Equal(2))
		Expect(r.createThrough(ctx, target)).To(Succeed())
		Expect(r.createThrough(ctx, other)).To(Succeed())
	})

	It("keep the shared socket open, without disturbance, until the last one disconnects", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newHistory()
		gone := r.connect(ctx, target, adminConfig(p))
		lease := r.connect(ctx, other, adminConfig(p))
		r.pool.Disconnect(target)
		job := r.createJob(ctx)
		Eventually(ctx, r.inView(other, job)).Should(BeTrue())
		Consistently(ctx, r.of).WithArguments(other).Should(Equal([]State{Ready}))
		Expect(lease.GetJob(ctx, job.Namespace, job.Name)).NotTo(BeNil())
		Expect(p.dialled()).To(Equal(1))
		Expect(p.open()).To(Equal(1))
		_, err := r.pool.Lease(target, "")
		Expect(err).To(MatchError(ErrClosed))

		r.pool.Disconnect(other)
		Eventually(ctx, p.open).Should(BeZero())
		expectClosed(ctx, lease)
		expectClosed(ctx, gone)
	})

	It("use separate TCP connections once one gets another identity, without disturbing the other", func(ctx context.Context) {
		ca := newAuthority()
		g, r := newGateway(ca, realServer(), "old", "new"), newHistory()
		r.connect(ctx, target, withToken(g.config(ca), "old"))
		lease := r.connect(ctx, other, withToken(g.config(ca), "old"))
		shared := r.hashOf(target)()

		r.pool.Connect(target, withToken(g.config(ca), "new"))
		Eventually(ctx, r.hashOf(target)).ShouldNot(Equal(shared))
		Eventually(ctx, g.watchesOf("new")).Should(Equal(2))
		Expect(r.createThrough(ctx, target)).To(Succeed())
		Expect(g.creators()).To(Equal([]string{"new"}))

		Consistently(ctx, r.of).WithArguments(other).Should(Equal([]State{Ready}))
		Expect(r.hashOf(other)()).To(Equal(shared))
		Expect(lease.ReadClusterUID(ctx)).To(Equal(clusterUID))
		Expect(r.of(target)).To(HaveEach(Ready))
		Expect(g.connsOf("old")).To(HaveLen(1))
		Expect(g.connsOf("new")).To(HaveLen(1))
		Expect(g.open()).To(ConsistOf(g.connsOf("old")[0], g.connsOf("new")[0]))
		Expect(g.seen(visit.listing)).To(HaveLen(4), "something was listed again")
	})

	It("share one TCP connection once one is given the identity of the other", func(ctx context.Context) {
		ca := newAuthority()
		g, r := newGateway(ca, realServer(), "one", "two"), newHistory()
		r.connect(ctx, target, withToken(g.config(ca), "one"))
		r.connect(ctx, other, withToken(g.config(ca), "two"))
		r.pool.Connect(target, withToken(g.config(ca), "two"))
		Expect(r.hashOf(target)()).To(Equal(r.hashOf(other)()), "it works already")
		Expect(r.stateOf(target)()).To(Equal(Ready))
		Eventually(ctx, g.open).Should(Equal(g.connsOf("two")))
		Expect(g.connsOf("two")).To(HaveLen(1))
		Eventually(ctx, g.watchesOf("one")).Should(BeZero())
		Expect(append(r.of(target), r.of(other)...)).To(HaveEach(Ready))
	})

	It("apply the smaller MaxInFlight of the two to the calls of both", func(ctx context.Context) {
		s, r := newAPIServer(), newRig()
		few, many := s.config("token"), s.config("token")
		few.MaxInFlight, many.MaxInFlight = 2, 3
		lease := r.connect(ctx, target, many)
		r.connect(ctx, other, few)
		hook, release := holdUp()
		s.answer(jobPath, hook)
		under := func() []request { return s.asked(jobPath) }
		ask := func(n int) {
			for range n {
				getJob(ctx, lease)
			}
		}
		ask(2)
		Eventually(ctx, under).Should(HaveLen(2))
		Expect(r.lease(other).DeleteJob(ctx, "default", "job", "uid", "")).To(MatchError(ErrBusy))
		Expect(lease.DeleteJob(ctx, "default", "job", "uid", "")).To(MatchError(ErrBusy))
		r.pool.Disconnect(other)
		ask(1)
		Eventually(ctx, under).Should(HaveLen(3))
		Expect(lease.DeleteJob(ctx, "default", "job", "uid", "")).To(MatchError(ErrBusy))
		release()
		Eventually(ctx, func() error { _, err := lease.ReadClusterUID(ctx); return err }).Should(Succeed())
	})

	It("apply the smaller QPS of the two to the calls of both", func(ctx context.Context) {
		s, r := newAPIServer(), newRig()
		few, many := s.config("token"), s.config("token")
		few.QPS, many.QPS = 2, 1000
		lease := r.connect(ctx, target, many)
		r.connect(ctx, other, few)
		Expect(lease.ReadClusterUID(ctx)).To(Equal("fake"))
		Expect(r.lease(other).ReadClusterUID(ctx)).To(Equal("fake"))
		_, err := lease.ReadClusterUID(ctx)
		Expect(err).To(MatchError(ErrBusy))
		r.pool.Disconnect(other)
		for range 20 {
			Expect(lease.ReadClusterUID(ctx)).To(Equal("fake"))
		}
	})
})

var _ = Describe("Two connections with one identity and different namespaces", func() {
	It("share one TCP connection, and each shows only its own namespace", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		one, two := newNamespace(ctx), newNamespace(ctx)
		lease := r.connect(ctx, target, inNamespaces(adminConfig(p), one))
		r.connect(ctx, other, inNamespaces(adminConfig(p), two))
		Expect(r.hashOf(other)()).To(Equal(r.hashOf(target)()))
		Expect(p.dialled()).To(Equal(1))

		ours := r.createJob(ctx, func(j *batchv1.Job) { j.Namespace = one })
		theirs := r.createJob(ctx, func(j *batchv1.Job) { j.Namespace = two })
		Eventually(ctx, r.inView(target, ours)).Should(BeTrue())
		Eventually(ctx, r.inView(other, theirs)).Should(BeTrue())
		_, err := lease.Job(theirs.Namespace, theirs.Name)
		Expect(err).To(MatchError(ErrNotWatched))
		_, err = r.lease(other).Job(ours.Namespace, ours.Name)
		Expect(err).To(MatchError(ErrNotWatched))
		Consistently(ctx, r.changesOf(ours.Name)).Should(Equal(1))
	})

	It("keep one Ready and undisturbed while the other is Forbidden in its namespace", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newHistory()
		user, open, shut := uniqueName("user"), newNamespace(ctx), newNamespace(ctx)
		grant(ctx, user, "", "namespaces", "get")
		grantRun(ctx, user, open)
		config := userConfig(user)
		config.Server = adminConfig(p).Server
		lease := r.connect(ctx, target, inNamespaces(config, open))
		told := r.of(target)
		r.pool.Connect(other, inNamespaces(config, shut))
		Eventually(ctx, r.stateOf(other)).Should(Equal(Forbidden))
		Expect(r.statusOf(other).Err).To(MatchError(ContainSubstring(shut)))
		_, err := r.pool.Lease(other, "")
		Expect(err).To(MatchError(ContainSubstring("is Forbidden")))
		Consistently(ctx, r.of).WithArguments(target).Should(Equal(told))
		Expect(lease.ReadClusterUID(ctx)).To(Equal(clusterUID))

		grantRun(ctx, user, shut)
		Eventually(ctx, r.stateOf(other)).Should(Equal(Ready))
		Expect(r.of(target)).To(Equal(told))
		Expect(p.dialled()).To(Equal(1))
	})

	It("end the watches of a namespace when no connection needs it any more", func(ctx context.Context) {
		ca := newAuthority()
		g, r := newGateway(ca, realServer(), "user"), newHistory()
		config := withToken(g.config(ca), "user")
		r.connect(ctx, target, inNamespaces(config, "one", "both"))
		r.connect(ctx, other, inNamespaces(config, "two", "both"))
		told := r.of(target)
		Expect(g.watchesOf("")()).To(Equal(6))
		r.pool.Disconnect(other)
		Eventually(ctx, g.watchesOf("")).Should(Equal(4))
		Consistently(ctx, g.watchesOf("")).Should(Equal(4))
		Expect(g.seen(func(v visit) bool { return !v.ended && strings.Contains(v.path, "/two/") })).To(BeEmpty())
		Expect(r.of(target)).To(Equal(told))
	})

	It("become Ready without waiting for a list that no connection needs any more", func(ctx context.Context) {
		s, r := newAPIServer(), newRig()
		hook, _ := holdUp()
		slow := "/api/v1/namespaces/slow/pods"
		s.answer(slow, hook)
		s.answer("/apis/batch/v1/namespaces/slow/jobs", s.answers[jobsPath])
		s.answer("/apis/batch/v1/namespaces/quick/jobs", s.answers[jobsPath])
		s.answer("/api/v1/namespaces/quick/pods", s.answers[podsPath])
		r.pool.Connect(other, inNamespaces(s.config("token"), "slow"))
		Eventually(ctx, func() []request { return s.asked(slow) }).ShouldNot(BeEmpty())
		r.pool.Connect(target, inNamespaces(s.config("token"), "quick"))
		r.pool.Disconnect(other)
		Eventually(ctx, r.stateOf(target)).WithTimeout(patience / 2).Should(Equal(Ready))
	})
})

var _ = Describe("Two connections with different identities", func() {
	It("share no TCP connection to the same server", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		users := map[string]string{target: uniqueName("user"), other: uniqueName("user")}
		for name, user := range users {
			grant(ctx, user, "", "namespaces", "get")
			grant(ctx, user, "batch", "jobs", "get", "list", "watch")
			grant(ctx, user, "", "pods", "list", "watch")
			config := userConfig(user)
			config.Server = adminConfig(p).Server
			r.connect(ctx, name, config)
		}
		Expect(p.open()).To(Equal(2))
		Expect(p.dialled()).To(Equal(2))
		Expect(r.hashOf(target)()).NotTo(Equal(r.hashOf(other)()))
		for name, user := range users {
			err := r.createThrough(ctx, name)
			Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%v", err)
			Expect(err).To(MatchError(ContainSubstring(`User "`+user+`"`)), "the server saw somebody else")
		}
		Expect(p.dialled()).To(Equal(2))
	})

	It("share no TCP connection at one gateway when their token or URL path differs", func(ctx context.Context) {
		ca, r := newAuthority(), newRig()
		paths := http.NewServeMux()
		for _, path := range []string{"/a", "/b"} {
			paths.Handle(path+"/", http.StripPrefix(path, fakeServer("uid-of-"+path[1:])))
		}
		g := newGateway(ca, paths, "one", "two")
		for _, path := range []string{"/a", "/b"} {
			for _, user := range []string{"one", "two"} {
				config := withToken(g.config(ca), user)
				config.Server += path
				lease := r.connect(ctx, user+path, config)
				Expect(lease.ReadClusterUID(ctx)).To(Equal("uid-of-" + path[1:]))
				Expect(r.statusOf(user + path).ClusterUID).To(Equal("uid-of-" + path[1:]))
			}
		}
		who := map[string]map[string]bool{}
		for _, v := range g.seen(func(visit) bool { return true }) {
			if who[v.from] == nil {
				who[v.from] = map[string]bool{}
			}
			who[v.from][v.user+v.path[:2]] = true
		}
		Expect(who).To(HaveLen(4))
		Expect(who).To(HaveEach(HaveLen(1)), "one TCP connection carried requests of two identities")
		Expect(g.open()).To(HaveLen(4))
	})
})

// inNamespaces returns the configuration for these namespaces only.
func inNamespaces(config Config, namespaces ...string) Config {
	config.Namespaces = namespaces
	return config
}
