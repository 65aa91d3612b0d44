package chaos

import (
	"context"
	"math/rand/v2"
	"regexp"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pooledjob/pooledjob/test/localenv"
)

// takeover bounds the time until another manager leads: its predecessor's lease lasts 15
// seconds, and every 2 seconds it looks whether that is over.
const takeover = 30 * time.Second

var leads = regexp.MustCompile(`(?m)^leader_election_master_status\{.*\} 1$`)

// isLeader reports whether a manager says that it leads.
func isLeader(ctx context.Context, m *localenv.Manager) bool {
	metrics, err := m.Metrics(ctx)
	return err == nil && leads.MatchString(metrics)
}

// leader waits until one of the managers leads.
func leader(ctx context.Context, managers ...*localenv.Manager) *localenv.Manager {
	var found *localenv.Manager
	Eventually(func() *localenv.Manager {
		for _, m := range managers {
			if isLeader(ctx, m) {
				found = m
			}
		}
		return found
	}).WithContext(ctx).WithTimeout(takeover).ShouldNot(BeNil(), "no manager leads")
	return found
}

// candidate starts a manager that leads when it is its turn.
func candidate(ctx context.Context) *localenv.Manager {
	m, err := launch(ctx, "--leader-elect=true")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(m.Kill()).To(Succeed()) })
	return m
}

var _ = Describe("A change of the leader", func() {
	It("neither loses nor duplicates a run, even if the old leader comes back", func(ctx context.Context) {
		DeferCleanup(heal)
		DeferCleanup(trouble())
		random := rand.New(rand.NewPCG(settings.seed, 1))
		first, second := candidate(ctx), candidate(ctx)
		old := leader(ctx, first, second)
		heir := second
		if old == second {
			heir = first
		}
		crowd := newCrowd(ctx, "leader", random)
		crowd.add(ctx, 30)
		Eventually(crowd.running).WithContext(ctx).Should(BeNumerically(">=", 5))

		By("the leader stands still for longer than its lease, and comes back")
		Expect(old.Pause()).To(Succeed())
		Expect(leader(ctx, heir)).To(Equal(heir))
		crowd.add(ctx, 10)
		Expect(old.Resume()).To(Succeed())
		Eventually(old.Ended()).WithContext(ctx).WithTimeout(takeover).Should(BeClosed(), "a leader that lost its lease ends")
		Expect(isLeader(ctx, heir)).To(BeTrue())

		By("the leader is killed")
		next := candidate(ctx)
		Expect(heir.Kill()).To(Succeed())
		crowd.add(ctx, 10)
		Expect(leader(ctx, next)).To(Equal(next))

		crowd.settle(ctx)
		expectClean(ctx, crowd.all()...)
		removeAll(ctx)
		removeLateNamespaces(ctx)
	}, NodeTimeout(10*time.Minute))
})
