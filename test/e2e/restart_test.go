package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

// patienceForReconnect is from the moment that an API server is healthy again: after some
// failures the manager lets up to eight seconds pass until it tries.
const patienceForReconnect = 30 * time.Second

// createSane creates PooledJobs that succeed after one to a few seconds.
func createSane(ctx context.Context, target, number int, name string, random *rand.Rand) []*v1alpha1.PooledJob {
	jobs := make([]*v1alpha1.PooledJob, number)
	for i := range jobs {
		jobs[i] = newSaneJob(target, fmt.Sprintf("%s-%d", name, i), 1+random.IntN(4))
		Expect(hub.Create(ctx, jobs[i])).To(Succeed())
	}
	return jobs
}

// restartControllers makes the target's own controllers go on: after so many failures
// they let up to a minute pass until they try again, and started anew they do not.
func restartControllers(ctx context.Context, cluster *localenv.Cluster) {
	for _, program := range []localcluster.Program{localcluster.ControllerManager, localcluster.Scheduler, localcluster.Kwok} {
		Expect(cluster.StopProgram(program)).To(Succeed())
		Expect(cluster.StartProgram(ctx, program)).To(Succeed())
	}
}

// createdTwice returns the names of the Jobs that a target has created more than once, as its
// audit log has it.
func createdTwice(cluster *localenv.Cluster) []string {
	events, err := cluster.AuditEvents()
	Expect(err).NotTo(HaveOccurred())
	created := map[string]int{}
	var twice []string
	for _, e := range events {
		if e.Verb != "create" || e.ObjectRef.Resource != "jobs" || e.ResponseStatus.Code != http.StatusCreated || e.DryRun() {
			continue
		}
		created[e.ObjectRef.Name]++
		if created[e.ObjectRef.Name] == 2 {
			twice = append(twice, e.ObjectRef.Name)
		}
	}
	Expect(created).NotTo(BeEmpty())
	return twice
}

var _ = Describe("A target whose API server restarts", Label("local"), func() {
	BeforeEach(onlyLocal)

	It("gets connected again by itself each time, and no run is lost or duplicated", func(ctx context.Context) {
		const target, restarts, number = 2, 5, 100
		random := rand.New(rand.NewPCG(uint64(GinkgoRandomSeed()), 0))
		DeferCleanup(removeSane)
		seen, failures := openLedger(ctx, targets[target-1]), listenForFailures(ctx)
		connection := &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: "target-2"}}
		cluster := local.Targets[target-1]
		var jobs []*v1alpha1.PooledJob
		create := func(n int) {
			jobs = append(jobs, createSane(ctx, target, n, fmt.Sprintf("restarted-%d", len(jobs)), random)...)
		}
		for i := range restarts {
			const part = number / restarts / 4
			create(2 * part)
			Expect(cluster.StopProgram(localcluster.APIServer)).To(Succeed())
			create(part)
			if i%2 == 0 {
				// Long enough away to be noticed; else it is back in a moment.
				Eventually(latest(connection)).WithContext(ctx).ShouldNot(beReady())
			}
			Expect(cluster.StartProgram(ctx, localcluster.APIServer)).To(Succeed())
			begin := time.Now()
			create(part)
			// Ready is worth something when a new run gets its Job by it.
			Eventually(latest(connection)).WithContext(ctx).WithTimeout(patienceForReconnect).Should(beReady())
			Eventually(latest(jobs[len(jobs)-1])).WithContext(ctx).WithTimeout(patienceForReconnect).
				Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue))
			fmt.Fprintf(GinkgoWriter, "restart %d: a new run had its Job %s after the API server was healthy\n", i+1, time.Since(begin).Round(time.Millisecond))
		}
		restartControllers(ctx, cluster)
		Eventually(expectSuccess).WithContext(ctx).WithArguments(number, failures).WithTimeout(patienceForMany).Should(Succeed())
		Eventually(seen.unlessOnce).WithArguments(jobs).Should(BeEmpty())
		Expect(createdTwice(cluster)).To(BeEmpty(), "also while nobody could watch")
		Eventually(connectionsTo(cluster.Config().Host)).Should(HaveKeyWithValue(portOf(cluster.Config().Host), 1))
	})
})

var _ = Describe("A target that stops answering", Label("local"), func() {
	BeforeEach(onlyLocal)

	It("loses Ready within 25 seconds, delays no other target, and completes its runs when it is back", func(ctx context.Context) {
		const black, other = 2, 1
		random := rand.New(rand.NewPCG(uint64(GinkgoRandomSeed()), 0))
		DeferCleanup(removeSane)
		ledgers := map[int]*ledger{black: openLedger(ctx, targets[black-1]), other: openLedger(ctx, targets[other-1])}
		failures, outages := listenForFailures(ctx), listenForOutages(ctx, "target-1")
		cluster := local.Targets[black-1]
		// More of them than the manager has workers.
		const running, waiting, meanwhile = 20, 300, 30
		jobs := map[int][]*v1alpha1.PooledJob{black: createSane(ctx, black, running, "paused", random)}
		Eventually(latest(jobs[black][running-1])).WithContext(ctx).Should(havePhase(v1alpha1.PooledJobRunning))

		Expect(cluster.PauseProgram(localcluster.APIServer)).To(Succeed())
		DeferCleanup(cluster.ResumeProgram, localcluster.APIServer)
		paused := time.Now()
		found := make(chan time.Duration, 1)
		go func() {
			defer GinkgoRecover()
			defer close(found)
			connection := &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: "target-2"}}
			// It promises 20 s; the rest is for the status to be written and read.
			Eventually(latest(connection)).WithContext(ctx).WithTimeout(25 * time.Second).ShouldNot(beReady())
			found <- time.Since(paused)
		}()
		jobs[black] = append(jobs[black], createSane(ctx, black, waiting, "waiting", random)...)
		jobs[other] = createSane(ctx, other, meanwhile, "meanwhile", random)
		begin := time.Now()
		for _, job := range jobs[other] {
			Eventually(latest(job)).WithContext(ctx).WithTimeout(20 * time.Second).Should(havePhase(v1alpha1.PooledJobSucceeded))
		}
		fmt.Fprintf(GinkgoWriter, "%d runs of up to 4 s elsewhere took %s\n", meanwhile, time.Since(begin).Round(time.Millisecond))
		var took time.Duration
		Eventually(found).WithContext(ctx).Should(Receive(&took), "how long Ready stayed True")
		fmt.Fprintf(GinkgoWriter, "the black hole was found out after %s\n", took.Round(time.Millisecond))
		Eventually(phases).WithContext(ctx).Should(HaveKeyWithValue(v1alpha1.PooledJobPending, waiting))

		Expect(cluster.ResumeProgram(localcluster.APIServer)).To(Succeed())
		restartControllers(ctx, cluster)
		Eventually(expectSuccess).WithContext(ctx).WithArguments(running+waiting+meanwhile, failures).WithTimeout(patienceForMany).Should(Succeed())
		for target, l := range ledgers {
			Eventually(l.unlessOnce).WithArguments(jobs[target]).Should(BeEmpty())
		}
		Expect(outages.all()).To(BeEmpty(), "of the other target")
		Eventually(connectionsTo(cluster.Config().Host)).Should(HaveKeyWithValue(portOf(cluster.Config().Host), 1))
	})
})
