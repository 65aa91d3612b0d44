package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/faultproxy"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// moves are the points at which the manager is killed while it moves a run. The short form has
// the first: the new attempt is written, and where it will be is not. They are no more than an
// Event about orphans names.
var moves = []killPoint{
	{"hub PATCH pooledjobs", 1, faultproxy.Before},
	{"hub PATCH pooledjobs/status", 1, faultproxy.Before},
	{"hub PATCH pooledjobs", 1, faultproxy.After},
	{"target POST jobs", 1, faultproxy.Before},
	{"target POST jobs", 1, faultproxy.After},
}

// releases are those while it lets a PooledJob go. The short form has the first.
var releases = []killPoint{
	{"hub PATCH pooledjobs", 1, faultproxy.Before},
	{"hub PATCH pooledjobs", 1, faultproxy.After},
}

// orphan is a Job that was left on a target, as it was then.
type orphan struct {
	on  *target
	job *batchv1.Job
}

func (o orphan) name() string { return o.job.Namespace + "/" + o.job.Name }

// touched tells how somebody other than its own controller has changed the Job; empty if
// nobody has.
func (o orphan) touched(ctx context.Context) string {
	job := &batchv1.Job{}
	if err := o.on.client.Get(ctx, client.ObjectKeyFromObject(o.job), job); err != nil {
		return err.Error()
	}
	return difference(o.job, job)
}

// told returns the notes of the Events about orphans on a target.
func told(ctx context.Context, t *target) ([]string, error) {
	var list eventsv1.EventList
	if err := world.hub.client.List(ctx, &list); err != nil {
		return nil, err
	}
	var notes []string
	for i := range list.Items {
		event := &list.Items[i]
		if event.Regarding.Kind == "ClusterConnection" && event.Regarding.Name == t.Name() && event.Reason == v1alpha1.ReasonOrphanedJobs {
			notes = append(notes, event.Note)
		}
	}
	return notes, nil
}

// vanish has the manager's connections to a target break, also new ones, until its hook is
// taken away. The suite reaches the target by another way.
func vanish(t *target) {
	t.proxy.SetHook(func(faultproxy.Moment, *faultproxy.Call) faultproxy.Action { return faultproxy.Action{Cut: true} })
	t.proxy.Cut()
}

// allBut returns the clusters without that of a target.
func allBut(t *target) []*cluster {
	var others []*cluster
	for _, c := range allClusters() {
		if c != t.cluster {
			others = append(others, c)
		}
	}
	return others
}

// clusterUID returns what a cluster is known by.
func clusterUID(ctx context.Context, t *target) string {
	namespace := &corev1.Namespace{}
	Expect(t.client.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, namespace)).To(Succeed())
	return string(namespace.UID)
}

// annotate sets an annotation of an object of the hub; an empty value takes it off.
func annotate(ctx context.Context, obj client.Object, name, value string) {
	text := "null"
	if value != "" {
		text = fmt.Sprintf("%q", value)
	}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, name, text))
	Expect(world.hub.client.Patch(ctx, obj, patch)).To(Succeed())
}

// fence states that nothing runs on the cluster of a target any more; an empty UID takes that
// back.
func fence(ctx context.Context, t *target, uid string) {
	annotate(ctx, &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: t.Name()}}, v1alpha1.AnnotationFenced, uid)
}

