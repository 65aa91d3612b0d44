package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// The paths of what a run needs, in the namespace where all runs are.
const (
	runJobsPath   = "/apis/batch/v1/namespaces/" + team + "/jobs"
	runPodsPath   = "/api/v1/namespaces/" + team + "/pods"
	runEventsPath = "/api/v1/namespaces/" + team + "/events"
)

// runs are the Jobs that a target has taken.
type runs struct {
	status func(*batchv1.Job) // sets the status that each has at once

	mu      sync.Mutex
	jobs    []*batchv1.Job
	changed chan struct{} // closed at the next change
}

// takeRuns has a target take Jobs, and show them.
func takeRuns(t *target, status func(*batchv1.Job)) *runs {
	r := &runs{status: status, changed: make(chan struct{})}
	t.on(runJobsPath, r.create)
	t.on(jobsPath, r.watch)
	t.on(http.MethodGet, r.get)
	t.on(http.MethodPatch, r.get)
	t.on(runEventsPath, answerObject(&corev1.EventList{}))
	t.on(runPodsPath, answerNone(&corev1.Pod{}, &corev1.PodList{}))
	return r
}

func (r *runs) create(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	made := &batchv1.Job{}
	if err != nil || json.Unmarshal(body, made) != nil {
		http.Error(w, "not a Job", http.StatusBadRequest)
		return
	}
	made.UID, made.ResourceVersion = types.UID(made.Name), "2"
	made.CreationTimestamp = metav1.Now()
	r.status(made)
	if request.URL.Query().Get("dryRun") == "" {
		r.mu.Lock()
		r.jobs = append(r.jobs, made)
		close(r.changed)
		r.changed = make(chan struct{})
		r.mu.Unlock()
	}
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(fixtures.Protobuf(made))
}

// since returns the Jobs after the first n, and what is closed when there are more.
func (r *runs) since(n int) (jobs []*batchv1.Job, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.jobs[n:], r.changed
}

func (r *runs) watch(w http.ResponseWriter, request *http.Request) {
	if request.URL.Query().Get("watch") == "" {
		jobs, _ := r.since(0)
		list := &batchv1.JobList{ListMeta: metav1.ListMeta{ResourceVersion: "2"}}
		for _, job := range jobs {
			list.Items = append(list.Items, *job)
		}
		answerObject(list)(w, request)
		return
	}
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	told := 0
	for begun := false; ; {
		jobs, changed := r.since(told)
		for _, job := range jobs {
			_, _ = w.Write(fixtures.Event(watch.Added, job))
		}
		told += len(jobs)
		if !begun && request.URL.Query().Get("sendInitialEvents") == "true" {
			_, _ = w.Write(bookmark(&batchv1.Job{}, true))
		}
		begun = true
		_ = http.NewResponseController(w).Flush()
		select {
		case <-changed:
		case <-request.Context().Done():
			return
		}
	}
}

// get answers with a Job of that name.
func (r *runs) get(w http.ResponseWriter, request *http.Request) {
	jobs, _ := r.since(0)
	for _, job := range jobs {
		if job.Name == path.Base(request.URL.Path) {
			answerObject(job)(w, request)
			return
		}
	}
	http.NotFound(w, request)
}

// ofKey returns the Job of the run of which a request asks for the Pods.
func (r *runs) ofKey(query url.Values) *batchv1.Job {
	jobs, _ := r.since(0)
	for _, job := range jobs {
		if strings.HasSuffix(query.Get("labelSelector"), job.Labels[v1alpha1.LabelUID]) {
			return job
		}
	}
	return nil
}

// showPods has each run have so many Pods with annotations of so many bytes.
func (r *runs) showPods(t *target, number, annotation int) {
	t.on(runPodsPath, func(w http.ResponseWriter, request *http.Request) {
		job := r.ofKey(request.URL.Query())
		if job == nil {
			answerNone(&corev1.Pod{}, &corev1.PodList{})(w, request)
			return
		}
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
		if request.URL.Query().Get("watch") == "" {
			listPods(w, job, number, annotation)
			return
		}
		for i := range number {
			if _, err := w.Write(fixtures.Event(watch.Added, podOf(job, i, annotation))); err != nil {
				return
			}
		}
		_, _ = w.Write(bookmark(&corev1.Pod{}, true))
		_ = http.NewResponseController(w).Flush()
		<-request.Context().Done()
	})
}

// endlessPods is a number of Pods that comes to no end.
const endlessPods = 1 << 40

func listPods(w io.Writer, job *batchv1.Job, number, annotation int) {
	items := func(w io.Writer) {
		_, _ = w.Write(field(1, field(2, []byte("2"))))
		for i := range number {
			data, err := podOf(job, i, annotation).Marshal()
			if err != nil {
				panic(err)
			}
			if _, err := w.Write(field(2, data)); err != nil {
				return
			}
		}
	}
	if number == endlessPods {
		_, _ = w.Write(envelope("v1", "PodList", 1<<40))
		items(w)
		return
	}
	var list bytes.Buffer
	items(&list)
	_, _ = w.Write(envelope("v1", "PodList", uint64(list.Len()))) //nolint:gosec // it is a length
	_, _ = w.Write(list.Bytes())
}

