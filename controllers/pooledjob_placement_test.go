package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/test/faultproxy"
)

// choosing returns a new world with candidates of those suffixes, all of them Ready.
func choosing(ctx context.Context, suffixes ...string) (w world, candidates []world) {
	w = newWorld(ctx)
	w.createSecret(ctx)
	for _, suffix := range suffixes {
		candidates = append(candidates, w.candidate(ctx, suffix))
	}
	for _, c := range candidates {
		Eventually(c.connection).WithContext(ctx).Should(beReady())
	}
	return w, candidates
}

// noSecret leaves a ClusterConnection without a kubeconfig.
func noSecret(c *v1alpha1.ClusterConnection) { c.Spec.KubeconfigSecretRef.Name = "missing-" + c.Name }

// closedTo leaves w's namespace out of the access rules.
func closedTo(c *v1alpha1.ClusterConnection) {
	c.Spec.Access[0].HubNamespaces.MatchLabels = map[string]string{"team": "another"}
}

// clusterOfRun waits until a PooledJob's Job exists, and is where.
func clusterOfRun(ctx context.Context, job *v1alpha1.PooledJob) string {
	found := &v1alpha1.PooledJob{}
	EventuallyWithOffset(1, func(g Gomega) {
		found = latest(job)(g, ctx)
		g.Expect(found.Status.JobRef.UID).NotTo(BeEmpty())
	}).Should(Succeed())
	return found.Status.ClusterName
}

// end ends a run.
func (w world) end(ctx context.Context, job *v1alpha1.PooledJob) {
	endJob(ctx, remoteOf(ctx, job), batchv1.JobComplete)
	eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
}

