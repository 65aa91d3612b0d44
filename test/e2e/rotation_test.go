package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// number returns a size from the environment.
func number(variable string, usual uint64) uint64 {
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	n, err := strconv.ParseUint(text, 10, 64)
	Expect(err).NotTo(HaveOccurred(), variable)
	return n
}

// untilTold is how long, in seconds, the Pods of a spec run that ends them by endPods.
const untilTold = 3600

var _ = Describe("The connection to a target with many runs", Ordered, Label("local"), func() {
	const target = 1
	var (
		jobs      []*v1alpha1.PooledJob
		many      int // runs
		seen      *ledger
		failures  *gossip
		outages   *gossip
		rotating  *rotator
		watches   float64 // with no run
		generated int64
	)
	create := func(ctx context.Context, n int) {
		for range min(n, many-len(jobs)) {
			job := newSaneJob(target, fmt.Sprintf("rotated-%d", len(jobs)), untilTold)
			Expect(hub.Create(ctx, job)).To(Succeed())
			jobs = append(jobs, job)
		}
	}

	BeforeAll(func(ctx context.Context) {
		onlyLocal()
		many = int(number("E2E_ROTATION_JOBS", 450))
		seed := number("E2E_SEED", uint64(GinkgoRandomSeed()))
		AddReportEntry(fmt.Sprintf("E2E_SEED=%d", seed))
		DeferCleanup(removeSane)
		seen, failures, outages = openLedger(ctx, targets[target-1]), listenForFailures(ctx), listenForOutages(ctx, "target-1")
		rotating = newRotator(ctx, rand.New(rand.NewPCG(seed, 0)), target)
		generated = rotating.latest()(Default, ctx).Generation
		watches = watchesOn(target)(Default, ctx)
	})

	It("uses one TCP connection and two watches, no matter how many runs there are", func(ctx context.Context) {
		alone := map[string]int{portOf(rotating.address): 1}
		Eventually(connectionsTo(rotating.addresses...)).Should(Equal(alone))
		create(ctx, many*2/3)
		Eventually(phases).WithContext(ctx).WithTimeout(patienceForMany).
			Should(Equal(map[v1alpha1.PooledJobPhase]int{v1alpha1.PooledJobRunning: len(jobs)}))
		Expect(connectionsTo(rotating.addresses...)(Default)).To(Equal(alone))
		Expect(managerMetrics(Default, ctx).of("pooledjob_connection_watches", `connection="target-1"`)).To(ConsistOf(2.0))
		Eventually(watchesOn(target)).WithContext(ctx).Should(Equal(watches), "watches that the API server serves")
	})

	It("neither loses nor duplicates a run while its credentials rotate", func(ctx context.Context) {
		times := int(number("E2E_ROTATIONS", 30))
		for i, kind := range rotating.plan(times) {
			create(ctx, many/3/times+1)
			begin := time.Now()
			rotating.do(ctx, kind, rotating.random.IntN(2) == 0)
			fmt.Fprintf(GinkgoWriter, "rotation %d, %s, took %s: %s at %s\n", i+1, rotations[kind].name,
				time.Since(begin).Round(time.Millisecond), rotating.login.user, rotating.address)
			endPods(ctx, targets[target-1], many/times/2)
		}
		create(ctx, many)
		rotating.awaitUse(ctx)
		// Whoever held on to an earlier credential is found out.
		rotating.revokeOld(ctx)
		if rotating.revoked != nil {
			Eventually(rotating.refusesRevoked).WithContext(ctx).Should(Succeed())
		}
		Eventually(func(g Gomega) {
			endPods(ctx, targets[target-1], many)
			expectSuccess(g, ctx, many, failures)
		}).WithContext(ctx).WithTimeout(patienceForMany).Should(Succeed())
		Eventually(seen.unlessOnce).WithArguments(jobs).Should(BeEmpty())
		// A token that is revoked while it is in use may show.
		Expect(outages.all()).To(Or(BeEmpty(), ConsistOf(v1alpha1.ReasonCredentialsRejected)))
		Expect(rotating.latest()(Default, ctx).Generation).To(Equal(generated), "the ClusterConnection was left alone")
	})

	It("uses one TCP connection again after all rotations", func(ctx context.Context) {
		Eventually(connectionsTo(rotating.addresses...)).Should(Equal(map[string]int{portOf(rotating.address): 1}))
		Expect(rotating.latest()(Default, ctx)).To(beReadyWith(v1alpha1.ReasonConnected))
		Eventually(watchesOn(target)).WithContext(ctx).Should(Equal(watches), "watches that the API server serves")
		rotating.awaitUse(ctx)
	})
})

// plan returns a random order of rotations in which each kind has its turn.
func (r *rotator) plan(times int) []int {
	kinds := make([]int, times)
	for i := range kinds {
		kinds[i] = i % len(rotations)
	}
	r.random.Shuffle(times, func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	return kinds
}

func (r *rotator) do(ctx context.Context, kind int, wait bool) {
	rotations[kind].do(r, ctx)
	if wait {
		r.awaitUse(ctx)
	}
}

// endPods lets up to so many Pods of a target come to their end that run untilTold.
func endPods(ctx context.Context, target client.Client, number int) {
	var pods corev1.PodList
	Expect(target.List(ctx, &pods, client.HasLabels{v1alpha1.LabelHub})).To(Succeed())
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{localcluster.DurationAnnotation: "100ms"},
	}})
	Expect(err).NotTo(HaveOccurred())
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Status.Phase != corev1.PodRunning || pod.Annotations[localcluster.DurationAnnotation] != fmt.Sprintf("%ds", untilTold) {
			continue
		}
		if number == 0 {
			return
		}
		number--
		Expect(target.Patch(ctx, pod, client.RawPatch(types.MergePatchType, patch))).To(Succeed())
	}
}
