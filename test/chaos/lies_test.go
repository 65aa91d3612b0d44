package chaos

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/faultproxy"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// kindNamed finds a kind.
func kindNamed(name string) *kind {
	return kinds[slices.IndexFunc(kinds, func(k *kind) bool { return k.name == name })]
}

// startRun starts a run on a target and waits until a Pod of it runs, for so long.
func startRun(ctx context.Context, name string, t *target, d time.Duration) *planned {
	run := plan(kindNamed("succeeds"), t, name, rand.New(rand.NewPCG(settings.seed, 2)))
	lasts(&run.job.Spec, int(d.Milliseconds()))
	Expect(createOnHub(ctx, run.job)).To(Succeed())
	Expect(run.untilItRuns(ctx)).To(Succeed())
	return run
}

// lieAboutJobs has a gateway say of every Job of a target that it does not know the page.
func lieAboutJobs(t *target) {
	t.proxy.SetHook(func(moment faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
		if moment == faultproxy.Before && call.Resource == "jobs" && call.Name != "" {
			return faultproxy.Action{Page: http.StatusNotFound}
		}
		return faultproxy.Action{}
	})
}

func latest(ctx context.Context, run *planned) (*v1alpha1.PooledJob, error) {
	job := &v1alpha1.PooledJob{}
	err := world.hub.client.Get(ctx, client.ObjectKeyFromObject(run.job), job)
	return job, err
}

// ended returns how the hub says that the run ended; empty while it has not.
func ended(run *planned) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		job, err := latest(ctx, run)
		return endOf(job).String(), err
	}
}

var _ = Describe("A Job that seems to be gone and is not", Ordered, ContinueOnFailure, func() {
	BeforeAll(func(ctx context.Context) {
		DeferCleanup(heal)
		startManager(ctx)
	})

	It("does not end its run as lost when a gateway wrongly answers 404 for it", func(ctx context.Context) {
		t := world.targets[0]
		run := startRun(ctx, "lie-0", t, 7*time.Second)
		lieAboutJobs(t)
		Expect(strip(ctx, t, run)).To(Succeed())
		Consistently(ended(run)).WithContext(ctx).WithTimeout(3 * time.Second).Should(BeEmpty())
		t.proxy.SetHook(nil)
		Eventually(ended(run)).WithContext(ctx).ShouldNot(BeEmpty())
		expectClean(ctx, run)
		remove(ctx, run)
	})

	It("keeps its deleted PooledJob when a gateway wrongly answers 404 for it", func(ctx context.Context) {
		t := world.targets[1]
		run := startRun(ctx, "lie-1", t, time.Hour)
		lieAboutJobs(t)
		Expect(strip(ctx, t, run)).To(Succeed())
		Expect(world.hub.client.Delete(ctx, run.job.DeepCopy())).To(Succeed())
		Consistently(latest).WithContext(ctx).WithArguments(run).WithTimeout(3 * time.Second).ShouldNot(BeNil())
		t.proxy.SetHook(nil)
		remove(ctx, run)
	})

	It("keeps its deleted PooledJob while its Pods do not stop", func(ctx context.Context) {
		t := world.targets[2]
		run := startRun(ctx, "lie-2", t, time.Hour)
		Expect(t.StopProgram(localcluster.Kwok)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { _ = t.StartProgram(ctx, localcluster.Kwok) })
		Expect(world.hub.client.Delete(ctx, run.job.DeepCopy())).To(Succeed())
		Eventually(func(g Gomega) {
			var jobs batchv1.JobList
			g.Expect(t.client.List(ctx, &jobs, ours(run.job.UID))).To(Succeed())
			g.Expect(jobs.Items).To(ConsistOf(HaveField("DeletionTimestamp", Not(BeNil()))))
		}).WithContext(ctx).Should(Succeed())
		Consistently(latest).WithContext(ctx).WithArguments(run).WithTimeout(3 * time.Second).ShouldNot(BeNil())
		Expect(t.StartProgram(ctx, localcluster.Kwok)).To(Succeed())
		remove(ctx, run)
	})

	It("stays unchanged if it is foreign and only has the name; the run ends with NameConflict", func(ctx context.Context) {
		t := world.targets[0]
		DeferCleanup(removeLateNamespaces)
		run := plan(kindNamed("waits-for-its-namespace"), t, "lie-3", rand.New(rand.NewPCG(settings.seed, 3)))
		Expect(createOnHub(ctx, run.job)).To(Succeed())
		var intent struct {
			JobName string `json:"jobName"`
		}
		Eventually(func(g Gomega) {
			job, err := latest(ctx, run)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(job.Annotations).To(HaveKey(v1alpha1.AnnotationIntent))
			g.Expect(json.Unmarshal([]byte(job.Annotations[v1alpha1.AnnotationIntent]), &intent)).To(Succeed())
			// It has just been refused, so the next try is a while away.
			g.Expect(meta.FindStatusCondition(job.Status.Conditions, v1alpha1.ConditionDispatched)).To(HaveField("Reason", v1alpha1.ReasonNamespaceNotFound))
		}).WithContext(ctx).Should(Succeed())
		Expect(t.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: late}})).To(Succeed())
		stranger := t.foreign.strange(late, intent.JobName, nil)
		Expect(t.client.Create(ctx, stranger)).To(Succeed(), "before the manager does")
		Eventually(ended(run)).WithContext(ctx).Should(ContainSubstring(v1alpha1.ReasonNameConflict))
		Eventually(func(g Gomega) { // the Job controller says once that it does nothing
			g.Expect(t.client.Get(ctx, client.ObjectKeyFromObject(stranger), stranger)).To(Succeed())
			g.Expect(stranger.Status.Conditions).NotTo(BeEmpty())
		}).WithContext(ctx).Should(Succeed())
		version := stranger.ResourceVersion
		Expect(world.hub.client.Delete(ctx, run.job.DeepCopy())).To(Succeed())
		Eventually(remaining).WithContext(ctx).WithTimeout(2 * time.Minute).ShouldNot(ContainElement(run.job.Name))
		Expect(t.client.Get(ctx, client.ObjectKeyFromObject(stranger), stranger)).To(Succeed())
		Expect(stranger.ResourceVersion).To(Equal(version))
		Expect(openLedger().jobsOf(run.job.UID)).To(BeEmpty())
	})
})
