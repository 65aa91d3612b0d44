package connpool

import (
	"context"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/internal/connpool/store"
)

var _ = Describe("A connection that is Ready", func() {
	It("reports the version and UID of its cluster, and gives a lease", func(ctx context.Context) {
		r := newRig()
		_, ok := r.pool.Status(target)
		Expect(ok).To(BeFalse())
		lease := r.connect(ctx, target, adminConfig(nil))

		server, err := client.Discovery().ServerVersion()
		Expect(err).NotTo(HaveOccurred())
		status := r.status()
		Expect(status.KubernetesVersion).To(Equal(server.GitVersion))
		Expect(status.ClusterUID).To(Equal(clusterUID))
		Expect(status.Err).NotTo(HaveOccurred())
		Expect(lease.ClusterUID()).To(Equal(clusterUID))
		Expect(lease.ReadClusterUID(ctx)).To(Equal(clusterUID))
		Eventually(ctx, func() bool { return r.status().LastContact.After(status.LastContact) }).Should(BeTrue(), "no probe is noted")
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})

	It("uses one TCP connection for 50 concurrent calls", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		lease := r.connect(ctx, target, adminConfig(p))
		Expect(p.open()).To(Equal(1))
		Expect(p.dialled()).To(Equal(1))
		job := r.createJob(ctx)
		var calls sync.WaitGroup
		for range 50 {
			calls.Go(func() {
				defer GinkgoRecover()
				found, err := lease.GetJob(ctx, job.Namespace, job.Name)
				Expect(err).NotTo(HaveOccurred())
				Expect(found.UID).To(Equal(job.UID))
			})
		}
		calls.Wait()
		Expect(p.open()).To(Equal(1))
		Expect(p.dialled()).To(Equal(1))
	})

	It("continues undisturbed when Connect is called again with the same identity", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		lease := r.connect(ctx, target, adminConfig(p))
		again := adminConfig(p)
		again.ClusterUID = clusterUID // known by now
		r.pool.Connect(target, again)
		Consistently(ctx, r.transitions).Should(Equal([]State{Ready}))
		Expect(p.dialled()).To(Equal(1))
		Expect(lease.ReadClusterUID(ctx)).To(Equal(clusterUID))
	})

	It("shows only Jobs and Pods that the selector matches, with only the fields that a run needs", func(ctx context.Context) {
		other, r := newRig(), newRig()
		foreignJob, foreignPod := other.createJob(ctx), other.createPod(ctx, "foreign")
		unlabelled := r.createJob(ctx, func(j *batchv1.Job) { j.Labels = map[string]string{keyLabel: j.Name} })
		job := r.createJob(ctx, func(j *batchv1.Job) { j.Finalizers = []string{"connpool.test/stay"} })
		job.Status.Active = 1
		_, err := client.BatchV1().Jobs(job.Namespace).UpdateStatus(ctx, job, metav1.UpdateOptions{})
		Expect(err).NotTo(HaveOccurred())
		deleteJob(ctx, job)
		pod := r.createPod(ctx, job.Name)
		failPod(ctx, pod, 3)

		lease := r.connect(ctx, target, adminConfig(nil))
		Expect(jobsIn(lease)).To(ConsistOf("default/" + job.Name))
		Expect(lease.views[allNamespaces].store.Count(store.KindPod)).To(Equal(1), "a Pod of another hub is in view")
		for _, name := range []string{foreignJob.Name, unlabelled.Name} {
			Expect(lease.Job(metav1.NamespaceDefault, name)).To(BeNil())
		}
		Expect(keyed(lease, foreignPod.Labels[keyLabel]).Pods(metav1.NamespaceDefault)).To(BeEmpty())

		slimJob, err := lease.Job(job.Namespace, job.Name)
		Expect(err).NotTo(HaveOccurred())
		Expect(slimJob.UID).To(Equal(job.UID))
		Expect(slimJob.Labels).To(Equal(job.Labels))
		Expect(slimJob.DeletionTimestamp).NotTo(BeNil())
		Expect(slimJob.Status.Active).To(BeEquivalentTo(1))
		Expect(slimJob.Spec).To(Equal(batchv1.JobSpec{Completions: job.Spec.Completions, BackoffLimit: job.Spec.BackoffLimit, Suspend: job.Spec.Suspend}))
		Expect(slimJob.ManagedFields).To(BeEmpty())
		pods, err := keyed(lease, job.Name).Pods(metav1.NamespaceDefault)
		Expect(err).NotTo(HaveOccurred())
		Expect(pods).To(HaveLen(1))
		Expect(pods[0].Spec).To(Equal(corev1.PodSpec{Containers: []corev1.Container{{Name: "main"}}}))
		Expect(pods[0].ManagedFields).To(BeEmpty())
		Expect(pods[0].Status.ContainerStatuses[0].State.Terminated.ExitCode).To(BeEquivalentTo(3))
	})

	It("lists and watches only with the label selector, and asks for no compressed watches", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig()
		r.connect(ctx, target, s.config("token"))
		for _, path := range []string{jobsPath, podsPath} {
			Expect(s.asked(path)).NotTo(BeEmpty())
			for _, request := range s.asked(path) {
				Expect(request.query.Get("labelSelector")).To(Equal(runLabel+"="+r.run), path)
				if request.query.Get("watch") != "" {
					Expect(request.header.Get("Accept-Encoding")).To(BeEmpty(), "a watch is compressed")
				}
			}
		}
	})

	It("reports the key of a Job for each change that matters to a run", func(ctx context.Context) {
		r := newRig()
		r.connect(ctx, target, adminConfig(nil))
		job := r.createJob(ctx)
		Eventually(ctx, r.changesOf(job.Name)).Should(Equal(1))
		annotateJob(ctx, job)
		Consistently(ctx, r.changesOf(job.Name)).Should(Equal(1), "it matters to no run")
		suspendJob(ctx, job)
		Eventually(ctx, r.changesOf(job.Name)).Should(Equal(2))
		deleteJob(ctx, job)
		Eventually(ctx, r.changesOf(job.Name)).Should(Equal(3))
		Expect(r.lease(target).Job(job.Namespace, job.Name)).To(BeNil())
	})

	It("reports the key of a Pod for each of its changes", func(ctx context.Context) {
		r := newRig()
		r.connect(ctx, target, adminConfig(nil))
		pod := r.createPod(ctx, "some-run")
		Eventually(ctx, r.changesOf("some-run")).Should(Equal(1))
		failPod(ctx, pod, 1)
		Eventually(ctx, r.changesOf("some-run")).Should(Equal(2))
		deletePod(ctx, pod)
		Eventually(ctx, r.changesOf("some-run")).Should(Equal(4), "a Pod is marked before it goes")
		Expect(keyed(r.lease(target), "some-run").Pods(metav1.NamespaceDefault)).To(BeEmpty())
	})

	It("reports the old and the new key when the key of a Job changes", func(ctx context.Context) {
		r := newRig()
		r.connect(ctx, target, adminConfig(nil))
		job := r.createJob(ctx)
		Eventually(ctx, r.changesOf(job.Name)).Should(Equal(1))
		patchJob(ctx, job, `{"metadata":{"labels":{"`+keyLabel+`":"another-run"}}}`)
		Eventually(ctx, r.changesOf("another-run")).Should(Equal(1))
		Eventually(ctx, r.changesOf(job.Name)).Should(Equal(2))
	})

	It("remembers a deleted Job and its deleted ended Pods until ForgetJob is called", func(ctx context.Context) {
		r := newRig()
		lease := r.connect(ctx, target, adminConfig(nil))
		job := r.createJob(ctx)
		ended, running := r.createPod(ctx, job.Name), r.createPod(ctx, job.Name)
		failPod(ctx, ended, 137)
		Eventually(ctx, r.changesOf(job.Name)).Should(Equal(4))
		Expect(keyed(lease, job.Name).EndedPods(metav1.NamespaceDefault)).To(BeEmpty(), "it was not deleted yet")
		deletePod(ctx, ended)
		deletePod(ctx, running)
		Eventually(ctx, r.changesOf(job.Name)).Should(Equal(8), "a Pod is marked before it goes")
		Expect(keyed(lease, job.Name).Pods(metav1.NamespaceDefault)).To(BeEmpty())
		remembered := keyed(lease, job.Name).EndedPods(metav1.NamespaceDefault)
		Expect(remembered).To(HaveLen(1))
		Expect(remembered[0].Name).To(Equal(ended.Name))
		Expect(remembered[0].Status.ContainerStatuses[0].State.Terminated.ExitCode).To(BeEquivalentTo(137))

		Expect(keyed(lease, job.Name).GoneJob(job.Namespace, job.Name)).To(BeNil())
		deleteJob(ctx, job)
		Eventually(ctx, func() *GoneJob { return keyed(lease, job.Name).GoneJob(job.Namespace, job.Name) }).Should(
			And(HaveField("UID", job.UID), HaveField("Watched", true)))
		Expect(keyed(lease, job.Name).EndedPods(metav1.NamespaceDefault)).To(HaveLen(1))
		keyed(lease, job.Name).ForgetJob(job.Namespace)
		Expect(keyed(lease, job.Name).GoneJob(job.Namespace, job.Name)).To(BeNil())
		Expect(keyed(lease, job.Name).EndedPods(metav1.NamespaceDefault)).To(BeEmpty())
	})
})