// startMovable starts a run that may be moved, and has its target vanish with the Job's Pod
// frozen as it runs.
func startMovable(ctx context.Context, name string) (*planned, orphan) {
	run := plan(kindNamed("may-move"), world.targets[0], name, rand.New(rand.NewPCG(settings.seed, 5)))
	lasts(&run.job.Spec, 3000)
	Expect(createOnHub(ctx, run.job)).To(Succeed())
	Expect(run.untilItRuns(ctx)).To(Succeed())
	job, err := remoteJobOf(ctx, run)
	Expect(err).NotTo(HaveOccurred())
	says, err := latest(ctx, run)
	Expect(err).NotTo(HaveOccurred())
	old, err := targetNamed(says.Status.ClusterName)
	Expect(err).NotTo(HaveOccurred())
	vanish(old)
	DeferCleanup(old.proxy.SetHook, faultproxy.Hook(nil))
	Expect(old.StopProgram(localcluster.Kwok)).To(Succeed())
	DeferCleanup(func(ctx context.Context) { Expect(old.StartProgram(ctx, localcluster.Kwok)).To(Succeed()) })
	return run, orphan{old, job}
}

// expectFenceAsked expects a run to stay where its Job may be, however long that is away, and to
// say what would release it.
func expectFenceAsked(ctx context.Context, run *planned, uid string) {
	Eventually(func(g Gomega) {
		says, err := latest(ctx, run)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(meta.FindStatusCondition(says.Status.Conditions, v1alpha1.ConditionSynced)).To(
			HaveField("Message", ContainSubstring("%s=%s", v1alpha1.AnnotationFenced, uid)))
	}).WithContext(ctx).Should(Succeed())
	attempt := func(ctx context.Context) (int32, error) {
		says, err := latest(ctx, run)
		return says.Status.Attempt, err
	}
	after := time.Duration(run.job.Spec.Failover.AfterSeconds) * time.Second
	Consistently(attempt).WithContext(ctx).WithTimeout(after + time.Second).Should(BeZero())
}

// expectMovedOnce expects a run to have ended on another target than the one that was
// fenced, and to have run there once.
func expectMovedOnce(ctx context.Context, run *planned) {
	expectClean(ctx, run)
	says, err := latest(ctx, run)
	Expect(err).NotTo(HaveOccurred())
	Expect(says.Status.Attempt).To(BeEquivalentTo(1))
	now, err := targetNamed(says.Status.ClusterName)
	Expect(err).NotTo(HaveOccurred())
	Expect(now).NotTo(Equal(run.fenced))
	Expect(openLedger().jobsOf(run.job.UID)).To(ConsistOf(HavePrefix(run.fenced.Name()+"/"), HavePrefix(now.Name()+"/")), "one Job on each")
	Expect(now.truth.podsOf(run.job.UID)).To(ConsistOf(says.Status.Result.PodName), "the Pods on %s", now.Name())
}

// expectReported expects a target's orphans to be told of, those and no others.
func expectReported(ctx context.Context, t *target, orphans []orphan) {
	Eventually(func(g Gomega, ctx context.Context) {
		notes, err := told(ctx, t)
		g.Expect(err).NotTo(HaveOccurred())
		for _, o := range orphans {
			g.Expect(notes).To(ContainElement(ContainSubstring(o.name())))
		}
		metrics, err := theManager().Metrics(ctx)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(strings.Split(metrics, "\n")).To(ContainElement(fmt.Sprintf("pooledjob_connection_orphaned_jobs{connection=%q} %d", t.Name(), len(orphans))))
	}).WithContext(ctx).WithTimeout(2 * time.Minute).Should(Succeed())
}

// removeOrphan does what is left to people.
func removeOrphan(ctx context.Context, o orphan) {
	Expect(o.on.client.Delete(ctx, o.job.DeepCopy(), client.PropagationPolicy(metav1.DeletePropagationForeground))).To(Succeed())
	Eventually(func() error {
		return o.on.client.Get(ctx, client.ObjectKeyFromObject(o.job), &batchv1.Job{})
	}).WithContext(ctx).Should(Satisfy(apierrors.IsNotFound))
}

