package jobstatus

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// waits returns a Pod of which a container waits, for the first reason, and so on.
func waits(name string, reasonsAndMessages ...string) *corev1.Pod {
	p := pod(name, corev1.PodPending)
	for i := 0; i+1 < len(reasonsAndMessages); i += 2 {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reasonsAndMessages[i], Message: reasonsAndMessages[i+1]}},
		})
	}
	return p
}

func initWaits(name, reason, message string) *corev1.Pod {
	p := waits(name, "PodInitializing", "")
	p.Status.InitContainerStatuses = waits(name, reason, message).Status.ContainerStatuses
	return p
}

// unscheduled returns Pod a, which the scheduler has something to say about.
func unscheduled(reason, message string) *corev1.Pod {
	p := pod("a", corev1.PodPending)
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason, Message: message}}
	return p
}

func beingDeleted(p *corev1.Pod) *corev1.Pod {
	p.DeletionTimestamp = ptr(at(5))
	return p
}

func TestResultSaysWhatAPodWaitsFor(t *testing.T) {
	scheduled := waits("a", "ErrImagePull", "no such image")
	scheduled.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady"}}
	crashing := waits("a", "CrashLoopBackOff", "back-off 10s")
	crashing.Status.Phase = corev1.PodRunning
	runs := pod("a", corev1.PodRunning)
	runs.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	gated := unscheduled(corev1.PodReasonSchedulingGated, "Scheduling is blocked")
	bad := v1alpha1.Result{Reason: "ErrImagePull", Message: "no such image", PodName: "a"}
	nothing := v1alpha1.Result{}
	tests := map[string]struct {
		pods []*corev1.Pod
		want v1alpha1.Result
	}{
		"no Pod yet":              {nil, nothing},
		"a Pod that is new":       {[]*corev1.Pod{pod("a", corev1.PodPending)}, nothing},
		"being created":           {[]*corev1.Pod{waits("a", "ContainerCreating", "")}, nothing},
		"being initialised":       {[]*corev1.Pod{waits("a", "PodInitializing", "")}, nothing},
		"a reason without words":  {[]*corev1.Pod{waits("a", "", "hm")}, nothing},
		"an image":                {[]*corev1.Pod{waits("a", "ErrImagePull", "no such image")}, bad},
		"an image, on its node":   {[]*corev1.Pod{scheduled}, bad},
		"configuration":           {[]*corev1.Pod{waits("a", "CreateContainerConfigError", `secret "s" not found`)}, v1alpha1.Result{Reason: "CreateContainerConfigError", Message: `secret "s" not found`, PodName: "a"}},
		"one container of two":    {[]*corev1.Pod{waits("a", "ContainerCreating", "", "ErrImagePull", "no such image")}, bad},
		"an init container first": {[]*corev1.Pod{initWaits("a", "ErrImagePull", "no such image")}, bad},
		"the next try":            {[]*corev1.Pod{crashing}, v1alpha1.Result{Reason: "CrashLoopBackOff", Message: "back-off 10s", PodName: "a"}},
		"a node":                  {[]*corev1.Pod{unscheduled("Unschedulable", "0/3 nodes")}, v1alpha1.Result{Reason: "Unschedulable", Message: "0/3 nodes", PodName: "a"}},
		"a gate":                  {[]*corev1.Pod{gated}, v1alpha1.Result{Reason: "SchedulingGated", Message: "Scheduling is blocked", PodName: "a"}},
		"nothing that has a name": {[]*corev1.Pod{unscheduled("", "?")}, nothing},
		"nothing: it runs":        {[]*corev1.Pod{runs}, nothing},
		"nothing: it is stopped":  {[]*corev1.Pod{beingDeleted(waits("a", "ErrImagePull", "no such image"))}, nothing},
		"the first by name":       {[]*corev1.Pod{waits("c", "ErrImagePull", "c"), waits("b", "ErrImagePull", "b"), pod("a", corev1.PodPending)}, v1alpha1.Result{Reason: "ErrImagePull", Message: "b", PodName: "b"}},
		"while others run":        {[]*corev1.Pod{runs, waits("b", "ErrImagePull", "no such image")}, v1alpha1.Result{Reason: "ErrImagePull", Message: "no such image", PodName: "b"}},
		"not one that has failed": {[]*corev1.Pod{failedWhileWaiting()}, nothing},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			job := &v1alpha1.PooledJob{}
			observe(job, remoteJob(1, 0, 0, ""), test.pods...)
			if diff := cmp.Diff(test.want, job.Status.Result); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if job.Status.Result.ExitCode != nil {
				t.Error("there is an exit code before the end")
			}
		})
	}
}

// failedWhileWaiting returns a Pod that was evicted before its container ran.
func failedWhileWaiting() *corev1.Pod {
	p := waits("a", "ErrImagePull", "no such image")
	p.Status.Phase = corev1.PodFailed
	return p
}

