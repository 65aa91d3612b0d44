package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/faultproxy"
)

// keptLabel is on Jobs that stay when their PooledJob is deleted: without the hub's label
// nothing else would tell them from foreign ones.
const keptLabel = "chaos-keep"

// removeAndKeepWhenItRuns deletes a PooledJob whose Job is to stay, after a look at that.
func removeAndKeepWhenItRuns(ctx context.Context, p *planned) error {
	if err := p.untilItRuns(ctx); err != nil {
		return err
	}
	err := insist(ctx, func(ctx context.Context) error {
		job, err := remoteJobOf(ctx, p)
		if apierrors.IsNotFound(err) {
			return nil // deleted behind the manager's back, or never known to the hub
		}
		p.kept = job
		return err
	})
	if err != nil {
		return err
	}
	return p.removeNow(ctx)
}

// remoteJobOf returns the Job that the hub knows of a run, as its target has it.
func remoteJobOf(ctx context.Context, run *planned) (*batchv1.Job, error) {
	says, err := latest(ctx, run)
	if err != nil {
		return nil, err
	}
	job := &batchv1.Job{}
	if says.Status.JobRef.Name == "" {
		return nil, apierrors.NewNotFound(batchv1.Resource("jobs"), "of a run that ended before the hub knew of any")
	}
	on, err := targetNamed(says.Status.ClusterName)
	if err != nil {
		return nil, err
	}
	err = on.client.Get(ctx, client.ObjectKey{Namespace: says.Status.JobRef.Namespace, Name: says.Status.JobRef.Name}, job)
	return job, err
}

func targetNamed(name string) (*target, error) {
	for _, t := range world.targets {
		if t.Name() == name {
			return t, nil
		}
	}
	return nil, fmt.Errorf("there is no target %q", name)
}

// checkKept tells what is wrong with the Job that a deleted PooledJob was to leave.
func checkKept(ctx context.Context, run *planned) []string {
	if run.kept == nil {
		return nil
	}
	job := &batchv1.Job{}
	err := run.target.client.Get(ctx, client.ObjectKeyFromObject(run.kept), job)
	if apierrors.IsNotFound(err) && !run.lostAt().IsZero() {
		return nil
	}
	if err != nil {
		return []string{"the Job that was to stay: " + err.Error()}
	}
	var wrong []string
	if hub, ok := job.Labels[v1alpha1.LabelHub]; ok {
		wrong = append(wrong, "the Job that stays still has the label of hub "+hub)
	}
	if diff := difference(withoutHub(run.kept, job)); diff != "" {
		wrong = append(wrong, "the Job that stays was changed (-was +is):\n"+diff)
	}
	if run.isDisturbed() {
		return wrong
	}
	return append(wrong, checkStillRuns(ctx, run.target, job)...)
}

// checkStillRuns reports whether a Job's one Pod was disturbed.
func checkStillRuns(ctx context.Context, t *target, job *batchv1.Job) []string {
	var pods corev1.PodList
	if err := t.client.List(ctx, &pods, client.InNamespace(job.Namespace), client.MatchingLabels{batchv1.JobNameLabel: job.Name}); err != nil {
		return []string{err.Error()}
	}
	running := 0
	for i := range pods.Items {
		if pods.Items[i].Status.Phase == corev1.PodRunning && pods.Items[i].DeletionTimestamp.IsZero() {
			running++
		}
	}
	if running != 1 || len(pods.Items) != 1 {
		return []string{fmt.Sprintf("the Job that stays has %d Pods, and %d run", len(pods.Items), running)}
	}
	return nil
}

// withoutHub returns copies of a Job, as it was and as it is, without what may differ: the hub's
// label and, if the suite itself has stripped the Job of its labels, all that comes of that.
func withoutHub(was, is *batchv1.Job) (before, after *batchv1.Job) {
	before, after = was.DeepCopy(), is.DeepCopy()
	mayDiffer := []string{v1alpha1.LabelHub}
	if is.Labels[strippedLabel] != "" {
		mayDiffer = append(mayDiffer, v1alpha1.LabelUID, strippedLabel)
	}
	if ttl := after.Spec.TTLSecondsAfterFinished; ttl != nil && *ttl == managersTTL {
		// The manager may have been away between the Job's creation and that.
		before.Spec.TTLSecondsAfterFinished = ttl
	}
	for _, job := range []*batchv1.Job{before, after} {
		maps.DeleteFunc(job.Labels, func(name, _ string) bool { return slices.Contains(mayDiffer, name) })
	}
	return before, after
}

// difference tells how a Job was changed, other than by its own controller; empty if not.
func difference(was, is *batchv1.Job) string {
	bare := func(job *batchv1.Job) *batchv1.Job {
		job = job.DeepCopy()
		job.Status, job.ResourceVersion, job.ManagedFields = batchv1.JobStatus{}, "", nil
		return job
	}
	return cmp.Diff(bare(was), bare(is))
}

// removeKept removes the Jobs that their PooledJobs have left.
func removeKept(ctx context.Context) {
	left, err := labels.Parse(keptLabel + ",!" + v1alpha1.LabelHub)
	Expect(err).NotTo(HaveOccurred())
	selected := client.MatchingLabelsSelector{Selector: left}
	for _, t := range world.targets {
		for _, namespace := range []string{team, batch} {
			Expect(t.client.DeleteAllOf(ctx, &batchv1.Job{}, client.InNamespace(namespace), selected,
				client.PropagationPolicy(metav1.DeletePropagationForeground))).To(Succeed())
		}
	}
	for _, t := range world.targets {
		Eventually(func(g Gomega) {
			var jobs batchv1.JobList
			g.Expect(t.client.List(ctx, &jobs, selected)).To(Succeed())
			g.Expect(jobs.Items).To(BeEmpty())
		}).WithContext(ctx).Should(Succeed())
	}
}

var _ = Describe("A Job that stays when its PooledJob is deleted", func() {
	It("stays unchanged and single when the manager is killed while it removes the hub's label", func(ctx context.Context) {
		DeferCleanup(heal)
		startManager(ctx)
		for i, moment := range []faultproxy.Moment{faultproxy.Before, faultproxy.After} {
			run := plan(kindNamed("keeps-its-job"), world.targets[i], fmt.Sprintf("kept-%d", i), rand.New(rand.NewPCG(settings.seed, 4)))
			point := killPoint{"target PATCH jobs", 1, moment}
			By(point.String())
			Expect(survive(ctx, run, point)).To(BeTrue(), "the manager is killed there")
			remove(ctx, run)
		}
	})
})
