package jobstatus

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds int) metav1.Time {
	return metav1.NewTime(epoch.Add(time.Duration(seconds) * time.Second))
}

func ptr[T any](v T) *T { return &v }

// remoteJob returns a Job with the given counters and, if kind is not empty, verdict.
func remoteJob(active, succeeded, failed int32, kind batchv1.JobConditionType) *batchv1.Job {
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "etl", Name: "run-1", UID: "job-uid"},
		Spec:       batchv1.JobSpec{BackoffLimit: ptr(int32(0))},
		Status:     batchv1.JobStatus{Active: active, Ready: ptr(int32(0)), Succeeded: succeeded, Failed: failed, StartTime: ptr(at(1))},
	}
	if kind != "" {
		job.Status.Conditions = []batchv1.JobCondition{
			{Type: "SuccessCriteriaMet", Status: corev1.ConditionTrue},
			{Type: kind, Status: corev1.ConditionTrue, Reason: "Because", Message: "in the target's words", LastTransitionTime: at(9)},
		}
	}
	if kind == batchv1.JobComplete {
		job.Status.CompletionTime = ptr(at(8))
	}
	return job
}

func pod(name string, phase corev1.PodPhase, containers ...corev1.ContainerStateTerminated) *corev1.Pod {
	owner := metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: "run-1", UID: "job-uid", Controller: ptr(true)}
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{owner}},
		Status:     corev1.PodStatus{Phase: phase},
	}
	for i := range containers {
		c := corev1.ContainerStatus{Name: fmt.Sprintf("c%d", i), State: corev1.ContainerState{Terminated: &containers[i]}}
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, c)
	}
	return p
}

func exit(code int32, second int, message string) corev1.ContainerStateTerminated {
	return corev1.ContainerStateTerminated{ExitCode: code, StartedAt: at(1), FinishedAt: at(second), Message: message}
}

func observe(job *v1alpha1.PooledJob, remote *batchv1.Job, pods ...*corev1.Pod) {
	NewWriter(job, epoch).Observe(remote, pods)
}

func TestPhaseFollowsTheRemoteJob(t *testing.T) {
	tests := map[string]struct {
		remote *batchv1.Job
		pods   []*corev1.Pod
		want   v1alpha1.PooledJobPhase
	}{
		"created":                   {remoteJob(0, 0, 0, ""), nil, v1alpha1.PooledJobPending},
		"Pod waits":                 {remoteJob(1, 0, 0, ""), []*corev1.Pod{pod("a", corev1.PodPending)}, v1alpha1.PooledJobPending},
		"Pod runs":                  {remoteJob(1, 0, 0, ""), []*corev1.Pod{pod("a", corev1.PodRunning)}, v1alpha1.PooledJobRunning},
		"Pod has run":               {remoteJob(1, 0, 1, ""), []*corev1.Pod{pod("a", corev1.PodFailed, exit(3, 5, ""))}, v1alpha1.PooledJobRunning},
		"Pod failed, never ran":     {remoteJob(1, 0, 1, ""), []*corev1.Pod{pod("a", corev1.PodFailed)}, v1alpha1.PooledJobPending},
		"one failed, not seen":      {remoteJob(1, 0, 1, ""), nil, v1alpha1.PooledJobPending},
		"all succeeded, no verdict": {remoteJob(0, 1, 0, ""), []*corev1.Pod{pod("a", corev1.PodSucceeded, exit(0, 5, ""))}, v1alpha1.PooledJobRunning},
		"all failed, no verdict":    {remoteJob(0, 0, 9, ""), []*corev1.Pod{pod("a", corev1.PodFailed, exit(3, 5, ""))}, v1alpha1.PooledJobRunning},
		"will fail":                 {remoteJob(1, 0, 1, batchv1.JobFailureTarget), []*corev1.Pod{pod("a", corev1.PodFailed, exit(3, 5, ""))}, v1alpha1.PooledJobRunning},
		"completed":                 {remoteJob(0, 1, 0, batchv1.JobComplete), nil, v1alpha1.PooledJobSucceeded},
		"failed":                    {remoteJob(0, 0, 1, batchv1.JobFailed), nil, v1alpha1.PooledJobFailed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			job := &v1alpha1.PooledJob{}
			observe(job, test.remote, test.pods...)
			if job.Status.Phase != test.want {
				t.Errorf("phase = %s, want %s", job.Status.Phase, test.want)
			}
		})
	}
}

