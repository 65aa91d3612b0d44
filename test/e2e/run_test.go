package e2e

import (
	"context"
	"fmt"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localenv"
	"github.com/pooledjob/pooledjob/test/samples"
)

var _ = Describe("The samples", func() {
	It("have their expected outcomes, and cause no API warnings", func(ctx context.Context) {
		before := len(warnings.all())
		for _, o := range samples.Outcomes {
			Expect(localenv.Apply(ctx, hub, sample(o.File))).To(Succeed())
			DeferCleanup(removed, &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name}})
		}
		for _, o := range samples.Outcomes {
			job := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name}}
			Eventually(func(g Gomega) error { return o.Check(latest(job)(g, ctx)) }).Should(Succeed())
			if o.Target > 0 {
				Expect(remoteJobs(ctx, job)).To(ConsistOf(HaveField("Namespace", o.TargetNamespace)))
			}
		}
		Expect(warnings.all()).To(HaveLen(before), "some clients take a warning for a failure")
	})

	It("include one that the API server refuses", func(ctx context.Context) {
		Expect(localenv.Apply(ctx, hub, sample(samples.Invalid))).To(MatchError(ContainSubstring(samples.InvalidWords)))
	})

	It("include no file that the tests do not use", func() {
		files, err := filepath.Glob(sample("*.yaml"))
		Expect(err).NotTo(HaveOccurred())
		used := append([]string{samples.Invalid}, samples.Setup...)
		for _, o := range samples.Outcomes {
			used = append(used, o.File)
		}
		var found []string
		for _, file := range files {
			found = append(found, filepath.Base(file))
		}
		Expect(used).To(ConsistOf(found))
	})
})

var _ = Describe("A run", func() {
	It("starts by itself when its target namespace appears", func(ctx context.Context) {
		job := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "early"}}
		Expect(localenv.Apply(ctx, hub, sample("pooledjob-missing-namespace.yaml"))).To(Succeed())
		Eventually(latest(job)).WithContext(ctx).Should(havePhase(v1alpha1.PooledJobPending))
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "not-there-yet"}}
		Expect(targets[0].Create(ctx, namespace)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(targets[0].Delete(ctx, namespace)).To(Succeed()) })
		Eventually(latest(job)).WithContext(ctx).Should(havePhase(v1alpha1.PooledJobSucceeded))
		removed(ctx, job)
	})

	It("leaves nothing behind when it is deleted while it runs", func(ctx context.Context) {
		job := newJob(1, "stopped", behaviour{seconds: 3600})
		Expect(hub.Create(ctx, job)).To(Succeed())
		Eventually(latest(job)).WithContext(ctx).Should(havePhase(v1alpha1.PooledJobRunning))
		uid := client.MatchingLabels{v1alpha1.LabelUID: string(job.UID)}
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(gone(job)).WithContext(ctx).Should(BeTrue())
		var pods corev1.PodList
		Expect(targets[0].List(ctx, &pods, uid)).To(Succeed())
		Expect(pods.Items).To(BeEmpty())
		Expect(remoteJobs(ctx, job)).To(BeEmpty())
	})

	It("costs four writes of the hub", func(ctx context.Context) {
		job := newJob(1, "cheap", behaviour{seconds: 4})
		Expect(hub.Create(ctx, job)).To(Succeed())
		watcher, err := hub.Watch(ctx, &v1alpha1.PooledJobList{}, client.InNamespace(job.Namespace), &client.ListOptions{
			Raw: &metav1.ListOptions{ResourceVersion: job.ResourceVersion, FieldSelector: "metadata.name=" + job.Name},
		})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(watcher.Stop)
		writes, deleted := 0, false
		for !deleted {
			var event watch.Event
			Eventually(watcher.ResultChan()).WithContext(ctx).Should(Receive(&event))
			seen, ok := event.Object.(*v1alpha1.PooledJob)
			Expect(ok).To(BeTrue())
			writes++
			fmt.Fprintf(GinkgoWriter, "write %d: %s, %s, %v\n", writes, event.Type, seen.Status.Phase, seen.DeletionTimestamp)
			if seen.Status.Phase == v1alpha1.PooledJobSucceeded && seen.DeletionTimestamp.IsZero() {
				Expect(hub.Delete(ctx, job)).To(Succeed()) // one write, and not the operator's
			}
			deleted = event.Type == watch.Deleted
		}
		Expect(writes-1).To(BeNumerically("<=", 4), "intent, running, finished, finalizer off")
	})
})

var _ = Describe("Two hundred runs at once", func() {
	It("end as planned with one Job each, and leave nothing after their deletion", func(ctx context.Context) {
		const number = 200
		ledgers := []*ledger{openLedger(ctx, targets[0]), openLedger(ctx, targets[1])}
		jobs := make([]*v1alpha1.PooledJob, number)
		for i := range jobs {
			jobs[i] = newJob(i%2+1, fmt.Sprintf("many-%d", i), behaviour{seconds: 1, exitCode: i % 5})
			Expect(hub.Create(ctx, jobs[i])).To(Succeed())
		}
		for i, job := range jobs {
			Eventually(latest(job)).WithContext(ctx).WithTimeout(patienceForMany).Should(endWith(i % 5))
		}
		for i, job := range jobs {
			Eventually(ledgers[i%2].of).WithArguments(job).Should(Equal(1))
			Expect(ledgers[1-i%2].of(job)).To(BeZero())
			Expect(remoteJobs(ctx, job)).To(HaveLen(1))
		}
		for _, job := range jobs {
			Expect(hub.Delete(ctx, job)).To(Succeed())
		}
		for _, job := range jobs {
			Eventually(gone(job)).WithContext(ctx).WithTimeout(patienceForMany).Should(BeTrue())
			Expect(remoteJobs(ctx, job)).To(BeEmpty())
		}
	})
})
