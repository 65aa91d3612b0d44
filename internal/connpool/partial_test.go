package connpool

import (
	"context"
	"sync/atomic"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("A connection of which one namespace is denied", func() {
	var (
		r          *rig
		wakeups    *atomic.Int64
		user       string
		config     Config
		good, shut string
	)
	BeforeEach(func(ctx context.Context) {
		wakeups = &atomic.Int64{}
		r = newRig(func(o *Options) {
			onState := o.OnState
			o.OnState = func(name string, onlyWords bool) {
				if !onlyWords {
					wakeups.Add(1)
				}
				onState(name, onlyWords)
			}
		})
		user, good, shut = uniqueName("user"), newNamespace(ctx), newNamespace(ctx)
		grant(ctx, user, "", "namespaces", "get")
		config = inNamespaces(userConfig(user), good, shut)
	})
	sees := func(namespace string) func() error {
		return func() error {
			lease, err := r.pool.Lease(target, "")
			if err == nil {
				_, err = lease.Job(namespace, "job")
			}
			return err
		}
	}

	It("serves the allowed namespace, and calls OnState when a namespace becomes allowed", func(ctx context.Context) {
		r.pool.Connect(target, config)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Forbidden))
		before := wakeups.Load()
		grantRun(ctx, user, good)
		Eventually(ctx, sees(good)).Should(Succeed())
		Expect(sees(shut)()).To(MatchError(ContainSubstring("is Forbidden")))
		Eventually(ctx, wakeups.Load).Should(BeNumerically(">", before), "nobody is told of the namespace that is served now")
		Expect(r.stateOf(target)()).To(Equal(Forbidden), "one is still denied")

		before = wakeups.Load()
		grantRun(ctx, user, shut)
		Eventually(ctx, sees(shut)).Should(Succeed())
		Eventually(ctx, wakeups.Load).Should(BeNumerically(">", before))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
	})

	It("rotates to another identity only once that can see the same namespace", func(ctx context.Context) {
		grantRun(ctx, user, good)
		r.pool.Connect(target, config)
		Eventually(ctx, sees(good)).Should(Succeed())
		other := uniqueName("user")
		grant(ctx, other, "", "namespaces", "get")
		next := inNamespaces(userConfig(other), good, shut)
		r.pool.Connect(target, next)
		Consistently(ctx, sees(good)).Should(Succeed(), "what it sees is lost with one that sees nothing")
		Expect(r.status().IdentityHash).To(Equal(config.Hash()))

		grantRun(ctx, other, good)
		Eventually(ctx, func() string { return r.status().IdentityHash }).Should(Equal(next.Hash()))
		Expect(sees(good)()).To(Succeed())
	})

	It("applies another list of namespaces while its new identity does not work", func(ctx context.Context) {
		grantRun(ctx, user, good)
		only := inNamespaces(config, good)
		r.connect(ctx, target, only)
		grantRun(ctx, user, shut)
		broken := config // with both namespaces
		broken.Server = "https://" + closedAddress()
		r.pool.Connect(target, broken)
		Eventually(ctx, sees(shut)).Should(Succeed())
		r.pool.Keep(target, only)
		Eventually(ctx, sees(shut)).Should(MatchError(ErrNotWatched))
		Expect(r.status().IdentityHash).To(Equal(only.Hash()))
		Expect(r.status().Next).To(BeNil())
	})
})

var _ = Describe("Connections that share an identity and expect different clusters", func() {
	It("become IdentityChanged with their own message, which is reported once", func(ctx context.Context) {
		r := newHistory()
		config := adminConfig(nil)
		for name, uid := range map[string]string{target: "one", "other": "two"} {
			config.ClusterUID = uid
			r.pool.Connect(name, config)
			Eventually(ctx, r.stateOf(name)).Should(Equal(IdentityChanged))
			status, _ := r.pool.Status(name)
			Expect(status.Err).To(MatchError(ContainSubstring("not " + uid + " as before")))
		}
		told := len(r.of(target)) + len(r.of("other"))
		Consistently(ctx, func() int { return len(r.of(target)) + len(r.of("other")) }).Should(Equal(told))

		config.ClusterUID = ""
		r.connect(ctx, "new", config)
		Expect(r.of("new")).NotTo(ContainElement(IdentityChanged))
		Expect(r.stateOf(target)()).To(Equal(IdentityChanged))
	})
})
