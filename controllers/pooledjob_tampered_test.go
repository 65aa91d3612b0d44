package controllers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/faultproxy"
)

// replace does to a PooledJob what kubectl replace does with the file that it was made
// from: whatever others have added to its metadata is gone.
func replace(ctx context.Context, job *v1alpha1.PooledJob) {
	GinkgoHelper()
	Eventually(func() error {
		found := latest(job)(Default, ctx)
		found.Finalizers, found.Annotations = nil, nil
		return hub.Update(ctx, found)
	}).WithContext(ctx).Should(Succeed())
}

// beIntact matches a PooledJob that has the finalizer, and the intent as it was before.
func beIntact(before *v1alpha1.PooledJob) OmegaMatcher {
	return And(
		HaveField("Finalizers", ContainElement(v1alpha1.FinalizerPooledJob)),
		HaveField("Annotations", HaveKeyWithValue(v1alpha1.AnnotationIntent, intentOf(before))))
}

var _ = Describe("A PooledJob that lost its finalizer and its intent", func() {
	It("gets both back, and keeps its Job, which is deleted with it", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		pod := start(ctx, remote)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		before := latest(job)(Default, ctx)
		for range 2 {
			replace(ctx, job)
			eventually(ctx, job).Should(And(beIntact(before), havePhase(v1alpha1.PooledJobRunning)))
			operator.restart() // the second time, only the status can tell
		}
		endPod(ctx, pod, 3, "")
		endJob(ctx, remote, batchv1.JobFailed)
		eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobFailed), HaveField("Status.Result.ExitCode", HaveValue(BeEquivalentTo(3)))))

		By("it has ended")
		replace(ctx, job)
		eventually(ctx, job).Should(beIntact(before))
		Expect(remoteJobs(w.name)(Default, ctx)).To(ConsistOf(HaveField("UID", remote.UID)))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(func() *metav1.Time { return remoteOf(ctx, job).DeletionTimestamp }).ShouldNot(BeNil())
		Expect(exists(hub, job)(ctx)).To(BeTrue())
		finishDeletion(ctx, remote)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	It("does not count as a run without a Job while another cluster answers", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		eventually(ctx, job).Should(HaveField("Status.JobRef.UID", string(remote.UID)))
		before := latest(job)(Default, ctx)

		operator.stop()
		w.moveToTheHub(ctx)
		replace(ctx, job)
		*operator = *startOperator(operator.scheme)
		eventually(ctx, job).Should(And(
			beIntact(before), havePhase(v1alpha1.PooledJobPending),
			haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady, ContainSubstring("is bound to the cluster with UID"))))
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobPending))
	})

	It("stays as it is when it never had a Job, and is deleted at once", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx, func(job *v1alpha1.PooledJob) { job.Spec.TargetNamespace = "there-is-none" })
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobFailed))
		replace(ctx, job)
		consistently(ctx, job).Should(HaveField("Finalizers", BeEmpty()))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	It("stays on the chosen cluster when the hub did not know its Job yet", func(ctx context.Context) {
		w := newWorld(ctx)
		first, second := w.link(ctx, theTarget(ctx), "a"), w.link(ctx, theTarget(ctx), "b")
		var asked atomic.Int32
		var job *v1alpha1.PooledJob
		created := make(chan struct{})
		for _, l := range []*link{first, second} {
			l.onCreate(func(moment faultproxy.Moment) faultproxy.Action {
				if moment == faultproxy.After && asked.Add(1) == 1 {
					defer GinkgoRecover()
					<-created
					replace(ctx, job) // the operator waits for its answer
					first.setLabel(ctx, nil)
				}
				return faultproxy.Action{}
			})
		}
		job = w.submit(ctx, w.anywhere)
		close(created)
		eventually(ctx, job).Should(And(
			HaveField("Finalizers", ContainElement(v1alpha1.FinalizerPooledJob)),
			beOn(first.world, 0),
			haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated)))
		Expect(remoteJobs(w.name)(Default, ctx)).To(HaveLen(1))
		Expect(asked.Load()).To(BeEquivalentTo(1))
	})
})

