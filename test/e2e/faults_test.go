package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

var _ = Describe("Runs during a fault", Label("local"), func() {
	BeforeEach(onlyLocal)

	It("end as planned, with one Job each, although the manager is killed again and again", func(ctx context.Context) {
		const number, kills = 40, 8
		seed := uint64(GinkgoRandomSeed())
		random := rand.New(rand.NewPCG(seed, 0))
		ledgers := []*ledger{openLedger(ctx, targets[0]), openLedger(ctx, targets[1])}
		jobs := make([]*v1alpha1.PooledJob, number)
		for i := range jobs {
			jobs[i] = newJob(i%2+1, fmt.Sprintf("survivor-%d", i), behaviour{seconds: 1 + i%4, exitCode: i % 3})
		}
		next := 0
		for range kills {
			for range number / kills {
				Expect(hub.Create(ctx, jobs[next])).To(Succeed())
				next++
			}
			// How far the manager comes is up to chance: that is the point.
			pause := time.NewTimer(time.Duration(random.IntN(1000)) * time.Millisecond)
			<-pause.C
			Expect(local.KillManager()).To(Succeed())
			Expect(local.StartManager(ctx)).To(Succeed())
		}
		for i, job := range jobs {
			Eventually(latest(job)).WithContext(ctx).WithTimeout(patienceForMany).Should(endWith(i % 3))
			Expect(ledgers[i%2].of(job)).To(Equal(1), job.Name)
			Expect(ledgers[1-i%2].of(job)).To(BeZero(), job.Name)
		}
		for _, job := range jobs {
			Expect(hub.Delete(ctx, job)).To(Succeed())
		}
		for _, job := range jobs {
			Eventually(gone(job)).WithContext(ctx).WithTimeout(patienceForMany).Should(BeTrue())
			Expect(remoteJobs(ctx, job)).To(BeEmpty())
		}
	})

	It("end as planned, with one Job each, when the leader is killed and another takes over", func(ctx context.Context) {
		Expect(local.StopManager()).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(local.StartManager(ctx)).To(Succeed()) })
		leader, err := local.Launch(ctx, "--leader-elect")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(leader.Kill)
		seen := openLedger(ctx, targets[0])
		jobs := make([]*v1alpha1.PooledJob, 20)
		for i := range jobs {
			jobs[i] = newJob(1, fmt.Sprintf("led-%d", i), behaviour{seconds: 2 + i%3, exitCode: i % 2})
			Expect(hub.Create(ctx, jobs[i])).To(Succeed())
		}
		Eventually(latest(jobs[0])).WithContext(ctx).Should(havePhase(v1alpha1.PooledJobRunning))
		successor, err := local.Launch(ctx, "--leader-elect")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(successor.Stop)
		Expect(leader.Kill()).To(Succeed())

		for i, job := range jobs {
			Eventually(latest(job)).WithContext(ctx).WithTimeout(patienceForMany).Should(endWith(i % 2))
			Expect(seen.of(job)).To(Equal(1), job.Name)
			Expect(hub.Delete(ctx, job)).To(Succeed())
		}
		for _, job := range jobs {
			Eventually(gone(job)).WithContext(ctx).WithTimeout(patienceForMany).Should(BeTrue())
		}
	})

	It("wait without failing while their target is down, and delay no run on another target", func(ctx context.Context) {
		away, other := newJob(2, "away", behaviour{seconds: 3600}), newJob(1, "other", behaviour{seconds: 1})
		Expect(hub.Create(ctx, away)).To(Succeed())
		Eventually(latest(away)).WithContext(ctx).Should(havePhase(v1alpha1.PooledJobRunning))

		Expect(local.Targets[1].StopProgram(localcluster.APIServer)).To(Succeed())
		waiting := newJob(2, "waiting", behaviour{seconds: 1})
		Expect(hub.Create(ctx, waiting)).To(Succeed())
		Expect(hub.Create(ctx, other)).To(Succeed())
		Eventually(latest(other)).WithContext(ctx).WithTimeout(20 * time.Second).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Eventually(latest(away)).WithContext(ctx).Should(And(
			haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown),
			havePhase(v1alpha1.PooledJobRunning)))
		Expect(latest(waiting)(Default, ctx)).To(havePhase(v1alpha1.PooledJobPending))
		Expect(hub.Delete(ctx, away)).To(Succeed())
		Consistently(gone(away)).WithContext(ctx).Should(BeFalse())

		Expect(local.Targets[1].StartProgram(ctx, localcluster.APIServer)).To(Succeed())
		Eventually(gone(away)).WithContext(ctx).WithTimeout(patienceForMany).Should(BeTrue())
		Eventually(latest(waiting)).WithContext(ctx).WithTimeout(patienceForMany).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(remoteJobs(ctx, away)).To(BeEmpty())
		Expect(hub.Delete(ctx, waiting)).To(Succeed())
		Expect(hub.Delete(ctx, other)).To(Succeed())
	})
})