var _ = Describe("Placement", func() {
	It("chooses the connection with the fewest unfinished PooledJobs, of equals the first by name", func(ctx context.Context) {
		w, c := choosing(ctx, "a", "b", "c")
		w.candidate(ctx, "0-unlabelled", func(c *v1alpha1.ClusterConnection) { c.Labels = nil })
		w.candidate(ctx, "0-closed", closedTo)
		var jobs []*v1alpha1.PooledJob
		place := func() string {
			jobs = append(jobs, w.submit(ctx, w.anywhere))
			return clusterOfRun(ctx, jobs[len(jobs)-1])
		}
		for _, want := range c {
			Expect(place()).To(Equal(want.name))
		}
		clusterOfRun(ctx, w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.ClusterName = c[0].name }))
		Expect(place()).To(Equal(c[1].name), "runs that ask for a connection by its name are counted")
		w.end(ctx, jobs[2])
		Expect(place()).To(Equal(c[2].name), "runs that have ended are not")
		Expect(place()).To(Equal(c[2].name))
		Expect(hub.Delete(ctx, jobs[0])).To(Succeed())
		Eventually(func() *metav1.Time { return remoteOf(ctx, jobs[0]).DeletionTimestamp }).ShouldNot(BeNil())
		Expect(place()).To(Equal(c[0].name), "2, 2, 2")
		finishDeletion(ctx, remoteOf(ctx, jobs[0]))
		Eventually(exists(hub, jobs[0])).WithContext(ctx).Should(BeFalse())
		Expect(place()).To(Equal(c[0].name), "of three on it one is gone")

		operator.restart()
		Expect(place()).To(Equal(c[1].name), "3, 2, 2: a new operator counts what there is")
	})

	It("spreads 60 PooledJobs that come at once evenly", func(ctx context.Context) {
		w, c := choosing(ctx, "a", "b", "c")
		var jobs []*v1alpha1.PooledJob
		for range 60 {
			jobs = append(jobs, w.unsent(w.anywhere))
		}
		var all sync.WaitGroup
		for _, job := range jobs {
			all.Go(func() {
				defer GinkgoRecover()
				Expect(hub.Create(ctx, job)).To(Succeed())
			})
		}
		all.Wait()
		on := map[string]int{}
		for _, job := range jobs {
			on[clusterOfRun(ctx, job)]++
		}
		AddReportEntry("where 60 PooledJobs went", fmt.Sprint(on))
		Expect(on).To(HaveLen(3))
		for _, one := range c {
			Expect(on[one.name]).To(BeNumerically("~", 20, 1))
		}
		Expect(remoteJobs(w.name)(Default, ctx)).To(HaveLen(60))
	})

	It("records the chosen cluster before anything is created, and never changes it", func(ctx context.Context) {
		w := newWorld(ctx)
		a := w.link(ctx, theTarget(ctx), "a")
		recorded := make(chan *v1alpha1.PooledJob, 10)
		a.onCreate(func(moment faultproxy.Moment) faultproxy.Action {
			if moment == faultproxy.Before {
				var list v1alpha1.PooledJobList
				if err := hub.List(context.Background(), &list, client.InNamespace(w.name)); err == nil && len(list.Items) == 1 {
					recorded <- &list.Items[0]
				}
			}
			return faultproxy.Action{Answer: 429}
		})
		job := w.submit(ctx, w.anywhere, failsOver(1))
		var then *v1alpha1.PooledJob
		Eventually(recorded).Should(Receive(&then))
		want := binding.Intent{Cluster: a.name, ClusterUID: a.uid, Namespace: w.name, JobName: binding.RemoteName(operator.hubID, job, 0)}
		Expect(then.Finalizers).To(ContainElement(v1alpha1.FinalizerPooledJob))
		Expect(intentOf(then)).To(Equal(want.Encode()))

		b := w.link(ctx, theTarget(ctx), "b")
		a.setLabel(ctx, nil)
		touch(ctx, job)
		Consistently(latest(job)).WithContext(ctx).WithTimeout(2 * time.Second).Should(HaveField("Annotations", HaveKeyWithValue(v1alpha1.AnnotationIntent, want.Encode())))
		operator.restart()
		Eventually(b.connection).WithContext(ctx).Should(beReady())
		a.mendLine()
		Expect(clusterOfRun(ctx, job)).To(Equal(a.name))
		operator.restart()
		touch(ctx, job)
		consistently(ctx, job).Should(And(beOn(a.world, 0), HaveField("Annotations", HaveKeyWithValue(v1alpha1.AnnotationIntent, want.Encode()))))
		Expect(remoteJobs(w.name)(Default, ctx)).To(HaveLen(1))
	})

	It("waits while no cluster can be used, and reports why for each that the run may know", func(ctx context.Context) {
		w := newWorld(ctx)
		w.createSecret(ctx)
		job := w.submit(ctx, w.anywhere)
		eventually(ctx, job).Should(waitForCluster(ContainSubstring("No ClusterConnection has the labels")))

		w.candidate(ctx, "closed", closedTo)
		eventually(ctx, job).Should(waitForCluster(MatchRegexp(`can be used: 1 do not let hub namespace "`+w.name+`" use namespace`), Not(ContainSubstring("-closed"))))

		unready := w.candidate(ctx, "unready", noSecret)
		narrow := w.candidate(ctx, "narrow", func(c *v1alpha1.ClusterConnection) { c.Spec.Namespaces = []string{metav1.NamespaceDefault} })
		fenced := w.candidate(ctx, "fenced", func(c *v1alpha1.ClusterConnection) { c.Labels = nil })
		for _, one := range []world{narrow, fenced} {
			Eventually(one.connection).WithContext(ctx).Should(beReady())
		}
		going := w.candidate(ctx, "going", noSecret, func(c *v1alpha1.ClusterConnection) { c.Finalizers = []string{"example.com/stay"} })
		DeferCleanup(func(ctx context.Context) {
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
			Expect(hub.Patch(ctx, going.connection(Default, ctx), patch)).To(Succeed())
		})
		Expect(hub.Delete(ctx, going.connection(Default, ctx))).To(Succeed())
		eventually(ctx, job).Should(waitForCluster(
			ContainSubstring(unready.name+": "+v1alpha1.ReasonSecretNotFound),
			ContainSubstring(narrow.name+`: does not watch namespace "`+w.name+`"`),
			ContainSubstring(going.name+": is being deleted"),
			ContainSubstring("1 do not let"), Not(ContainSubstring("-closed"))))
		fenced.annotate(ctx, v1alpha1.AnnotationFenced, uidOf(ctx, target))
		DeferCleanup(func(ctx context.Context) { fenced.mark(ctx, "annotations", v1alpha1.AnnotationFenced, nil) })
		fenced.setLabel(ctx, w.name)
		eventually(ctx, job).Should(waitForCluster(
			ContainSubstring(unready.name+": "+v1alpha1.ReasonSecretNotFound),
			ContainSubstring(narrow.name+": is fenced"), // it leads to the same cluster
			ContainSubstring(fenced.name+": is fenced"),
			ContainSubstring(going.name+": is being deleted")))
		consistently(ctx, job).Should(And(waitForCluster(), HaveField("Finalizers", BeEmpty()), HaveField("Annotations", BeEmpty())))
		Expect(remoteJobs(w.name)(Default, ctx)).To(BeEmpty())
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	It("waits with a selector that cannot be parsed, and reports that", func(ctx context.Context) {
		w, _ := choosing(ctx, "a")
		job := w.submit(ctx, w.anywhere, func(j *v1alpha1.PooledJob) {
			j.Spec.ClusterSelector.MatchLabels = map[string]string{"no key!": "x"}
		})
		eventually(ctx, job).Should(waitForCluster(ContainSubstring("spec.clusterSelector cannot be used"), ContainSubstring("no key!")))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	DescribeTable("continues without a change of the PooledJob", func(ctx context.Context, before func(*v1alpha1.ClusterConnection), ready string, change func(context.Context, world, world)) {
		w := newWorld(ctx)
		w.createSecret(ctx)
		a := w.candidate(ctx, "a", before)
		Eventually(a.connection).WithContext(ctx).Should(WithTransform(readyStatus, Equal(ready)))
		if before == nil {
			a.annotate(ctx, v1alpha1.AnnotationFenced, uidOf(ctx, target))
		}
		job := w.submit(ctx, w.anywhere)
		eventually(ctx, job).Should(waitForCluster())
		consistently(ctx, job).Should(waitForCluster())
		change(ctx, w, a)
		Expect(clusterOfRun(ctx, job)).To(Equal(a.name))
	},
		Entry("when a connection becomes Ready", noSecret, "False/SecretNotFound", func(ctx context.Context, _, a world) {
			data, err := targetCluster.Kubeconfig()
			Expect(err).NotTo(HaveOccurred())
			Expect(hub.Create(ctx, &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "missing-" + a.name}, Data: map[string][]byte{"kubeconfig": data},
			})).To(Succeed())
		}),
		Entry("when one gets the label", func(c *v1alpha1.ClusterConnection) { c.Labels = nil }, yes, func(ctx context.Context, w, a world) {
			a.setLabel(ctx, w.name)
		}),
		Entry("when an access rule is added", closedTo, yes, func(ctx context.Context, w, a world) {
			same := true
			connection := a.connection(Default, ctx)
			before := connection.DeepCopy()
			connection.Spec.Access = append(connection.Spec.Access, v1alpha1.AccessRule{
				HubNamespaces:    &v1alpha1.LabelSelector{MatchLabels: map[string]string{"team": w.name}},
				TargetNamespaces: v1alpha1.TargetNamespaces{Same: &same},
			})
			Expect(hub.Patch(ctx, connection, client.MergeFrom(before))).To(Succeed())
		}),
		Entry("when its namespace gets the label that a rule asks for", closedTo, yes, func(ctx context.Context, w, _ world) {
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.name}}
			Expect(hub.Patch(ctx, namespace, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"team":"another"}}}`)))).To(Succeed())
		}),
		Entry("when spec.namespaces gets the namespace", func(c *v1alpha1.ClusterConnection) { c.Spec.Namespaces = []string{metav1.NamespaceDefault} }, yes,
			func(ctx context.Context, w, a world) { a.setNamespaces(ctx, metav1.NamespaceDefault, w.name) }),
	)

	It("continues when the fence is removed, and ignores a fence with the UID of another cluster", func(ctx context.Context) {
		w, c := choosing(ctx, "a")
		c[0].annotate(ctx, v1alpha1.AnnotationFenced, uidOf(ctx, target))
		job := w.submit(ctx, w.anywhere)
		eventually(ctx, job).Should(waitForCluster(ContainSubstring("is fenced")))
		c[0].annotate(ctx, v1alpha1.AnnotationFenced, "another")
		Expect(clusterOfRun(ctx, job)).To(Equal(c[0].name))

		c[0].annotate(ctx, v1alpha1.AnnotationFenced, uidOf(ctx, target))
		next := w.submit(ctx, w.anywhere)
		eventually(ctx, next).Should(waitForCluster())
		c[0].mark(ctx, "annotations", v1alpha1.AnnotationFenced, nil)
		Expect(clusterOfRun(ctx, next)).To(Equal(c[0].name))
	})

	It("wakes an idle connection", func(ctx context.Context) {
		w := idling(ctx)
		w.setLabel(ctx, w.name)
		w.expectIdle(ctx)
		waiting := w.submit(ctx, w.anywhere, func(j *v1alpha1.PooledJob) { j.Spec.ClusterSelector.MatchLabels["world"] = "nowhere" })
		eventually(ctx, waiting).Should(waitForCluster())
		w.expectIdle(ctx)

		job := w.submit(ctx, w.anywhere)
		Expect(clusterOfRun(ctx, job)).To(Equal(w.name))
		w.end(ctx, job)
		w.expectIdle(ctx)
	})

	It("keeps the ClusterConnection until the runs that were placed on it have cleaned up", func(ctx context.Context) {
		w, c := choosing(ctx, "a", "b")
		placed := w.submit(ctx, w.anywhere)
		Expect(clusterOfRun(ctx, placed)).To(Equal(c[0].name))
		unplaced := w.submit(ctx, w.anywhere, func(j *v1alpha1.PooledJob) { j.Spec.ClusterSelector.MatchLabels["world"] = "nowhere" })
		eventually(ctx, unplaced).Should(waitForCluster())
		for _, one := range c {
			Expect(hub.Delete(ctx, one.connection(Default, ctx))).To(Succeed())
		}
		Eventually(exists(hub, &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: c[1].name}})).WithContext(ctx).Should(BeFalse())
		Eventually(c[0].connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeleting,
			ContainSubstring(placed.Namespace+"/"+placed.Name), Not(ContainSubstring(unplaced.Name))))
		w.end(ctx, placed)
		Consistently(c[0].connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeleting))
		Expect(hub.Delete(ctx, placed)).To(Succeed())
		finishDeletion(ctx, remoteOf(ctx, placed))
		Eventually(exists(hub, &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: c[0].name}})).WithContext(ctx).Should(BeFalse())
	})

	It("ends the run when dispatchDeadlineSeconds is over", func(ctx context.Context) {
		w := newWorld(ctx)
		unready := w.candidate(ctx, "unready", noSecret)
		Eventually(unready.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound))
		job := w.submit(ctx, w.anywhere, func(j *v1alpha1.PooledJob) { j.Spec.DispatchDeadlineSeconds = 3 })
		eventually(ctx, job).Should(waitForCluster())
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonDispatchDeadlineExceeded,
			ContainSubstring(unready.name+": "+v1alpha1.ReasonSecretNotFound)))
		Expect(latest(job)(Default, ctx).Finalizers).To(BeEmpty())
	})

	DescribeTable("does not believe an intent that the author wrote", func(ctx context.Context, forge func(w world, job *v1alpha1.PooledJob, intent *binding.Intent)) {
		w, c := choosing(ctx, "a")
		w.candidate(ctx, "closed", closedTo)
		Eventually(world{name: w.name + "-closed"}.connection).WithContext(ctx).Should(beReady())
		c[0].setLabel(ctx, nil)
		job := w.submit(ctx, w.anywhere)
		eventually(ctx, job).Should(waitForCluster())
		intent := jobspec.RunOf(operator.hubID, job).NewIntent(c[0].name, uidOf(ctx, target))
		forge(w, job, &intent)
		forged := job.DeepCopy()
		forged.Finalizers = []string{v1alpha1.FinalizerPooledJob}
		metav1.SetMetaDataAnnotation(&forged.ObjectMeta, v1alpha1.AnnotationIntent, intent.Encode())
		Expect(hub.Patch(ctx, forged, client.MergeFrom(job))).To(Succeed())

		Consistently(remoteJobs(w.name)).WithContext(ctx).Should(BeEmpty())
		c[0].setLabel(ctx, w.name)
		touch(ctx, job) // a forged cluster may cost the author the wake-up
		Expect(clusterOfRun(ctx, job)).To(Equal(c[0].name))
		Expect(remoteJobs(w.name)(Default, ctx)).To(ConsistOf(HaveField("Name", remoteKey(job).Name)))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		finishDeletion(ctx, remoteOf(ctx, job))
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	},
		Entry("of another attempt", func(_ world, job *v1alpha1.PooledJob, intent *binding.Intent) {
			intent.Attempt, intent.JobName = 7, binding.RemoteName(operator.hubID, job, 7)
		}),
		Entry("with another name", func(_ world, _ *v1alpha1.PooledJob, intent *binding.Intent) { intent.JobName = "another-job" }),
		Entry("with another namespace", func(_ world, _ *v1alpha1.PooledJob, intent *binding.Intent) {
			intent.Namespace = metav1.NamespaceSystem
		}),
		Entry("of another attempt, on a closed cluster", func(w world, _ *v1alpha1.PooledJob, intent *binding.Intent) {
			intent.Attempt, intent.Cluster = 7, w.name+"-closed"
		}),
	)

	It("sends nothing to a closed cluster that the author wrote into the intent", func(ctx context.Context) {
		w, _ := choosing(ctx, "a")
		closed := w.candidate(ctx, "closed", closedTo)
		Eventually(closed.connection).WithContext(ctx).Should(beReady())
		job := w.submit(ctx, w.anywhere, func(j *v1alpha1.PooledJob) { j.Spec.ClusterSelector.MatchLabels["world"] = "nowhere" })
		eventually(ctx, job).Should(waitForCluster())
		forged := job.DeepCopy()
		forged.Finalizers = []string{v1alpha1.FinalizerPooledJob}
		metav1.SetMetaDataAnnotation(&forged.ObjectMeta, v1alpha1.AnnotationIntent,
			jobspec.RunOf(operator.hubID, job).NewIntent(closed.name, uidOf(ctx, target)).Encode())
		Expect(hub.Patch(ctx, forged, client.MergeFrom(job))).To(Succeed())
		Consistently(remoteJobs(w.name)).WithContext(ctx).WithTimeout(2 * time.Second).Should(BeEmpty())
		Expect(hub.Delete(ctx, job)).To(Succeed())
		moveClock(time.Now().Add(2 * decision.RequestLifetime))
		touch(ctx, job)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		Expect(remoteJobs(w.name)(Default, ctx)).To(BeEmpty())
	})
})
