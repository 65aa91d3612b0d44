package e2e

import (
	"cmp"
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gtypes "github.com/onsi/gomega/types"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// behaviour is how a job's one container behaves.
type behaviour struct {
	seconds  int
	exitCode int
}

// newJob makes a PooledJob for both kinds of nodes: real ones run the command, and
// simulated ones follow the annotations.
func newJob(target int, name string, b behaviour) *v1alpha1.PooledJob {
	namespace := "team-a"
	if target == 2 {
		namespace = "batch"
	}
	job := fixtures.PooledJob("team-a", name, fixtures.On(fmt.Sprintf("target-%d", target), namespace), fixtures.PodAnnotations(map[string]string{
		localcluster.DurationAnnotation: fmt.Sprintf("%ds", b.seconds),
		localcluster.ExitCodeAnnotation: fmt.Sprint(b.exitCode),
	}))
	main := &job.Spec.Template.Spec.Template.Spec.Containers[0]
	main.Command = []string{"sh", "-c", fmt.Sprintf("sleep %d; exit %d", b.seconds, b.exitCode)}
	return job
}

// remoteJobs returns the Jobs of a target that were made for a PooledJob.
func remoteJobs(ctx context.Context, job *v1alpha1.PooledJob) []batchv1.Job {
	var jobs batchv1.JobList
	Expect(targetOf(job).List(ctx, &jobs, client.MatchingLabels{v1alpha1.LabelUID: string(job.UID)})).To(Succeed())
	return jobs.Items
}

func targetOf(job *v1alpha1.PooledJob) client.WithWatch {
	var n int
	_, err := fmt.Sscanf(cmp.Or(job.Spec.ClusterName, job.Status.ClusterName), "target-%d", &n)
	Expect(err).NotTo(HaveOccurred())
	return targets[n-1]
}

// ours counts the Jobs and Pods of a target that carry a hub's label.
func ours(ctx context.Context, target client.Client) int {
	var jobs batchv1.JobList
	var pods corev1.PodList
	Expect(target.List(ctx, &jobs, client.HasLabels{v1alpha1.LabelHub})).To(Succeed())
	Expect(target.List(ctx, &pods, client.HasLabels{v1alpha1.LabelHub})).To(Succeed())
	return len(jobs.Items) + len(pods.Items)
}

// latest reads an object of the hub.
func latest[T client.Object](obj T) func(Gomega, context.Context) T {
	return func(g Gomega, ctx context.Context) T {
		g.Expect(hub.Get(ctx, client.ObjectKeyFromObject(obj), obj)).To(Succeed())
		return obj
	}
}

// gone reports whether an object of the hub is no longer there.
func gone(obj client.Object) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		err := hub.Get(ctx, client.ObjectKeyFromObject(obj), obj)
		return err != nil, client.IgnoreNotFound(err)
	}
}

// removed deletes an object of the hub and waits until it is gone: one of that name that
// is applied while the former is on its way out would go with it.
func removed(ctx context.Context, obj client.Object) {
	GinkgoHelper()
	Expect(hub.Delete(ctx, obj)).To(Succeed())
	Eventually(gone(obj)).WithContext(ctx).Should(BeTrue())
}

func havePhase(phase v1alpha1.PooledJobPhase) gtypes.GomegaMatcher {
	return HaveField("Status.Phase", phase)
}

// patienceForMany is for specs with hundreds of jobs on a small machine.
const patienceForMany = 3 * time.Minute

// endWith matches a run that has ended with the exit code.
func endWith(exitCode int) gtypes.GomegaMatcher {
	phase := v1alpha1.PooledJobSucceeded
	if exitCode != 0 {
		phase = v1alpha1.PooledJobFailed
	}
	return And(havePhase(phase), HaveField("Status.Result.ExitCode", HaveValue(BeEquivalentTo(exitCode))))
}

func beReady() gtypes.GomegaMatcher {
	return WithTransform(func(c *v1alpha1.ClusterConnection) bool {
		return meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionReady)
	}, BeTrue())
}

// beReadyWith matches a ClusterConnection that is Ready for that reason.
func beReadyWith(reason string) gtypes.GomegaMatcher {
	return WithTransform(func(c *v1alpha1.ClusterConnection) string {
		ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil {
			return ""
		}
		return string(ready.Status) + " " + ready.Reason
	}, Equal("True "+reason))
}

func haveCondition(kind string, status metav1.ConditionStatus) gtypes.GomegaMatcher {
	return WithTransform(func(job *v1alpha1.PooledJob) metav1.ConditionStatus {
		condition := meta.FindStatusCondition(job.Status.Conditions, kind)
		if condition == nil {
			return ""
		}
		return condition.Status
	}, Equal(status))
}

// onlyLocal skips a spec on clusters that are not the suite's own.
func onlyLocal() {
	if local == nil {
		Skip("breaks things: needs clusters of the suite's own")
	}
}