// What is left is reported half a minute after a cluster is back, so the specs share one wait.
var _ = Describe("A Job on a cluster that is gone", Ordered, func() {
	var moved []*planned
	var orphans []orphan

	BeforeAll(func(ctx context.Context) {
		DeferCleanup(heal)
		startManager(ctx)
	})

	for i, point := range moves {
		It("lets its run move elsewhere when its cluster is fenced and the manager killed "+point.String(), func(ctx context.Context) {
			if i > 0 && !long() {
				Skip("the short form has one point")
			}
			awaitConnected(ctx)
			run, left := startMovable(ctx, fmt.Sprintf("fenced-%d", i))
			run.fenced = left.on
			uid := clusterUID(ctx, left.on)
			if long() { // until the outage is known
				expectFenceAsked(ctx, run, uid)
			}
			t := killAt(ctx, run, point, allBut(left.on)...)
			DeferCleanup(hookAll, faultproxy.Hook(nil))
			fence(ctx, left.on, uid)
			DeferCleanup(fence, left.on, "")
			Eventually(t.restarted).WithContext(ctx).Should(Receive(BeNil()), "the manager is killed there")
			Eventually(ended(run)).WithContext(ctx).ShouldNot(BeEmpty())
			expectMovedOnce(ctx, run)
			Expect(left.touched(ctx)).To(BeEmpty())
			moved, orphans = append(moved, run), append(orphans, left)
		}, NodeTimeout(5*time.Minute))
	}

	for i, point := range releases {
		It("lets its deleted PooledJob go when that is abandoned and the manager killed "+point.String(), func(ctx context.Context) {
			if i > 0 && !long() {
				Skip("the short form has one point")
			}
			on := world.targets[2]
			run := startRun(ctx, fmt.Sprintf("abandoned-%d", i), on, time.Hour)
			job, err := remoteJobOf(ctx, run)
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(on.proxy.SetHook, faultproxy.Hook(nil))
			vanish(on)
			// A new manager knows at once that the target is away.
			Expect(killManager()).To(Succeed())
			Expect(world.hub.client.Delete(ctx, run.job.DeepCopy())).To(Succeed())
			Expect(relaunch(ctx)).To(Succeed())
			uid := clusterUID(ctx, on)
			Eventually(func(g Gomega) {
				says, err := latest(ctx, run)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(meta.FindStatusCondition(says.Status.Conditions, v1alpha1.ConditionDeleting)).To(
					HaveField("Message", ContainSubstring("%s=%s", v1alpha1.AnnotationAbandon, uid)))
			}).WithContext(ctx).Should(Succeed())

			t := killAt(ctx, run, point, world.hub)
			DeferCleanup(world.hub.proxy.SetHook, faultproxy.Hook(nil))
			annotate(ctx, run.job.DeepCopy(), v1alpha1.AnnotationAbandon, uid)
			Eventually(t.restarted).WithContext(ctx).Should(Receive(BeNil()), "the manager is killed there")
			Eventually(remaining).WithContext(ctx).ShouldNot(ContainElement(run.job.Name))
			expectOnce(run)
			left := orphan{on, job}
			Expect(left.touched(ctx)).To(BeEmpty())
			orphans = append(orphans, left)
		}, NodeTimeout(5*time.Minute))
	}

	It("gets reported as an orphan when its cluster is back, and is not touched", func(ctx context.Context) {
		awaitConnected(ctx)
		byTarget := map[*target][]orphan{}
		for _, o := range orphans {
			byTarget[o.on] = append(byTarget[o.on], o)
		}
		for t, left := range byTarget {
			expectReported(ctx, t, left)
		}
		for _, run := range moved {
			// The first copy has ended meanwhile, too, and that must not count.
			Eventually(run.fenced.truth.unended).WithContext(ctx).ShouldNot(ContainElement(run.job.UID))
			expectMovedOnce(ctx, run)
		}
		for _, o := range orphans {
			Expect(o.touched(ctx)).To(BeEmpty(), "Job %s", o.name())
			removeOrphan(ctx, o)
		}
		removeAll(ctx)
		expectClean(ctx)
	}, NodeTimeout(10*time.Minute))
})