// changePods has the watch of Pods tell of so many of the first run, and then that one of them changes
// again and again.
func (r *runs) changePods(t *target, number int) {
	t.on(podsPath, func(w http.ResponseWriter, request *http.Request) {
		if request.URL.Query().Get("watch") == "" {
			answerObject(&corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "2"}})(w, request)
			return
		}
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
		if request.URL.Query().Get("sendInitialEvents") == "true" {
			_, _ = w.Write(bookmark(&corev1.Pod{}, true))
		}
		_ = http.NewResponseController(w).Flush()
		job := r.first(request.Context())
		for i := 0; job != nil; i++ {
			pod := podOf(job, i%number, 0)
			if i >= number {
				pod = podOf(job, 0, 0)
			}
			pod.Status.Reason = fmt.Sprint(i)
			if _, err := w.Write(fixtures.Event(watch.Modified, pod)); err != nil {
				return
			}
		}
	})
}

// first returns the Job of the first run, once there is one; nil when ctx is done.
func (r *runs) first(ctx context.Context) *batchv1.Job {
	for {
		jobs, changed := r.since(0)
		if len(jobs) > 0 {
			return jobs[0]
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func podOf(job *batchv1.Job, i, annotation int) *corev1.Pod {
	name, yes := job.Name+"-"+strconv.Itoa(i), true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: job.Namespace, Name: name, UID: types.UID(name), ResourceVersion: "2", CreationTimestamp: metav1.Now(),
			Labels:      job.Spec.Template.Labels,
			Annotations: map[string]string{"fat": strings.Repeat("f", annotation)},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "batch/v1", Kind: "Job", Name: job.Name, UID: job.UID, Controller: &yes,
			}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "main"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{
			Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
		}}},
	}
	return pod
}

// running and completed are statuses of Jobs.
func running(job *batchv1.Job) {
	now := metav1.Now()
	job.Status = batchv1.JobStatus{Active: 1, StartTime: &now}
}

func completed(job *batchv1.Job) {
	now := metav1.Now()
	job.Status = batchv1.JobStatus{
		Succeeded: 1, StartTime: &now, CompletionTime: &now,
		Conditions: []batchv1.JobCondition{
			{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: now},
		},
	}
}

// runAttacks returns what a target does to runs that it is given.
func runAttacks() []attack {
	created := func(answer http.HandlerFunc) func(*target) {
		return func(t *target) {
			takeRuns(t, running)
			t.on(runJobsPath, answer)
		}
	}
	ended := func(change func(*target, *runs)) func(*target) {
		return func(t *target) { change(t, takeRuns(t, completed)) }
	}
	changing := func(number int) func(*target) {
		return func(t *target) { takeRuns(t, running).changePods(t, number) }
	}
	status := func(causes int) *metav1.Status {
		refusal := &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
			Details: &metav1.StatusDetails{},
		}
		for i := range causes {
			refusal.Details.Causes = append(refusal.Details.Causes, metav1.StatusCause{Field: fmt.Sprint("spec.", i), Message: strings.Repeat("m", 1<<10)})
		}
		return refusal
	}
	return []attack{
		{"creations that are answered without end", created(answerStart("batch/v1", "Job", 1<<40, "\x1a\x00")), v1alpha1.ReasonLimitExceeded},
		{"creations that are answered with another Job", created(answerObject(job("another"))), works},
		{"creations that are never answered", created(wait), works},
		{"refusals without end", created(answerEndless(http.StatusForbidden, "text/plain", "", "no ")), works},
		{"refusals with 4,000 causes", created(answerCode(http.StatusUnprocessableEntity, status(4000))), works},
		{"refusals of empty causes without end", created(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write(envelope("v1", "Status", 1<<40))
			_, _ = w.Write([]byte{5<<3 | 2, 0xff, 0xff, 0xff, 0x7f}) // details
			endless(w, string(field(4, nil)))
		}), works},
		{"Pods without end at the end", ended(func(t *target, r *runs) { r.showPods(t, endlessPods, 0) }), works},
		{"3,000 Pods that change all the time", changing(3_000), works},
		{"30,000 Pods that change all the time", changing(30_000), v1alpha1.ReasonLimitExceeded},
		{"20,000 Pods at the end", ended(func(t *target, r *runs) { r.showPods(t, 20_000, 0) }), works},
		{"empty Pods without end at the end", ended(func(t *target, _ *runs) {
			t.on(runPodsPath, answerStart("v1", "PodList", 1<<40, string(field(2, nil))))
		}), works},
		{"events without end", func(t *target) {
			takeRuns(t, func(*batchv1.Job) {})
			t.on(runEventsPath, answerStart("v1", "EventList", 1<<40, string(field(2, nil))))
		}, works},
		{"deletions that are answered without end", func(t *target) {
			takeRuns(t, running)
			t.on(http.MethodDelete, answerStart("batch/v1", "Job", 1<<40, "\x1a\x00"))
		}, works},
		{"Jobs that are read without end", func(t *target) {
			takeRuns(t, running)
			t.on(jobsPath, answerNone(&batchv1.Job{}, &batchv1.JobList{}))
			t.on(http.MethodGet, answerStart("batch/v1", "Job", 1<<40, "\x1a\x00"))
		}, works},
	}
}

func answerCode(code int, object runtime.Object) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
		w.WriteHeader(code)
		_, _ = w.Write(fixtures.Protobuf(object))
	}
}