func TestReadyIsCountedFromThePods(t *testing.T) {
	isReady := func(p *corev1.Pod, status corev1.ConditionStatus) *corev1.Pod {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}
		return p
	}
	job := &v1alpha1.PooledJob{}
	observe(job, remoteJob(4, 0, 0, ""), isReady(pod("a", corev1.PodRunning), corev1.ConditionTrue),
		isReady(pod("b", corev1.PodRunning), corev1.ConditionFalse), pod("c", corev1.PodPending),
		isReady(pod("d", corev1.PodSucceeded), corev1.ConditionTrue))
	if *job.Status.Ready != 1 || *job.Status.Active != 4 {
		t.Errorf("ready %d, active %d; want 1 and 4", *job.Status.Ready, *job.Status.Active)
	}
}

func TestPhaseNeverRegresses(t *testing.T) {
	job := &v1alpha1.PooledJob{}
	observe(job, remoteJob(1, 0, 0, ""), pod("a", corev1.PodRunning))
	observe(job, remoteJob(1, 0, 0, ""), pod("b", corev1.PodPending))
	if job.Status.Phase != v1alpha1.PooledJobRunning {
		t.Errorf("phase fell back to %s when the next try waited", job.Status.Phase)
	}
	NewWriter(job, epoch).NotSynced(v1alpha1.ReasonClusterNotReady, "no answer since 10:00")
	if job.Status.Phase != v1alpha1.PooledJobRunning {
		t.Errorf("an unreachable cluster changed the phase to %s", job.Status.Phase)
	}
}

func TestTerminalStatusIsFinal(t *testing.T) {
	changes := map[string]func(*v1alpha1.PooledJob){
		"an older view": func(j *v1alpha1.PooledJob) { observe(j, remoteJob(1, 0, 0, ""), pod("a", corev1.PodRunning)) },
		"another end":   func(j *v1alpha1.PooledJob) { observe(j, remoteJob(0, 0, 1, batchv1.JobFailed)) },
		"loss":          func(j *v1alpha1.PooledJob) { NewWriter(j, epoch).Fail(v1alpha1.ReasonRemoteJobDeleted, "") },
		"unreachable":   func(j *v1alpha1.PooledJob) { NewWriter(j, epoch).NotSynced(v1alpha1.ReasonClusterNotReady, "") },
		"not accepted": func(j *v1alpha1.PooledJob) {
			NewWriter(j, epoch).Accepted(metav1.ConditionFalse, v1alpha1.ReasonNotPermitted, "")
		},
		"waiting": func(j *v1alpha1.PooledJob) { NewWriter(j, epoch).Waiting(v1alpha1.ReasonTargetError, "") },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			job := &v1alpha1.PooledJob{}
			observe(job, remoteJob(0, 1, 0, batchv1.JobComplete), pod("a", corev1.PodSucceeded, exit(0, 5, "")))
			want := job.DeepCopy()
			change(job)
			if diff := cmp.Diff(want, job); diff != "" {
				t.Errorf("the status changed after its end:\n%s", diff)
			}
		})
	}
}

