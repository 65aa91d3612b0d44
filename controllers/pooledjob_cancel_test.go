package controllers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
)

// tap is a gateway to the target that writes down what is asked for in one namespace,
// and can be shut.
type tap struct {
	shut atomic.Bool
	// before, if it is set, sees each request to one namespace and may answer it.
	before atomic.Pointer[func(http.ResponseWriter, *http.Request, []byte) bool]

	mu   sync.Mutex
	seen []string
}

// intercept passes requests on while the tap is open.
func (t *tap) intercept(w http.ResponseWriter, r *http.Request) bool {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return true
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if t.shut.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	if !strings.Contains(r.URL.Path, "/namespaces/w-") {
		return false
	}
	if r.URL.Query().Get("dryRun") != "" {
		return t.answers(w, r, body) // it changes nothing
	}
	if r.Method != http.MethodPost {
		path := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		t.note(strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, path, body)))
	} else {
		t.note(r.Method)
	}
	return t.answers(w, r, body)
}

func (t *tap) answers(w http.ResponseWriter, r *http.Request, body []byte) bool {
	before := t.before.Load()
	return before != nil && (*before)(w, r, body)
}

func (t *tap) note(request string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = append(t.seen, request)
}

// requests returns those that came through the tap since the last call of forget: the
// method and, but for a creation, the name of the object and the body.
func (t *tap) requests() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.seen...)
}

// writes returns the requests that change something.
func (t *tap) writes() []string {
	var writes []string
	for _, request := range t.requests() {
		if !strings.HasPrefix(request, http.MethodGet) {
			writes = append(writes, request)
		}
	}
	return writes
}

func (t *tap) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = nil
}

// answerTo answers all requests of a method with a status code and no words.
func answerTo(method string, code int) *func(http.ResponseWriter, *http.Request, []byte) bool {
	answer := func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if r.Method == method {
			w.WriteHeader(code)
		}
		return r.Method == method
	}
	return &answer
}

// throughTap returns a new world whose target is behind a tap, and that shares its
// connection with no other.
func throughTap(ctx context.Context, changes ...func(*v1alpha1.ClusterConnectionSpec)) (world, *tap) {
	t := &tap{}
	account := createAccount(ctx)
	allow(ctx, accountSubject(account))
	token, _ := tokenOf(ctx, account, time.Hour)
	w := newWorld(ctx)
	w.createSecret(ctx, throughGateway(fmt.Sprintf("token: %q", token), t.intercept)...)
	w.createConnectionWith(ctx, func(spec *v1alpha1.ClusterConnectionSpec) {
		for _, change := range changes {
			change(spec)
		}
	})
	w.expectReady(ctx)
	return w, t
}

func (w world) expectReady(ctx context.Context) {
	EventuallyWithOffset(1, w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonConnected))
}

// goesAway shuts the tap, and waits until that is noticed.
func (w world) goesAway(ctx context.Context, t *tap) {
	t.shut.Store(true)
	EventuallyWithOffset(1, w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonUnreachable))
}

// comesBack opens the tap, and waits until that is noticed.
func (w world) comesBack(ctx context.Context, t *tap) {
	t.shut.Store(false)
	EventuallyWithOffset(1, w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonConnected))
}

// setSpec changes fields of a PooledJob's spec, by a merge patch.
func setSpec(ctx context.Context, job *v1alpha1.PooledJob, fields string) {
	patched := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: job.Name}}
	Expect(hub.Patch(ctx, patched, client.RawPatch("application/merge-patch+json", []byte(`{"spec":`+fields+`}`)))).To(Succeed())
}

