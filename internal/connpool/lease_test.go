package connpool

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/internal/connpool/store"
	"github.com/pooledjob/pooledjob/internal/connpool/transport"
)

var _ = Describe("A lease", func() {
	It("creates a Job only once, and reads back only the fields that a run needs", func(ctx context.Context) {
		r := newRig()
		lease := r.connect(ctx, target, adminConfig(nil))
		job := r.newJob()
		created, _, err := lease.CreateJob(ctx, toCreate(job))
		Expect(err).NotTo(HaveOccurred())
		_, _, err = lease.CreateJob(ctx, toCreate(job))
		Expect(apierrors.IsAlreadyExists(err)).To(BeTrue(), "%v", err)
		found, err := lease.GetJob(ctx, job.Namespace, job.Name)
		Expect(err).NotTo(HaveOccurred())
		Expect(found.UID).To(Equal(created.UID))
		Expect(found.ResourceVersion).NotTo(BeEmpty())
		Expect(found.Spec.Template.Spec.RestartPolicy).To(Equal(job.Spec.Template.Spec.RestartPolicy))
		Expect(found.Spec.Template.Spec.Containers).To(BeEmpty(), "it is not decoded")
		_, err = lease.GetJob(ctx, job.Namespace, "none")
		Expect(apierrors.IsNotFound(err)).To(BeTrue(), "%v", err)
		Eventually(ctx, r.inView(target, created)).Should(BeTrue())
	})

	It("creates Jobs in JSON with fieldValidation=Strict, so that the target refuses unknown fields", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig()
		s.answer("/apis/batch/v1/namespaces/default/jobs", answerError(apierrors.NewBadRequest(`strict decoding error: unknown field "spec.new"`)))
		lease := r.connect(ctx, target, s.config("token"))
		job := r.newJob()
		_, _, err := lease.CreateJob(ctx, toCreate(job))
		Expect(apierrors.IsBadRequest(err)).To(BeTrue(), "%v", err)
		asked := s.asked("/apis/batch/v1/namespaces/default/jobs")
		Expect(asked).To(HaveLen(1))
		Expect(asked[0].method).To(Equal(http.MethodPost))
		Expect(asked[0].query.Get("fieldValidation")).To(Equal("Strict"))
		// Of protobuf the API server drops unknown fields, whatever it is told.
		Expect(asked[0].header.Get("Content-Type")).To(Equal("application/json"))
		Expect(asked[0].header.Get("User-Agent")).To(Equal("connpool-test"))
		var sent batchv1.Job
		Expect(json.Unmarshal(asked[0].body, &sent)).To(Succeed())
		Expect(sent.Name).To(Equal(job.Name))
	})

	It("fails with ErrNotKube when the answer is not the requested Job", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig()
		lease := r.connect(ctx, target, s.config("token"))
		nothing := answerJSON(map[string]string{"error": "try again"})
		s.answer("/apis/batch/v1/namespaces/default/jobs", nothing)
		s.answer(jobPath, nothing)
		_, _, err := lease.CreateJob(ctx, toCreate(r.newJob()))
		Expect(err).To(MatchError(transport.ErrNotKube))
		_, err = lease.GetJob(ctx, "default", "job")
		Expect(err).To(MatchError(transport.ErrNotKube))
		s.answer(jobPath, answerJSON(&batchv1.Job{
			TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "another", UID: "uid"},
		}))
		_, err = lease.GetJob(ctx, "default", "job")
		Expect(err).To(MatchError(transport.ErrNotKube))
	})

	It("sends the request to create a Job once, even if the answer is 429 with Retry-After", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig()
		jobs := "/apis/batch/v1/namespaces/default/jobs"
		s.answer(jobs, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Retry-After", "1")
			answerError(apierrors.NewTooManyRequests("later", 1))(w, req)
		})
		lease := r.connect(ctx, target, s.config("token"))
		_, _, err := lease.CreateJob(ctx, toCreate(r.newJob()))
		Expect(apierrors.IsTooManyRequests(err)).To(BeTrue(), "%v", err)
		Expect(s.asked(jobs)).To(HaveLen(1))
	})

	It("deletes a Job in the foreground, and only if its UID matches", func(ctx context.Context) {
		r := newRig()
		lease := r.connect(ctx, target, adminConfig(nil))
		job := r.createJob(ctx)
		err := lease.DeleteJob(ctx, job.Namespace, job.Name, "another", "")
		Expect(apierrors.IsConflict(err)).To(BeTrue(), "%v", err)
		found, err := lease.GetJob(ctx, job.Namespace, job.Name)
		Expect(err).NotTo(HaveOccurred())
		Expect(found.DeletionTimestamp).To(BeNil())

		Expect(lease.DeleteJob(ctx, job.Namespace, job.Name, job.UID, "")).To(Succeed())
		found, err = lease.GetJob(ctx, job.Namespace, job.Name)
		Expect(err).NotTo(HaveOccurred(), "it must wait for its Pods")
		Expect(found.DeletionTimestamp).NotTo(BeNil())
		Expect(found.Finalizers).To(ConsistOf(metav1.FinalizerDeleteDependents))
	})

	It("patches a Job only if its UID matches, and keeps its other labels", func(ctx context.Context) {
		r := newRig()
		lease := r.connect(ctx, target, adminConfig(nil))
		job := r.createJob(ctx, func(j *batchv1.Job) { j.Labels = map[string]string{"kept": "yes"} })
		patch := func(uid types.UID) []byte {
			return fmt.Appendf(nil, `{"metadata":{"uid":%q,"labels":{%q:%q,%q:%q}}}`, uid, runLabel, r.run, keyLabel, job.Name)
		}
		_, err := lease.PatchJob(ctx, job.Namespace, job.Name, patch("another"))
		Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
		Consistently(ctx, r.inView(target, job)).WithTimeout(200 * time.Millisecond).Should(BeFalse())
		_, err = lease.PatchJob(ctx, job.Namespace, job.Name, patch(job.UID))
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, r.inView(target, job)).Should(BeTrue())
		Expect(client.BatchV1().Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})).To(HaveField("Labels", HaveKeyWithValue("kept", "yes")))
	})

	It("deletes a Pod only if its UID matches", func(ctx context.Context) {
		r := newRig()
		lease := r.connect(ctx, target, adminConfig(nil))
		pod := r.createPod(ctx, "some-run")
		err := lease.DeletePod(ctx, pod.Namespace, pod.Name, "another")
		Expect(apierrors.IsConflict(err)).To(BeTrue(), "%v", err)
		Expect(keyed(lease, "some-run").ListPods(ctx, pod.Namespace)).To(HaveExactElements(HaveField("DeletionTimestamp", BeNil())))
		Expect(lease.DeletePod(ctx, pod.Namespace, pod.Name, pod.UID)).To(Succeed())
		Expect(keyed(lease, "some-run").ListPods(ctx, pod.Namespace)).To(BeEmpty())
	})

	It("refuses calls beyond MaxInFlight with ErrBusy, and does not hold up probes", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(func(o *Options) { o.MaxInFlight, o.ProbeInterval = 3, 50*time.Millisecond })
		lease := r.connect(ctx, target, s.config("token"))
		release := make(chan struct{})
		s.answer(jobPath, func(w http.ResponseWriter, _ *http.Request) {
			<-release
			w.WriteHeader(http.StatusNotFound)
		})
		ended := make(chan error, 3)
		for range 3 {
			go func() {
				_, err := lease.GetJob(ctx, "default", "job")
				ended <- err
			}()
		}
		Eventually(ctx, func() []request { return s.asked(jobPath) }).Should(HaveLen(3))
		patient, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		for range 5 {
			Expect(lease.DeleteJob(patient, "default", "job", "uid", "")).To(MatchError(ErrBusy))
		}
		Expect(lease.Job("default", "job")).To(BeNil(), "the view needs no request")
		probes := len(s.asked(readyPath))
		Eventually(ctx, func() []request { return s.asked(readyPath) }).Should(HaveLen(probes+probeFailures), "probes are held up")
		close(release)
		for range 3 {
			Eventually(ctx, ended).Should(Receive(Satisfy(apierrors.IsNotFound)))
		}
		Expect(lease.ReadClusterUID(ctx)).To(Equal("fake"))
		Expect(s.asked(jobPath)).To(HaveLen(3), "something was sent for a call that was refused")
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})

	It("lists a run's Pods at the target, whether the view shows them yet or not", func(ctx context.Context) {
		r, other := newRig(), newRig()
		lease := r.connect(ctx, target, adminConfig(nil))
		pod := r.createPod(ctx, "some-run")
		r.createPod(ctx, "another-run")
		other.createPod(ctx, "some-run")
		run := keyed(lease, "some-run")
		list := func(g Gomega) {
			pods, err := run.ListPods(ctx, pod.Namespace)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(pods).To(HaveLen(1))
			g.Expect(pods[0].UID).To(Equal(pod.UID))
		}
		list(NewGomega(Fail))
		Eventually(func(g Gomega) {
			g.Expect(run.Pods(pod.Namespace)).To(HaveLen(1))
			list(g)
		}).WithContext(ctx).Should(Succeed())
	})

	It("answers other calls while long lists of Pods wait for their turn", func(ctx context.Context) {
		const runs, pods = 8, 500
		s := newAPIServer()
		r := newRig()
		lease := r.connect(ctx, target, s.config("token"))
		began, release := make(chan string, runs), make(chan struct{})
		var mu sync.Mutex
		asked := map[string]int{}
		s.answer("/api/v1/namespaces/default/pods", func(w http.ResponseWriter, q *http.Request) {
			selector := q.URL.Query().Get("labelSelector")
			key := selector[strings.LastIndex(selector, "=")+1:]
			mu.Lock()
			asked[key]++
			again := asked[key] > 1
			mu.Unlock()
			if again {
				began <- key
				<-release
			}
			list := &corev1.PodList{}
			for i := range pods {
				pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint(key, "-", i), Labels: map[string]string{runLabel: r.run, keyLabel: key}}}
				pod.UID, pod.Annotations = types.UID(pod.Name), map[string]string{"fat": strings.Repeat("f", 5<<10)}
				list.Items = append(list.Items, pod)
			}
			answerJSON(list)(w, q)
		})
		ended := make(chan int, runs)
		for i := range runs {
			go func() {
				defer GinkgoRecover()
				found, err := keyed(lease, fmt.Sprint("run", i)).ListPods(ctx, "default")
				Expect(err).NotTo(HaveOccurred())
				ended <- len(found)
			}()
		}
		for range maxLongLists {
			Eventually(ctx, began).Should(Receive())
		}
		Eventually(func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(asked)
		}).WithContext(ctx).Should(Equal(runs))
		for range 3 {
			_, err := lease.GetJob(ctx, "default", "job")
			Expect(err).To(Satisfy(apierrors.IsNotFound))
		}
		Consistently(began).WithTimeout(50 * time.Millisecond).ShouldNot(Receive())
		close(release)
		for range runs {
			Eventually(ctx, ended).Should(Receive(Equal(pods)))
		}
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})

	It("stays usable when a list of Pods fails with ErrNoRoom", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(func(o *Options) { o.MaxMemory = minMemory })
		lease := r.connect(ctx, target, s.config("token"))
		list := &corev1.PodList{}
		for i := range 600 { // of which 2 MiB may be read, but 1.5 MiB are what the connection may hold
			status := corev1.ContainerStatus{Name: "main", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}}
			list.Items = append(list.Items, corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("pod-", i), UID: types.UID(fmt.Sprint("uid-", i)), Labels: map[string]string{runLabel: r.run, keyLabel: "run"}},
				Status:     corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{status}},
			})
		}
		s.answer("/api/v1/namespaces/default/pods", answerJSON(list))
		for range 3 {
			_, err := keyed(lease, "run").ListPods(ctx, "default")
			Expect(err).To(And(MatchError(store.ErrNoRoom), Not(Satisfy(ExceedsLimit)), Not(MatchError(ErrTooManyPods))))
		}
		Expect(lease.session.entry.budget.Held()).To(BeNumerically("<", 100<<10), "what was read counts on")
		Consistently(ctx, r.transitions).WithTimeout(100 * time.Millisecond).Should(Equal([]State{Ready}))
		_, err := lease.GetJob(ctx, "default", "job")
		Expect(err).To(Satisfy(apierrors.IsNotFound))
	})

	It("ends a call that is never answered after RequestTimeout", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(func(o *Options) { o.RequestTimeout = 300 * time.Millisecond })
		lease := r.connect(ctx, target, s.config("token"))
		s.answer(jobPath, func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() })
		patient, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		began := time.Now()
		_, err := lease.GetJob(patient, "default", "job")
		Expect(err).To(MatchError(context.DeadlineExceeded))
		Expect(time.Since(began)).To(BeNumerically("<", 5*time.Second))
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})

	It("fails with ErrClosed for a connection that does not exist", func() {
		r := newRig()
		_, err := r.pool.Lease("unknown", "")
		Expect(err).To(MatchError(ErrClosed))
		r.pool.Disconnect("unknown")
	})
})