func TestObserveIsIdempotentAndCopiesTheTarget(t *testing.T) {
	job := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Generation: 7}}
	observe(job, remoteJob(0, 0, 1, batchv1.JobFailed), pod("a", corev1.PodFailed, exit(3, 5, "boom")))
	failed := meta.FindStatusCondition(job.Status.Conditions, v1alpha1.ConditionFailed)
	want := &metav1.Condition{
		Type: v1alpha1.ConditionFailed, Status: metav1.ConditionTrue, Reason: "Because", Message: "in the target's words",
		ObservedGeneration: 7, LastTransitionTime: metav1.NewTime(epoch),
	}
	if diff := cmp.Diff(want, failed); diff != "" {
		t.Errorf("condition Failed (-want +got):\n%s", diff)
	}
	wantRef := v1alpha1.JobReference{Namespace: "etl", Name: "run-1", UID: "job-uid"}
	if diff := cmp.Diff(wantRef, job.Status.JobRef); diff != "" {
		t.Errorf("jobRef (-want +got):\n%s", diff)
	}
	if !job.Status.CompletionTime.Equal(ptr(at(9))) || *job.Status.Failed != 1 {
		t.Errorf("completionTime %v, failed %d", job.Status.CompletionTime, *job.Status.Failed)
	}
	again := job.DeepCopy()
	observe(again, remoteJob(0, 0, 1, batchv1.JobFailed))
	if diff := cmp.Diff(job, again); diff != "" {
		t.Errorf("a second look changed the status:\n%s", diff)
	}
}

func TestResult(t *testing.T) {
	evicted := pod("e", corev1.PodFailed)
	evicted.Status.Reason, evicted.Status.Message = "Evicted", "the node was low on memory"
	oom := exit(137, 5, "")
	oom.Reason = "OOMKilled"
	sidecar := pod("s", corev1.PodSucceeded, exit(0, 5, "done"))
	sidecar.Status.InitContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: ptr(exit(143, 6, "stopped"))}}}
	failedInit := pod("i", corev1.PodFailed)
	failedInit.Status.InitContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: ptr(exit(2, 3, "init"))}}}
	retried := remoteJob(0, 0, 2, batchv1.JobFailed)
	retried.Spec.BackoffLimit = ptr(int32(1))
	tests := map[string]struct {
		remote *batchv1.Job
		pods   []*corev1.Pod
		want   v1alpha1.Result
	}{
		"success": {remoteJob(0, 1, 0, batchv1.JobComplete), []*corev1.Pod{pod("a", corev1.PodSucceeded, exit(0, 5, "done"))},
			v1alpha1.Result{ExitCode: ptr(int32(0)), Reason: "Completed", Message: "done", PodName: "a"}},
		"success after failures": {remoteJob(0, 1, 1, batchv1.JobComplete), []*corev1.Pod{pod("a", corev1.PodFailed, exit(9, 2, "")), pod("b", corev1.PodSucceeded, exit(0, 5, ""))},
			v1alpha1.Result{ExitCode: ptr(int32(0)), Reason: "Completed", PodName: "b"}},
		"success with a sidecar": {remoteJob(0, 1, 0, batchv1.JobComplete), []*corev1.Pod{sidecar},
			v1alpha1.Result{ExitCode: ptr(int32(0)), Reason: "Completed", Message: "done", PodName: "s"}},
		"failure": {remoteJob(0, 0, 1, batchv1.JobFailed), []*corev1.Pod{pod("a", corev1.PodFailed, exit(3, 5, "boom"))},
			v1alpha1.Result{ExitCode: ptr(int32(3)), Reason: "Error", Message: "boom", PodName: "a"}},
		"first of two failed the Job": {remoteJob(0, 0, 2, batchv1.JobFailed), []*corev1.Pod{pod("late", corev1.PodFailed, exit(143, 6, "")), pod("first", corev1.PodFailed, exit(3, 5, ""))},
			v1alpha1.Result{ExitCode: ptr(int32(3)), Reason: "Error", PodName: "first"}},
		"the second try failed the Job": {retried, []*corev1.Pod{pod("b", corev1.PodFailed, exit(4, 6, "")), pod("a", corev1.PodFailed, exit(3, 5, ""))},
			v1alpha1.Result{ExitCode: ptr(int32(4)), Reason: "Error", PodName: "b"}},
		"two containers": {remoteJob(0, 0, 1, batchv1.JobFailed), []*corev1.Pod{pod("a", corev1.PodFailed, exit(143, 6, "late"), exit(1, 5, "first"))},
			v1alpha1.Result{ExitCode: ptr(int32(1)), Reason: "Error", Message: "first", PodName: "a"}},
		"init container": {remoteJob(0, 0, 1, batchv1.JobFailed), []*corev1.Pod{failedInit},
			v1alpha1.Result{ExitCode: ptr(int32(2)), Reason: "Error", Message: "init", PodName: "i"}},
		"out of memory": {remoteJob(0, 0, 1, batchv1.JobFailed), []*corev1.Pod{pod("a", corev1.PodFailed, oom)},
			v1alpha1.Result{ExitCode: ptr(int32(137)), Reason: "OOMKilled", PodName: "a"}},
		"evicted": {remoteJob(0, 0, 1, batchv1.JobFailed), []*corev1.Pod{evicted},
			v1alpha1.Result{Reason: "Evicted", Message: "the node was low on memory", PodName: "e"}},
		"the Pod is gone": {remoteJob(0, 0, 1, batchv1.JobFailed), nil,
			v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"no Pod ever ran": {remoteJob(0, 0, 0, batchv1.JobFailed), nil, v1alpha1.Result{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			expectResult(t, test.remote, test.pods, test.want)
			known := test.want.Reason != v1alpha1.ResultPodGone
			if got := ResultKnown(test.remote, test.pods); got != known {
				t.Errorf("ResultKnown = %v, want %v", got, known)
			}
		})
	}
}