var _ = Describe("A Job whose labels are taken off before its run knows it", func() {
	It("gets found, and its labels are restored", func(ctx context.Context) {
		w := newWorld(ctx)
		l := w.link(ctx, theTarget(ctx), "a")
		var asked atomic.Int32
		l.onCreate(func(moment faultproxy.Moment) faultproxy.Action {
			if moment != faultproxy.After || asked.Add(1) > 1 {
				return faultproxy.Action{}
			}
			defer GinkgoRecover()
			jobs := remoteJobs(w.name)(Default, ctx)
			Expect(jobs).To(HaveLen(1))
			stripLabels(ctx, &jobs[0])
			return faultproxy.Action{Cut: true} // the answer is lost
		})
		job := w.submit(ctx, w.anywhere)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated))
		Eventually(func() map[string]string { return remoteOf(ctx, job).Labels }).Should(HaveKeyWithValue(v1alpha1.LabelUID, string(job.UID)))
		endJob(ctx, remoteOf(ctx, job), batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(remoteJobs(w.name)(Default, ctx)).To(HaveLen(1))
	})

	// answering has the target answer requests about Jobs, but for watches, with an error.
	answering := func(t *tap, code int, methods ...string) {
		answer := func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			if !strings.Contains(r.URL.Path, "/jobs") || r.URL.Query().Get("watch") != "" || !slices.Contains(methods, r.Method) {
				return false
			}
			w.WriteHeader(code)
			return true
		}
		t.before.Store(&answer)
	}

	It("does not end as RemoteJobDeleted when it had lost its labels and completed", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, pod := w.running(ctx)
		answering(t, http.StatusServiceUnavailable, http.MethodPatch, http.MethodGet)
		stripLabels(ctx, remote) // the watch tells of that as of a deletion
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonTargetError))
		endPod(ctx, pod, 0, "")
		endJob(ctx, remote, batchv1.JobComplete)
		letPodsGo(ctx, remote)
		Expect(target.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
		Expect(target.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		t.before.Store(nil)
		setSpec(ctx, job, `{"ttlSecondsAfterFinished":3600}`) // so that it is looked at without a back-off
		eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobFailed),
			haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRemoteJobEndUnknown)))
	}, SpecTimeout(90*time.Second))

	It("ends its run and can be cancelled also when its labels cannot be restored", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, pod := w.running(ctx)
		cancelled, other, _ := w.running(ctx)
		refuse := func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			refused := r.Method == http.MethodPatch && strings.Contains(string(body), v1alpha1.LabelHub)
			if refused {
				w.WriteHeader(http.StatusForbidden)
			}
			return refused
		}
		t.before.Store(&refuse)
		stripLabels(ctx, remote)
		stripLabels(ctx, other)
		endPod(ctx, pod, 0, "")
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).WithTimeout(40 * time.Second).Should(havePhase(v1alpha1.PooledJobSucceeded))
		setSpec(ctx, cancelled, `{"cancel":true}`)
		Eventually(func() *int64 { return remoteOf(ctx, cancelled).Spec.ActiveDeadlineSeconds }).WithTimeout(40 * time.Second).Should(HaveValue(BeZero()))
	}, SpecTimeout(2*time.Minute))

	It("leaves Synced of its run Unknown while its labels cannot be restored", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx)
		answering(t, http.StatusForbidden, http.MethodPatch)
		stripLabels(ctx, remote)
		eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobRunning),
			haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonTargetError, ContainSubstring("putting the labels back"))))
		t.before.Store(nil)
		eventually(ctx, job).WithTimeout(40 * time.Second).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionTrue, v1alpha1.ReasonSynced))
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
	}, SpecTimeout(90*time.Second))

	It("does not count as never created while its Pods are in view", func(ctx context.Context) {
		w := newWorld(ctx)
		l := w.link(ctx, theTarget(ctx), "a")
		job := w.submit(ctx, w.anywhere)
		remote := remoteOf(ctx, job)
		start(ctx, remote)
		operator.stop()
		// As if the operator had ended before it wrote what it knew of the Job.
		stripLabels(ctx, remote)
		unknown := latest(job)(Default, ctx)
		unknown.Status = v1alpha1.PooledJobStatus{}
		Expect(hub.Status().Update(ctx, unknown)).To(Succeed())
		*operator = *startOperator(operator.scheme)
		Eventually(l.connection).WithContext(ctx).Should(beReady())
		eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobRunning), HaveField("Status.JobRef.UID", string(remote.UID))))
		Expect(remoteOf(ctx, job).Labels).To(HaveKeyWithValue(v1alpha1.LabelUID, string(job.UID)))
	})
})

var _ = Describe("A Job of the same name on another cluster that answers for a moment", func() {
	It("does not make the run report a loss", func(ctx context.Context) {
		account := createAccount(ctx)
		allow(ctx, accountSubject(account))
		token, _ := tokenOf(ctx, account, time.Hour)
		var elsewhere atomic.Bool
		answer := func(rw http.ResponseWriter, obj client.Object) bool {
			answerObject(rw, http.StatusOK, obj)
			return true
		}
		w := connectedAs(ctx, throughGateway(fmt.Sprintf("token: %q", token), func(rw http.ResponseWriter, r *http.Request) bool {
			name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
			switch {
			case !elsewhere.Load() || r.Method != http.MethodGet:
				return false
			case strings.Contains(r.URL.Path, "/jobs/"):
				namespace := strings.Split(r.URL.Path, "/")[5]
				return answer(rw, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "elsewhere"}})
			case name == metav1.NamespaceSystem:
				return answer(rw, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "elsewhere"}})
			}
			return false
		}))
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		eventually(ctx, job).Should(HaveField("Status.JobRef.UID", string(remote.UID)))
		elsewhere.Store(true)
		stripLabels(ctx, remote) // so that it is looked for
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady, ContainSubstring("UID elsewhere answers")))
		elsewhere.Store(false)
		touch(ctx, job)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionTrue, v1alpha1.ReasonSynced))
		Expect(controllerutil.ContainsFinalizer(latest(job)(Default, ctx), v1alpha1.FinalizerPooledJob)).To(BeTrue())
	})
})