// What is said of a Pod stands as long as it is true: what only words of it change is
// not worth a write.
func TestWhatAPodWaitsForIsSaidOnce(t *testing.T) {
	pull := func(name, reason, message string) v1alpha1.Result {
		return v1alpha1.Result{Reason: reason, Message: message, PodName: name}
	}
	type step struct {
		pods []*corev1.Pod
		want v1alpha1.Result
	}
	tests := map[string][]step{
		"a back-off that grows": {
			{[]*corev1.Pod{waits("a", "ImagePullBackOff", "back-off 10s")}, pull("a", "ImagePullBackOff", "back-off 10s")},
			{[]*corev1.Pod{waits("a", "ImagePullBackOff", "back-off 20s")}, pull("a", "ImagePullBackOff", "back-off 10s")},
		},
		"to and fro": {
			{[]*corev1.Pod{waits("a", "ErrImagePull", "no such image")}, pull("a", "ErrImagePull", "no such image")},
			{[]*corev1.Pod{waits("a", "ImagePullBackOff", "back-off 10s")}, pull("a", "ErrImagePull", "no such image")},
			{[]*corev1.Pod{waits("a", "ErrImagePull", "no such image")}, pull("a", "ErrImagePull", "no such image")},
		},
		"another trouble is news": {
			{[]*corev1.Pod{unscheduled("Unschedulable", "0/3 nodes")}, pull("a", "Unschedulable", "0/3 nodes")},
			{[]*corev1.Pod{waits("a", "ImagePullBackOff", "back-off 10s")}, pull("a", "ImagePullBackOff", "back-off 10s")},
			{[]*corev1.Pod{waits("a", "CreateContainerConfigError", "no Secret")}, pull("a", "CreateContainerConfigError", "no Secret")},
		},
		"others in the same trouble are not": {
			{[]*corev1.Pod{waits("b", "ErrImagePull", "b")}, pull("b", "ErrImagePull", "b")},
			{[]*corev1.Pod{waits("a", "ErrImagePull", "a"), waits("b", "ImagePullBackOff", "b later")}, pull("b", "ErrImagePull", "b")},
			{[]*corev1.Pod{waits("a", "ErrImagePull", "a"), pod("b", corev1.PodRunning)}, pull("a", "ErrImagePull", "a")},
		},
		"it goes when the Pod runs": {
			{[]*corev1.Pod{waits("a", "ErrImagePull", "a")}, pull("a", "ErrImagePull", "a")},
			{[]*corev1.Pod{pod("a", corev1.PodRunning)}, v1alpha1.Result{}},
		},
		"it goes when the Pod is about to run": {
			{[]*corev1.Pod{unscheduled("Unschedulable", "0/3 nodes")}, pull("a", "Unschedulable", "0/3 nodes")},
			{[]*corev1.Pod{waits("a", "ContainerCreating", "")}, v1alpha1.Result{}},
		},
		"it goes with the next Pod": {
			{[]*corev1.Pod{waits("a", "ErrImagePull", "a")}, pull("a", "ErrImagePull", "a")},
			{[]*corev1.Pod{beingDeleted(waits("a", "ErrImagePull", "a")), pod("b", corev1.PodPending)}, v1alpha1.Result{}},
		},
		"it stays while the Pod is stopped": {
			{[]*corev1.Pod{waits("a", "ErrImagePull", "a")}, pull("a", "ErrImagePull", "a")},
			{[]*corev1.Pod{beingDeleted(waits("a", "ErrImagePull", "a"))}, pull("a", "ErrImagePull", "a")},
			{nil, pull("a", "ErrImagePull", "a")},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			job := &v1alpha1.PooledJob{}
			for i, step := range steps {
				observe(job, remoteJob(1, 0, 0, ""), step.pods...)
				if diff := cmp.Diff(step.want, job.Status.Result); diff != "" {
					t.Errorf("step %d: result (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

func TestWhatKeptAJobFromRunningStaysWhenItFails(t *testing.T) {
	waiting := v1alpha1.Result{Reason: "ImagePullBackOff", Message: "back-off", PodName: "a"}
	tests := map[string]struct {
		remote *batchv1.Job
		pods   []*corev1.Pod
		want   v1alpha1.Result
	}{
		"no Pod ever ended":                   {remoteJob(0, 0, 0, batchv1.JobFailed), nil, waiting},
		"no Pod ever ended, one is there yet": {remoteJob(0, 0, 0, batchv1.JobFailed), []*corev1.Pod{beingDeleted(waits("a", "ImagePullBackOff", "later"))}, waiting},
		"a Pod ended and tells":               {remoteJob(0, 0, 1, batchv1.JobFailed), []*corev1.Pod{pod("b", corev1.PodFailed, exit(3, 5, "boom"))}, v1alpha1.Result{ExitCode: ptr(int32(3)), Reason: "Error", Message: "boom", PodName: "b"}},
		"a Pod ended and is gone":             {remoteJob(0, 0, 1, batchv1.JobFailed), nil, v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"completed without Pods":              {remoteJob(0, 0, 0, batchv1.JobComplete), nil, v1alpha1.Result{}},
		"completed":                           {remoteJob(0, 1, 0, batchv1.JobComplete), []*corev1.Pod{pod("b", corev1.PodSucceeded, exit(0, 5, ""))}, v1alpha1.Result{ExitCode: ptr(int32(0)), Reason: "Completed", PodName: "b"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			job := &v1alpha1.PooledJob{}
			observe(job, remoteJob(1, 0, 0, ""), waits("a", "ImagePullBackOff", "back-off"))
			observe(job, test.remote, test.pods...)
			if diff := cmp.Diff(test.want, job.Status.Result); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

// A suspended Job has no Pods, and wants none: nothing keeps them from running.
func TestASuspendedRunWaitsForNothing(t *testing.T) {
	suspended := func(status corev1.ConditionStatus) *batchv1.Job {
		remote := remoteJob(1, 0, 0, "")
		remote.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: status}}
		return remote
	}
	job := &v1alpha1.PooledJob{}
	observe(job, remoteJob(1, 0, 0, ""), waits("a", "ErrImagePull", "a"))
	observe(job, suspended(corev1.ConditionTrue), waits("a", "ErrImagePull", "a"))
	if diff := cmp.Diff(v1alpha1.Result{}, job.Status.Result); diff != "" || job.Status.Phase != v1alpha1.PooledJobSuspended {
		t.Errorf("%s, result (-want +got):\n%s", job.Status.Phase, diff)
	}
	observe(job, suspended(corev1.ConditionFalse), waits("b", "ErrImagePull", "b"))
	if job.Status.Result.PodName != "b" || job.Status.Phase != v1alpha1.PooledJobPending {
		t.Errorf("resumed: %s, result %+v", job.Status.Phase, job.Status.Result)
	}
}

func TestAReasonIsOneWord(t *testing.T) {
	job := &v1alpha1.PooledJob{}
	observe(job, remoteJob(1, 0, 0, ""), waits("a", "Err\n\x1b[31m Pull", "a"))
	if got := job.Status.Result.Reason; got != "Err__[31m_Pull" {
		t.Errorf("reason %q", got)
	}
}

func TestWhatAPodWaitsForFitsTheAPI(t *testing.T) {
	for name, p := range map[string]*corev1.Pod{
		"container": waits("a", strings.Repeat("R", 9000), "\xff"+strings.Repeat("ü", 9000)),
		"scheduler": unscheduled(strings.Repeat("ü", 9000), strings.Repeat("m", 9000)),
	} {
		t.Run(name, func(t *testing.T) {
			job := &v1alpha1.PooledJob{}
			observe(job, remoteJob(1, 0, 0, ""), p)
			got := job.Status.Result
			if len(got.Reason) > maxResultReason || len(got.Message) > maxResultMessage || got.Reason == "" {
				t.Errorf("reason of %d bytes, message of %d", len(got.Reason), len(got.Message))
			}
			// A reason that was cut is the same reason.
			before := job.DeepCopy()
			p.Status.Message = "later"
			observe(job, remoteJob(1, 0, 0, ""), p)
			if diff := cmp.Diff(before, job); diff != "" {
				t.Errorf("a second look changed the status:\n%s", diff)
			}
		})
	}
}

// Counters of indexes are the Job's own; a list that is too long is cut between them.
func TestIndexesAreBounded(t *testing.T) {
	long := strings.Repeat("123,", 9000) + "9"
	tests := map[string]struct{ list, want string }{
		"none":          {"", ""},
		"some":          {"1,3-5,7", "1,3-5,7"},
		"as many as":    {long[:maxIndexes], long[:maxIndexes]},
		"too many":      {long, long[:maxIndexes-4] + "..."},
		"no such thing": {strings.Repeat("9", maxIndexes+1), "..."},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			remote := remoteJob(1, 0, 0, "")
			remote.Status.CompletedIndexes, remote.Status.FailedIndexes = test.list, &test.list
			job := &v1alpha1.PooledJob{}
			observe(job, remote)
			for _, got := range []string{job.Status.CompletedIndexes, job.Status.FailedIndexes} {
				if got != test.want {
					t.Errorf("%d bytes that end in %q, want %d that end in %q", len(got), tail(got), len(test.want), tail(test.want))
				}
			}
		})
	}
}

func tail(s string) string { return s[max(0, len(s)-12):] }

// Wherever the commas are, what is left of a list fits.
func TestIndexesAreCutToFit(t *testing.T) {
	for shift := range 8 {
		list := strings.Repeat("1", shift) + "," + strings.Repeat("234567,", 9000)
		if got := indexes(list); len(got) > maxIndexes || len(got) < maxIndexes-16 {
			t.Errorf("shifted by %d: cut to %d bytes, of at most %d", shift, len(got), maxIndexes)
		}
	}
}