func TestMessagesFitTheAPI(t *testing.T) {
	job := &v1alpha1.PooledJob{}
	observe(job, remoteJob(0, 0, 1, batchv1.JobFailed), pod("a", corev1.PodFailed, exit(1, 5, "\xff"+strings.Repeat("ü", 5000))))
	message := job.Status.Result.Message
	if len(message) > maxResultMessage || !utf8.ValidString(message) {
		t.Errorf("%d bytes, valid UTF-8 %v", len(message), utf8.ValidString(message))
	}
	other := &v1alpha1.PooledJob{}
	NewWriter(other, epoch).Waiting(v1alpha1.ReasonTargetError, strings.Repeat("x", 40000))
	if got := len(other.Status.Conditions[0].Message); got != maxConditionMessage {
		t.Errorf("condition message of %d bytes, want %d", got, maxConditionMessage)
	}
}

func TestOnceDispatchedAlwaysDispatched(t *testing.T) {
	job := &v1alpha1.PooledJob{}
	observe(job, remoteJob(0, 0, 0, ""))
	NewWriter(job, epoch).Waiting(v1alpha1.ReasonTargetError, "a late answer")
	if !Dispatched(&job.Status) {
		t.Error("Waiting took back that the remote Job exists")
	}
}

// The API server refuses a status that is a byte too long, and with it the end of the run.
func TestIndexesStayWithinTheirBound(t *testing.T) {
	for length := maxIndexes - 5; length <= maxIndexes+5; length++ {
		for comma := maxIndexes - 12; comma < length; comma++ {
			list := strings.Repeat("1", comma) + "," + strings.Repeat("2", length-comma-1)
			switch got := indexes(list); {
			case len(got) > maxIndexes:
				t.Fatalf("%d bytes with a comma at %d become %d", length, comma, len(got))
			case length <= maxIndexes && got != list:
				t.Fatalf("%d bytes are cut", length)
			case length > maxIndexes && got != list[:comma+1]+"..." && got != "...":
				t.Fatalf("%d bytes with a comma at %d end with %q", length, comma, got[max(0, len(got)-8):])
			}
		}
	}
}

// A condition that was another in between, in memory only, has not changed.
func TestTransitionsAreThoseThatWereWritten(t *testing.T) {
	job := &v1alpha1.PooledJob{}
	first, later := time.Unix(1000, 0), time.Unix(2000, 0)
	NewWriter(job, first).NotSynced(v1alpha1.ReasonTargetError, "no")
	before := job.Status.DeepCopy()
	w := NewWriter(job, later)
	w.Synced()
	w.NotSynced(v1alpha1.ReasonTargetError, "no")
	if !equality.Semantic.DeepEqual(before, &job.Status) {
		t.Errorf("%+v, want %+v", job.Status, before)
	}
}
