package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/faultproxy"
)

// offer lets a run that planMovable has made be placed on some targets.
func offer(ctx context.Context, run *planned, targets ...*target) {
	for _, t := range targets {
		connection := &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: t.Name()}}
		patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{%q:"yes"}}}`, run.job.Name))
		Expect(world.hub.client.Patch(ctx, connection, patch)).To(Succeed())
	}
}

// createMovable creates a run that may be moved. It begins on that target, and might go on on
// any.
func createMovable(ctx context.Context, name string, t *target, d time.Duration) *planned {
	run := plan(kindNamed("may-move"), t, name, rand.New(rand.NewPCG(settings.seed, 6)))
	run.job.Spec.ClusterSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]string{name: "yes"}}
	lasts(&run.job.Spec, int(d.Milliseconds()))
	offer(ctx, run, t)
	Expect(createOnHub(ctx, run.job)).To(Succeed())
	return run
}

// atCreation has something happen when a target has created the next Job, before the manager
// hears of that: by the answer, or by a watch. The returned channel is closed then.
func atCreation(t *target, do func() faultproxy.Action) <-chan struct{} {
	var begun, done atomic.Bool
	reached := make(chan struct{})
	t.proxy.SetHook(func(moment faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
		creates := call.Resource == "jobs" && call.Method == http.MethodPost && !call.DryRun
		switch {
		case moment == faultproxy.Before && creates && begun.CompareAndSwap(false, true):
			t.proxy.EndWatches()
		case moment == faultproxy.Before && begun.Load() && (call.Watch || call.Name == "" && call.Method == http.MethodGet && call.Resource != ""):
			return faultproxy.Action{Answer: http.StatusServiceUnavailable}
		case moment == faultproxy.After && creates && call.Code == http.StatusCreated && done.CompareAndSwap(false, true):
			defer close(reached)
			return do()
		}
		return faultproxy.Action{}
	})
	return reached
}

// goByScript deletes the Job of a run when it has finished, if the target has not yet done so.
func goByScript(ctx context.Context, run *planned) {
	Eventually(func(g Gomega) {
		var jobs batchv1.JobList
		g.Expect(run.target.client.List(ctx, &jobs, ours(run.job.UID))).To(Succeed())
		for i := range jobs.Items {
			g.Expect(hasFinished(&jobs.Items[i])).To(BeTrue())
			g.Expect(collect(ctx, run.target, &jobs.Items[i])).To(Succeed())
		}
	}).WithContext(ctx).Should(Succeed())
}

// awaitCollected waits until the Jobs of some runs have completed and are gone.
func awaitCollected(ctx context.Context, runs ...*planned) {
	for _, run := range runs {
		Eventually(func(g Gomega) {
			job, on := lastJob(run.job.UID)
			g.Expect(job).NotTo(BeNil())
			g.Expect(on).To(Equal(run.target))
			g.Expect(job.condition).To(BeEquivalentTo(batchv1.JobComplete))
			g.Expect(job.gone).To(BeTrue(), "%s", job)
		}).WithContext(ctx).Should(Succeed(), run.job.Name)
	}
}

// awaitAway waits until the target of a run that has a Job was away for longer than the run is
// to wait.
func awaitAway(ctx context.Context, run *planned) {
	Eventually(func(g Gomega) {
		says, err := latest(ctx, run)
		g.Expect(err).NotTo(HaveOccurred())
		synced := meta.FindStatusCondition(says.Status.Conditions, v1alpha1.ConditionSynced)
		g.Expect(synced).To(HaveField("Status", metav1.ConditionUnknown))
		g.Expect(time.Since(synced.LastTransitionTime.Time)).To(BeNumerically(">", time.Duration(run.job.Spec.Failover.AfterSeconds+2)*time.Second))
	}).WithContext(ctx).Should(Succeed())
}

// missedWithoutManager returns the runs whose Job completes and is collected while the manager is down. Of
// one the hub knows the Job, of the other it knows only where one may be.
func missedWithoutManager(ctx context.Context, t *target) []*planned {
	known := createMovable(ctx, "collected-down-known", t, 4*time.Second)
	Expect(known.untilItRuns(ctx)).To(Succeed())
	killed := make(chan error, 1)
	reached := atCreation(t, func() faultproxy.Action {
		killed <- killManager()
		return faultproxy.Action{Cut: true}
	})
	unknown := createMovable(ctx, "collected-down", t, 0)
	Eventually(reached).WithContext(ctx).Should(BeClosed())
	Expect(<-killed).To(Succeed())
	t.proxy.SetHook(nil)
	goByScript(ctx, known)
	awaitCollected(ctx, known, unknown)
	return []*planned{known, unknown}
}

// missedInSilence returns the same when the way is silent. It is still silent in the end.
func missedInSilence(ctx context.Context, t *target) []*planned {
	known := createMovable(ctx, "collected-silent-known", t, 4*time.Second)
	Expect(known.untilItRuns(ctx)).To(Succeed())
	reached := atCreation(t, func() faultproxy.Action {
		t.proxy.BlackHole()
		return faultproxy.Action{}
	})
	unknown := createMovable(ctx, "collected-silent", t, 0)
	Eventually(reached).WithContext(ctx).Should(BeClosed())
	goByScript(ctx, known)
	awaitCollected(ctx, known, unknown)
	return []*planned{known, unknown}
}

// missedAnswer returns a run of which the answer to the request for its Job is lost, and whose Job is
// collected before the next request.
func missedAnswer(ctx context.Context, t *target) *planned {
	reached := atCreation(t, func() faultproxy.Action {
		vanish(t)
		return faultproxy.Action{Cut: true}
	})
	run := createMovable(ctx, "collected-unanswered", t, 0)
	Eventually(reached).WithContext(ctx).Should(BeClosed())
	awaitCollected(ctx, run)
	return run
}

// Who cannot know whether a request came late waits for 75 seconds, so the specs share one wait.
var _ = Describe("A finished Job on a target that collects finished Jobs", Ordered, ContinueOnFailure, func() {
	var missed []*planned

	BeforeAll(func(ctx context.Context) {
		DeferCleanup(heal)
		for _, t := range world.targets {
			DeferCleanup(setTTLs(ctx, t))
		}
		startManager(ctx)
		missed = missedWithoutManager(ctx, world.targets[0])
		for _, run := range missed {
			offer(ctx, run, world.targets...)
		}
		Expect(relaunch(ctx)).To(Succeed())
		awaitConnected(ctx)

		silent, cut := world.targets[1], world.targets[2]
		DeferCleanup(silent.proxy.Heal)
		DeferCleanup(cut.proxy.SetHook, faultproxy.Hook(nil))
		over := trouble(silent, cut)
		inSilence := missedInSilence(ctx, silent)
		unanswered := missedAnswer(ctx, cut)
		missed = append(missed, append(inSilence, unanswered)...)
		for _, run := range missed {
			offer(ctx, run, world.targets...)
		}
		cut.proxy.SetHook(nil)
		awaitAway(ctx, inSilence[0])
		silent.proxy.SetHook(nil)
		silent.proxy.Heal()
		awaitConnected(ctx)
		over()
	}, NodeTimeout(5*time.Minute))

	It("stays, with the manager's TTL, and its run has the correct end while nothing fails", func(ctx context.Context) {
		run := plan(kindNamed("succeeds"), world.targets[0], "collected-never", rand.New(rand.NewPCG(settings.seed, 7)))
		lasts(&run.job.Spec, 3000)
		Expect(createOnHub(ctx, run.job)).To(Succeed())
		Expect(run.untilItRuns(ctx)).To(Succeed())
		ttl := func(ctx context.Context) (*int32, error) {
			job, err := remoteJobOf(ctx, run)
			return job.Spec.TTLSecondsAfterFinished, err
		}
		Eventually(ttl).WithContext(ctx).WithTimeout(2*time.Second).Should(HaveValue(BeEquivalentTo(managersTTL)), "while it runs")
		Eventually(ended(run)).WithContext(ctx).ShouldNot(BeEmpty())
		says, err := latest(ctx, run)
		Expect(err).NotTo(HaveOccurred())
		Expect(run.kind.end.matches(endOf(says))).To(BeTrue(), "%s", endOf(says))
		Consistently(ttl).WithContext(ctx).WithTimeout((policyTTL + 2) * time.Second).Should(HaveValue(BeEquivalentTo(managersTTL)))
		expectClean(ctx, run)
		remove(ctx, run)
	})

	It("does not make the end of a run of any kind unknown while nothing fails", func(ctx context.Context) {
		DeferCleanup(runScript(ctx, world.targets[0]))
		crowd := newCrowd(ctx, "collected", rand.New(rand.NewPCG(settings.seed, 8)))
		for range 2 {
			crowd.rank = slices.Clone(kinds)
			crowd.add(ctx, len(kinds))
		}
		crowd.settle(ctx)
		expectClean(ctx, crowd.all()...)
		for _, run := range crowd.all() {
			Expect(world.said.of(run.job.UID).end.reason).NotTo(Equal(v1alpha1.ReasonRemoteJobEndUnknown), "%s (%s)", run.job.Name, run.kind.name)
			remove(ctx, run)
		}
		removeLateNamespaces(ctx)
	}, NodeTimeout(5*time.Minute))

	// What is told while the manager stands still it hears afterwards, so it may know the end.
	It("does not run again when it is collected while the manager is paused", func(ctx context.Context) {
		t := world.targets[1]
		DeferCleanup(t.proxy.SetHook, faultproxy.Hook(nil))
		still := createMovable(ctx, "collected-slow-known", t, 2*time.Second)
		Expect(still.untilItRuns(ctx)).To(Succeed())
		over := trouble()
		DeferCleanup(over)
		manager := theManager()
		paused := make(chan error, 1)
		t.proxy.SetHook(func(moment faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
			// By a watch the manager could know of the Job before the request is answered.
			if moment == faultproxy.Before && call.Resource == "jobs" && call.Method == http.MethodPost && !call.DryRun {
				paused <- manager.Pause()
			}
			return faultproxy.Action{}
		})
		fresh := createMovable(ctx, "collected-slow", t, 0)
		Eventually(paused).WithContext(ctx).Should(Receive(BeNil()))
		DeferCleanup(manager.Resume)
		t.proxy.SetHook(nil)
		goByScript(ctx, still)
		awaitCollected(ctx, still, fresh)
		for _, run := range []*planned{still, fresh} {
			offer(ctx, run, world.targets...)
		}
		Expect(manager.Resume()).To(Succeed())
		for _, run := range []*planned{still, fresh} {
			Eventually(ended(run)).WithContext(ctx).WithTimeout(2 * time.Minute).ShouldNot(BeEmpty())
			expectClean(ctx, run)
			Expect(openLedger().jobsOf(run.job.UID)).To(HaveLen(1))
			says, err := ended(run)(ctx)
			Expect(err).NotTo(HaveOccurred())
			AddReportEntry(run.job.Name, says)
			remove(ctx, run)
		}
		over()
	}, NodeTimeout(5*time.Minute))

	for i, title := range []string{
		"ends as RemoteJobEndUnknown, and does not run again, if collected while the manager is down",
		"ends as RemoteJobEndUnknown if collected while the manager is down and the hub does not know it",
		"ends as RemoteJobEndUnknown, and does not run again, if collected while its target is silent",
		"ends as RemoteJobEndUnknown if collected while its target is silent and the hub does not know it",
		"ends as RemoteJobEndUnknown if collected before the manager gets the answer to its creation",
	} {
		It(title, func(ctx context.Context) {
			run := missed[i]
			Eventually(ended(run)).WithContext(ctx).WithTimeout(2 * time.Minute).ShouldNot(BeEmpty())
			l := openLedger()
			Expect(l.jobsOf(run.job.UID)).To(HaveLen(1), "the Jobs on all targets\n%s\n%s", strings.Join(successors(run), "\n"), strings.Join(l.lines[run.job.UID], "\n"))
			Expect(ended(run)(ctx)).To(HavePrefix("%s %s/%s ", v1alpha1.PooledJobFailed, v1alpha1.ConditionFailed, v1alpha1.ReasonRemoteJobEndUnknown))
			expectClean(ctx, run)
			remove(ctx, run)
		}, NodeTimeout(3*time.Minute))
	}
})