// nudge changes nothing that matters of an object, so that it is looked at again.
func nudge(ctx context.Context, c client.Client, obj client.Object) {
	serial++
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"example.com/nudge":"%d"}}}`, serial)
	Expect(c.Patch(ctx, obj, client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
}

func cancelledFromTheStart(j *v1alpha1.PooledJob) { j.Spec.Cancel = new(true) }

// endJobBecause plays the Job controller: the Job gets its verdict for a reason, after
// so many Pods have failed.
func endJobBecause(ctx context.Context, remote *batchv1.Job, reason string, failed int32) {
	Expect(target.Get(ctx, client.ObjectKeyFromObject(remote), remote)).To(Succeed())
	now, none := metav1.Now(), int32(0)
	if remote.Status.StartTime == nil {
		remote.Status.StartTime = &now
	}
	remote.Status.Active, remote.Status.Ready, remote.Status.Failed = 0, &none, failed
	for _, kind := range []batchv1.JobConditionType{batchv1.JobFailureTarget, batchv1.JobFailed} {
		remote.Status.Conditions = append(remote.Status.Conditions, batchv1.JobCondition{
			Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: "as the test told", LastTransitionTime: now,
		})
	}
	Expect(target.Status().Update(ctx, remote)).To(Succeed())
}

// noJobs makes a quota of the target refuse every Job in a namespace.
func noJobs(ctx context.Context, namespace string) *corev1.ResourceQuota {
	none := corev1.ResourceList{"count/jobs.batch": resource.MustParse("0")}
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "no-jobs"}, Spec: corev1.ResourceQuotaSpec{Hard: none},
	}
	Expect(target.Create(ctx, quota)).To(Succeed())
	quota.Status = corev1.ResourceQuotaStatus{Hard: none, Used: none}
	Expect(target.Status().Update(ctx, quota)).To(Succeed())
	return quota
}

// deadlineOf returns the deadline of a PooledJob's Job.
func deadlineOf(ctx context.Context, job *v1alpha1.PooledJob) func() *int64 {
	return func() *int64 { return remoteOf(ctx, job).Spec.ActiveDeadlineSeconds }
}

// beCancelled matches a run that was ended by spec.cancel.
func beCancelled(message string) OmegaMatcher {
	return And(havePhase(v1alpha1.PooledJobFailed),
		haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonCancelled, ContainSubstring(message)))
}

// running returns a PooledJob of which a Pod runs.
func (w world) running(ctx context.Context, changes ...func(*v1alpha1.PooledJob)) (*v1alpha1.PooledJob, *batchv1.Job, *corev1.Pod) {
	job := w.submit(ctx, changes...)
	remote := remoteOf(ctx, job)
	pod := start(ctx, remote)
	eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobRunning), HaveField("Status.JobRef.UID", string(remote.UID))))
	return job, remote, pod
}

// replaceRemote puts another Job in the place of a PooledJob's.
func replaceRemote(ctx context.Context, remote *batchv1.Job, labels map[string]string) *batchv1.Job {
	stranger := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: remote.Namespace, Name: remote.Name, Labels: labels},
		Spec:       batchv1.JobSpec{Suspend: new(true), Template: *remote.Spec.Template.DeepCopy()},
	}
	stranger.Spec.Template.Labels = nil
	Expect(target.Delete(ctx, remote.DeepCopy(), client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
	Expect(target.Create(ctx, stranger)).To(Succeed())
	return stranger
}

// expectUntouched makes sure that nobody has changed an object of the target.
func expectUntouched(ctx context.Context, stranger *batchv1.Job) {
	ConsistentlyWithOffset(1, func(g Gomega) {
		now := &batchv1.Job{}
		g.Expect(target.Get(ctx, client.ObjectKeyFromObject(stranger), now)).To(Succeed())
		g.Expect(now.UID).To(Equal(stranger.UID))
		g.Expect(now.ResourceVersion).To(Equal(stranger.ResourceVersion))
	}).Should(Succeed())
}

var _ = Describe("Cancelling a PooledJob", func() {
	DescribeTable("ends a run that is not bound, and nothing is ever sent", func(ctx context.Context, later bool) {
		w := newWorld(ctx)
		w.createSecret(ctx)
		var job *v1alpha1.PooledJob
		if later {
			job = w.submit(ctx)
			eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonClusterNotFound))
			setSpec(ctx, job, `{"cancel":true}`)
		} else {
			job = w.submit(ctx, cancelledFromTheStart)
		}
		eventually(ctx, job).Should(And(beCancelled("before it had a remote Job"), HaveField("Finalizers", BeEmpty())))
		w.createConnection(ctx)
		w.expectReady(ctx)
		Consistently(remoteJobs(w.name)).WithContext(ctx).Should(BeEmpty())
		Expect(latest(job)(Default, ctx)).To(beCancelled(""))
	}, Entry("from the start", false), Entry("while it waits", true))

	It("ends a run that is cancelled from the start, and sends nothing", func(ctx context.Context) {
		w, t := throughTap(ctx)
		t.forget()
		job := w.submit(ctx, cancelledFromTheStart)
		eventually(ctx, job).Should(And(beCancelled(""), HaveField("Finalizers", BeEmpty())))
		Expect(t.requests()).To(BeEmpty())
	})

	It("ends a run that the target refuses for now, and it is not tried again", func(ctx context.Context) {
		w := connected(ctx)
		quota := noJobs(ctx, w.name)
		job := w.submit(ctx)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonQuotaExceeded))
		setSpec(ctx, job, `{"cancel":true}`)
		eventually(ctx, job).Should(beCancelled("before it had a remote Job"))
		Expect(target.Delete(ctx, quota)).To(Succeed())
		Consistently(remoteJobs(w.name)).WithContext(ctx).WithTimeout(3*time.Second).Should(BeEmpty(), "beyond the next try")
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	It("ends a run whose creation had no answer once no request can arrive any more", func(ctx context.Context) {
		w, t := throughTap(ctx)
		t.before.Store(answerTo(http.MethodPost, http.StatusInternalServerError))
		job := w.submit(ctx)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonTargetError))
		setSpec(ctx, job, `{"cancel":true}`)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonCreating))
		moveClock(time.Now().Add(decision.RequestLifetime - 15*time.Second))
		nudge(ctx, hub, job)
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobPending))
		posts := len(t.writes())
		clockOffset.Store(int64(decision.RequestLifetime + time.Second))
		nudge(ctx, hub, job)
		eventually(ctx, job).Should(beCancelled("before it had a remote Job"))
		Expect(t.writes()).To(HaveLen(posts), "a cancelled run is not created")
	})

	It("stops the Job that was created although its request failed", func(ctx context.Context) {
		w, t := throughTap(ctx)
		lose := func(rw http.ResponseWriter, r *http.Request, body []byte) bool {
			if r.Method != http.MethodPost {
				return false
			}
			defer GinkgoRecover()
			created := &batchv1.Job{}
			Expect(json.Unmarshal(body, created)).To(Succeed())
			_ = target.Create(r.Context(), created) // a second try finds it there
			rw.WriteHeader(http.StatusInternalServerError)
			return true
		}
		t.before.Store(&lose)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		setSpec(ctx, job, `{"cancel":true}`)
		Eventually(deadlineOf(ctx, job)).Should(HaveValue(BeZero()))
		endJobBecause(ctx, remote, batchv1.JobReasonDeadlineExceeded, 0)
		eventually(ctx, job).Should(beCancelled("because of spec.cancel"))
	})

	It("stops the running Job by one request, and keeps it", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, pod := w.running(ctx)
		t.forget()
		setSpec(ctx, job, `{"cancel":true}`)
		Eventually(deadlineOf(ctx, job)).Should(HaveValue(BeZero()))
		nudge(ctx, hub, job)
		nudge(ctx, target, remoteOf(ctx, job))
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning), "it has not ended yet")
		patch := fmt.Sprintf(`PATCH %s {"metadata":{"uid":%q},"spec":{"activeDeadlineSeconds":0}}`, remote.Name, remote.UID)
		Expect(t.writes()).To(Equal([]string{patch}))

		stopPod(ctx, pod)
		endPod(ctx, pod, 143, "interrupted")
		endJobBecause(ctx, remote, batchv1.JobReasonDeadlineExceeded, 1)
		eventually(ctx, job).Should(And(beCancelled("because of spec.cancel"),
			HaveField("Status.Result.ExitCode", HaveValue(BeEquivalentTo(143))),
			HaveField("Status.Result.Message", "interrupted"),
			HaveField("Status.CompletionTime", Not(BeNil()))))
		nudge(ctx, hub, job)
		consistently(ctx, job).Should(beCancelled(""))
		Expect(t.writes()).To(HaveLen(1), "the Job stays")
		Expect(remoteOf(ctx, job).DeletionTimestamp).To(BeNil())
	})

	It("sends one request, also when a new operator takes over", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx)
		setSpec(ctx, job, `{"cancel":true}`)
		Eventually(deadlineOf(ctx, job)).Should(HaveValue(BeZero()))
		operator.restart()
		w.expectReady(ctx)
		t.forget()
		nudge(ctx, hub, job)
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(t.writes()).To(BeEmpty())
		endJobBecause(ctx, remote, batchv1.JobReasonDeadlineExceeded, 0)
		eventually(ctx, job).Should(beCancelled(""))
	})

	DescribeTable("does not change what the Job became by itself", func(ctx context.Context, before bool, end func(context.Context, *batchv1.Job), want OmegaMatcher) {
		w, t := throughTap(ctx)
		deadline := int64(3600)
		job, remote, _ := w.running(ctx, func(j *v1alpha1.PooledJob) { j.Spec.Template.Spec.ActiveDeadlineSeconds = &deadline })
		t.forget()
		if before {
			operator.stop()
			end(ctx, remote)
			setSpec(ctx, job, `{"cancel":true}`)
			*operator = *startOperator(operator.scheme)
		} else {
			setSpec(ctx, job, `{"cancel":true}`)
			Eventually(deadlineOf(ctx, job)).Should(HaveValue(BeZero()))
			end(ctx, remote)
		}
		eventually(ctx, job).Should(want)
		consistently(ctx, job).Should(want)
		if before {
			Expect(t.writes()).To(BeEmpty())
		}
	},
		Entry("completed, before it was asked to stop", true, completes, havePhase(v1alpha1.PooledJobSucceeded)),
		Entry("completed, after it was asked to stop", false, completes, havePhase(v1alpha1.PooledJobSucceeded)),
		Entry("too many failures, before it was asked to stop", true, failsBecause(batchv1.JobReasonBackoffLimitExceeded), failedWith(batchv1.JobReasonBackoffLimitExceeded)),
		Entry("too many failures, after it was asked to stop", false, failsBecause(batchv1.JobReasonBackoffLimitExceeded), failedWith(batchv1.JobReasonBackoffLimitExceeded)),
		Entry("its own deadline, before it was asked to stop", true, failsBecause(batchv1.JobReasonDeadlineExceeded), failedWith(batchv1.JobReasonDeadlineExceeded)),
	)

	It("changes nothing after the end of the run", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, _ := w.finished(ctx)
		t.forget()
		setSpec(ctx, job, `{"cancel":true}`)
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(t.requests()).To(BeEmpty())
	})

	It("deletes a suspended Job in the foreground, by its UID", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job := w.submit(ctx, suspendedFromTheStart)
		remote := remoteOf(ctx, job)
		playSuspension(ctx, remote)
		start(ctx, remoteOf(ctx, job)) // a Pod that is slow to go
		playSuspension(ctx, remote)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSuspended))
		t.forget()
		setSpec(ctx, job, `{"cancel":true}`)
		Eventually(func() *metav1.Time { return remoteOf(ctx, job).DeletionTimestamp }).ShouldNot(BeNil())
		Expect(remoteOf(ctx, job).Finalizers).To(ContainElement(metav1.FinalizerDeleteDependents), "in the foreground")
		consistently(ctx, job).Should(Not(havePhase(v1alpha1.PooledJobFailed)), "its Job is still there")
		Expect(t.writes()).To(ConsistOf(And(HavePrefix("DELETE "+remote.Name), ContainSubstring(string(remote.UID)))))
		finishDeletion(ctx, remote)
		eventually(ctx, job).Should(beCancelled("is gone"))
		Consistently(remoteJobs(w.name)).WithContext(ctx).Should(BeEmpty())
	})

	It("deletes no other Job that takes the place of the suspended one at the last moment", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job := w.submit(ctx, suspendedFromTheStart)
		remote := remoteOf(ctx, job)
		playSuspension(ctx, remote)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSuspended))
		replaced := make(chan *batchv1.Job, 1)
		once := sync.OnceFunc(func() { replaced <- replaceRemote(ctx, remote, map[string]string{"owner": "somebody"}) })
		replace := func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
			if r.Method == http.MethodDelete {
				defer GinkgoRecover()
				once()
			}
			return false
		}
		t.before.Store(&replace)
		setSpec(ctx, job, `{"cancel":true}`)
		eventually(ctx, job).Should(beCancelled("is gone"))
		var stranger *batchv1.Job
		Expect(replaced).To(Receive(&stranger))
		expectUntouched(ctx, stranger)
	})

	DescribeTable("stops the Job when the target is back", func(ctx context.Context, meanwhile func(world)) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx)
		w.goesAway(ctx, t)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady))
		setSpec(ctx, job, `{"cancel":true}`)
		meanwhile(w)
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning), "nobody knows what became of it")
		Expect(remoteOf(ctx, job).Spec.ActiveDeadlineSeconds).To(BeNil())
		t.forget()
		w.comesBack(ctx, t)
		Eventually(deadlineOf(ctx, job)).Should(HaveValue(BeZero()))
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionTrue, v1alpha1.ReasonSynced))
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(t.writes()).To(HaveLen(1))
		endJobBecause(ctx, remote, batchv1.JobReasonDeadlineExceeded, 0)
		eventually(ctx, job).Should(beCancelled(""))
	},
		Entry("in the eyes of the same operator", func(world) {}),
		Entry("in the eyes of a new operator", func(world) { operator.restart() }))

	It("stops the Job when an operator runs again", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx)
		operator.stop()
		setSpec(ctx, job, `{"cancel":true}`)
		t.forget()
		*operator = *startOperator(operator.scheme)
		Eventually(deadlineOf(ctx, job)).Should(HaveValue(BeZero()))
		endJobBecause(ctx, remote, batchv1.JobReasonDeadlineExceeded, 0)
		eventually(ctx, job).Should(beCancelled(""))
		Expect(t.writes()).To(HaveLen(1))
	})

	It("ends the run as Cancelled when somebody has deleted its Job, and creates nothing", func(ctx context.Context) {
		w := connected(ctx)
		job, remote, _ := w.running(ctx)
		setSpec(ctx, job, `{"cancel":true}`)
		Eventually(deadlineOf(ctx, job)).Should(HaveValue(BeZero()))
		Expect(target.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		eventually(ctx, job).Should(beCancelled("is gone"))
		Consistently(remoteJobs(w.name)).WithContext(ctx).Should(BeEmpty())
	})

	DescribeTable("leaves another Job alone that took the place of the run's own,", func(ctx context.Context, ours bool) {
		w := connected(ctx)
		job, remote, _ := w.running(ctx)
		operator.stop()
		labels := map[string]string{"owner": "somebody"}
		if ours {
			labels = remote.Labels
		}
		unknown := haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRemoteJobEndUnknown, ContainSubstring("was to be cancelled"))
		stranger := replaceRemote(ctx, remote, labels)
		setSpec(ctx, job, `{"cancel":true}`)
		*operator = *startOperator(operator.scheme)
		if ours { // such as one that a request created which was late
			Eventually(func(g Gomega) {
				g.Expect(target.Get(ctx, client.ObjectKeyFromObject(stranger), stranger)).To(Succeed())
				g.Expect(stranger.DeletionTimestamp).NotTo(BeNil())
			}).Should(Succeed())
			consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
			finishDeletion(ctx, stranger)
			eventually(ctx, job).Should(unknown)
			return
		}
		eventually(ctx, job).Should(unknown)
		expectUntouched(ctx, stranger)
	}, Entry("if it is somebody's", false), Entry("unless it has our labels", true))
})

func completes(ctx context.Context, remote *batchv1.Job) {
	endJob(ctx, remote, batchv1.JobComplete)
}

func failsBecause(reason string) func(context.Context, *batchv1.Job) {
	return func(ctx context.Context, remote *batchv1.Job) { endJobBecause(ctx, remote, reason, 0) }
}

func failedWith(reason string) OmegaMatcher {
	return And(havePhase(v1alpha1.PooledJobFailed), haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, reason, Equal("as the test told")))
}
