package jobstatus

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// change is something about a Job or a Pod.
type change[T any] func(T)

// failedJob returns a Job that failed for a reason, after the changes.
func failedJob(reason string, failed int32, changes ...change[*batchv1.Job]) *batchv1.Job {
	job := remoteJob(0, 0, failed, batchv1.JobFailed)
	Verdict(job).Reason = reason
	for _, c := range changes {
		c(job)
	}
	return job
}

func limit(n int32) change[*batchv1.Job] { return func(j *batchv1.Job) { j.Spec.BackoffLimit = &n } }

func words(message string) change[*batchv1.Job] {
	return func(j *batchv1.Job) { Verdict(j).Message = message }
}

// onCode adds a rule to the Job's podFailurePolicy.
func onCode(action batchv1.PodFailurePolicyAction, codes ...int32) change[*batchv1.Job] {
	return func(j *batchv1.Job) {
		if j.Spec.PodFailurePolicy == nil {
			j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{}
		}
		j.Spec.PodFailurePolicy.Rules = append(j.Spec.PodFailurePolicy.Rules, batchv1.PodFailurePolicyRule{
			Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: codes},
		})
	}
}

// with returns a Pod after the changes.
func with(p *corev1.Pod, changes ...change[*corev1.Pod]) *corev1.Pod {
	for _, c := range changes {
		c(p)
	}
	return p
}

// fails returns a Pod that failed with an exit code.
func fails(name string, code int32, second int, changes ...change[*corev1.Pod]) *corev1.Pod {
	return with(pod(name, corev1.PodFailed, exit(code, second, "")), changes...)
}

func index(n int) change[*corev1.Pod] {
	return func(p *corev1.Pod) {
		metav1.SetMetaDataAnnotation(&p.ObjectMeta, batchv1.JobCompletionIndexAnnotation, fmt.Sprint(n))
	}
}

// stopped: the deletion of the Pod was asked for in that second, and the Job controller was
// still to count it.
func stopped(second int) change[*corev1.Pod] {
	return func(p *corev1.Pod) {
		grace := int64(30)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr(at(second+30)), &grace
		p.Finalizers = []string{batchv1.JobTrackingFinalizer}
	}
}

// letGo: the Job controller had let the Pod go before it was deleted.
func letGo(second int) change[*corev1.Pod] {
	return func(p *corev1.Pod) {
		stopped(second)(p)
		p.Finalizers = nil
	}
}

func disrupted(reason, message string) change[*corev1.Pod] {
	return func(p *corev1.Pod) {
		when := at(5)
		if asked, ok := deletionAsked(p); ok {
			when = metav1.NewTime(asked)
		}
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: when,
		})
	}
}

// sidecar adds a sidecar that ended so.
func sidecar(end corev1.ContainerStateTerminated) change[*corev1.Pod] {
	return func(p *corev1.Pod) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "sidecar", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways)})
		p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses,
			corev1.ContainerStatus{Name: "sidecar", RestartCount: 3, State: corev1.ContainerState{Terminated: &end}})
	}
}

// before adds how the container ended before it was started again.
func before(code int32, second int) change[*corev1.Pod] {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses[0].RestartCount++
		p.Status.ContainerStatuses[0].LastTerminationState.Terminated = ptr(exit(code, second, ""))
		if now := p.Status.ContainerStatuses[0].State.Terminated; now != nil {
			now.StartedAt = at(second)
		}
	}
}

// decided has the Job controller decide in a second, and the Job fail two seconds later.
func decided(second int) change[*batchv1.Job] {
	return func(j *batchv1.Job) {
		Verdict(j).LastTransitionTime = at(second + 2)
		j.Status.Conditions = append(j.Status.Conditions, batchv1.JobCondition{
			Type: batchv1.JobFailureTarget, Status: corev1.ConditionTrue, LastTransitionTime: at(second),
		})
	}
}

func onFailure(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }

// neverRan: the kubelet made up how the container ended.
func neverRan(p *corev1.Pod) {
	p.Status.ContainerStatuses[0].State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "ContainerStatusUnknown", Message: "could not be located"}
}

func says(code int32, reason, podName string, message ...string) v1alpha1.Result {
	result := v1alpha1.Result{ExitCode: &code, Reason: reason, PodName: podName}
	if len(message) > 0 {
		result.Message = message[0]
	}
	return result
}

// endedJob is a Job that has ended with its Pods, and the result that it must have.
type endedJob struct {
	job  *batchv1.Job
	pods []*corev1.Pod
	want v1alpha1.Result
}

func expectResults(t *testing.T, tests map[string]endedJob) {
	t.Helper()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			expectResult(t, test.job, test.pods, test.want)
		})
	}
}

func expectResult(t *testing.T, remote *batchv1.Job, pods []*corev1.Pod, want v1alpha1.Result) {
	t.Helper()
	job := &v1alpha1.PooledJob{}
	observe(job, remote, pods...)
	if diff := cmp.Diff(want, job.Status.Result); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}

func TestWhoSpeaksForARunThatFailed(t *testing.T) {
	const (
		exceeded = batchv1.JobReasonBackoffLimitExceeded
		policy   = batchv1.JobReasonPodFailurePolicy
		indexes  = batchv1.JobReasonMaxFailedIndexesExceeded
		failJob  = batchv1.PodFailurePolicyActionFailJob
		ignore   = batchv1.PodFailurePolicyActionIgnore
		evicted  = "EvictionByEvictionAPI"
	)
	lost := exit(0, 0, "")
	lost.FinishedAt = metav1.Time{}
	perIndex := func(j *batchv1.Job) { j.Spec.MaxFailedIndexes, j.Status.FailedIndexes = ptr(int32(0)), ptr("0,1") }
	rejected := with(pod("a", corev1.PodFailed), func(p *corev1.Pod) {
		p.Status.Reason, p.Status.Message, p.Status.StartTime = "OutOfcpu", "Pod was rejected", ptr(at(7))
	})
	foreign := fails("by-hand", 77, 2)
	foreign.OwnerReferences = nil
	otherJobs := fails("other", 78, 2)
	otherJobs.OwnerReferences[0].UID = "another-job"
	twoContainers := pod("a", corev1.PodFailed, exit(4, 5, "by name"), exit(6, 5, "by spec"))
	twoContainers.Spec.Containers = []corev1.Container{{Name: "c1"}, {Name: "c0"}}
	expectResults(t, map[string]endedJob{
		"a sidecar is stopped with the Pod": {failedJob(exceeded, 1), []*corev1.Pod{fails("a", 3, 5, sidecar(exit(143, 5, "")))}, says(3, "Error", "a")},
		"a sidecar crashes before":          {failedJob(exceeded, 1), []*corev1.Pod{fails("a", 3, 5, sidecar(exit(137, 2, "")))}, says(3, "Error", "a")},
		"a sidecar has no time of its end":  {failedJob(exceeded, 1), []*corev1.Pod{fails("a", 3, 5, sidecar(lost))}, says(3, "Error", "a")},
		"an ignored failure does not count": {failedJob(exceeded, 1, onCode(ignore, 42)), []*corev1.Pod{fails("a", 42, 2), fails("b", 3, 5)}, says(3, "Error", "b")},
		"a policy fails the Job": {failedJob(policy, 2, onCode(failJob, 42), words("Container c0 for pod etl/a failed with exit code 42 matching FailJob rule at index 0")),
			[]*corev1.Pod{fails("a", 42, 5), fails("b", 7, 5, stopped(5))}, says(42, "Error", "a")},
		"a policy matches a sidecar": {failedJob(policy, 1, onCode(failJob, 42), words("Container sidecar for pod etl/a failed with exit code 42 matching FailJob rule at index 0")),
			[]*corev1.Pod{fails("a", 3, 5, sidecar(exit(42, 4, "")))}, says(42, "Error", "a")},
		"a policy, in other words": {failedJob(policy, 2, onCode(failJob, 42), words("Rule 0 says so")),
			[]*corev1.Pod{fails("a", 7, 4, stopped(4)), fails("b", 42, 5)}, says(42, "Error", "b")},
		"a policy, in words that are wrong": {failedJob(policy, 2, onCode(failJob, 42), words("Container c0 for pod etl/a failed with exit code 42 matching FailJob rule at index 0")),
			[]*corev1.Pod{fails("a", 7, 4), fails("b", 42, 5)}, says(42, "Error", "b")},
		"a policy, by a condition": {failedJob(policy, 1, words("Pod etl/a has condition DisruptionTarget matching FailJob rule at index 0")),
			[]*corev1.Pod{fails("a", 143, 5, stopped(5), disrupted(evicted, "drained"))}, says(143, evicted, "a", "drained")},
		"a policy, the Pod is gone": {failedJob(policy, 1, words("Container c0 for pod etl/run-1-x failed with exit code 42 matching FailJob rule at index 0")), nil,
			says(42, "Error", "run-1-x", "Container c0 for pod etl/run-1-x failed with exit code 42 matching FailJob rule at index 0")},
		"a policy, words about another Pod": {failedJob(policy, 1, words("Container c0 for pod etl/payroll failed with exit code 42 matching FailJob rule at index 0")), nil,
			v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"too many indexes failed":    {failedJob(indexes, 2, perIndex, decided(5)), []*corev1.Pod{fails("a", 42, 5, index(0)), fails("b", 7, 5, index(1), stopped(5))}, says(42, "Error", "a")},
		"an index failed first":      {failedJob(batchv1.JobReasonFailedIndexes, 2, perIndex), []*corev1.Pod{fails("a", 42, 9, index(0)), fails("b", 7, 5, index(1))}, says(7, "Error", "b")},
		"a restart was one too many": {failedJob(exceeded, 1, onFailure, decided(6)), []*corev1.Pod{fails("a", 143, 9, stopped(6), before(5, 6))}, says(5, "Error", "a")},
		"restarts of two Pods": {failedJob(exceeded, 2, onFailure, limit(2), decided(7)),
			[]*corev1.Pod{fails("a", 143, 9, stopped(7), before(5, 6)), fails("b", 143, 9, stopped(7), before(6, 7))}, says(6, "Error", "b")},
		"restarts in one second": {failedJob(exceeded, 2, onFailure, decided(7)),
			[]*corev1.Pod{fails("a", 143, 9, stopped(7), before(5, 6)), fails("b", 143, 9, stopped(7), before(6, 6))},
			v1alpha1.Result{Reason: v1alpha1.ResultAmbiguous, Message: "It is not known which of several failures made the Job fail: a (exit code 5), b (exit code 6)."}},
		"suspended while it ran": {failedJob(exceeded, 1), []*corev1.Pod{fails("a", 143, 3, letGo(2)), fails("b", 3, 5)}, says(3, "Error", "b")},
		"two Pods cannot be told apart": {failedJob(exceeded, 2), []*corev1.Pod{fails("a", 5, 5), fails("b", 3, 5)},
			v1alpha1.Result{Reason: v1alpha1.ResultAmbiguous, Message: "It is not known which of several failures made the Job fail: a (exit code 5), b (exit code 3)."}},
		"two Pods ended alike":        {failedJob(exceeded, 2), []*corev1.Pod{fails("a", 3, 5), fails("b", 3, 5)}, says(3, "Error", "a")},
		"evicted by the API":          {failedJob(exceeded, 1), []*corev1.Pod{fails("a", 143, 5, stopped(4), disrupted(evicted, "Eviction API: evicting"))}, says(143, evicted, "a", "Eviction API: evicting")},
		"preempted before it ran":     {failedJob(exceeded, 1), []*corev1.Pod{with(pod("a", corev1.PodFailed), stopped(4), disrupted("PreemptionByScheduler", "preempting"))}, v1alpha1.Result{Reason: "PreemptionByScheduler", Message: "preempting", PodName: "a"}},
		"disrupted, and its peers":    {failedJob(exceeded, 2, decided(4)), []*corev1.Pod{fails("a", 143, 6, stopped(4)), fails("b", 137, 6, stopped(4), disrupted(evicted, "drained"))}, says(137, evicted, "b", "drained")},
		"deleted by hand":             {failedJob(exceeded, 1), []*corev1.Pod{fails("a", 143, 5, stopped(4))}, says(143, "Error", "a")},
		"deleted by hand, ends well":  {failedJob(exceeded, 1), []*corev1.Pod{with(pod("a", corev1.PodSucceeded, exit(0, 5, "")), stopped(4))}, says(0, "Completed", "a")},
		"deleted by hand, then fails": {failedJob(exceeded, 2, limit(1), decided(9)), []*corev1.Pod{fails("a", 143, 5, stopped(4)), fails("b", 3, 9)}, says(3, "Error", "b")},
		"rejected by the kubelet":     {failedJob(exceeded, 2, limit(1)), []*corev1.Pod{rejected, fails("b", 3, 5)}, v1alpha1.Result{Reason: "OutOfcpu", Message: "Pod was rejected", PodName: "a"}},
		"never ran":                   {failedJob(exceeded, 1), []*corev1.Pod{fails("a", 0, 5, neverRan)}, v1alpha1.Result{Reason: "ContainerStatusUnknown", Message: "could not be located", PodName: "a"}},
		"a Pod that is nobody's":      {failedJob(exceeded, 1), []*corev1.Pod{foreign, otherJobs, fails("a", 3, 5)}, says(3, "Error", "a")},
		"only a Pod that is nobody's": {failedJob(exceeded, 1), []*corev1.Pod{foreign}, v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"containers of one second":    {failedJob(exceeded, 1), []*corev1.Pod{twoContainers}, says(6, "Error", "a", "by spec")},
		"the one too many is gone":    {failedJob(exceeded, 3, limit(2)), []*corev1.Pod{fails("a", 3, 5), fails("b", 4, 6)}, v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"a limit that cannot be":      {failedJob(exceeded, 1, limit(-5)), []*corev1.Pod{fails("a", 3, 5)}, says(3, "Error", "a")},
		"stopped by its deadline":     {failedJob(batchv1.JobReasonDeadlineExceeded, 1), []*corev1.Pod{fails("a", 143, 5, stopped(4))}, says(143, v1alpha1.ResultDeadlineExceeded, "a")},
		"several stopped, alike":      {failedJob(batchv1.JobReasonDeadlineExceeded, 2), []*corev1.Pod{fails("a", 143, 5, stopped(4)), fails("b", 143, 5, stopped(4))}, says(143, v1alpha1.ResultDeadlineExceeded, "")},
		"several stopped, not alike": {failedJob(batchv1.JobReasonDeadlineExceeded, 2), []*corev1.Pod{fails("a", 143, 5, stopped(4)), fails("b", 7, 5, stopped(4))},
			v1alpha1.Result{Reason: v1alpha1.ResultDeadlineExceeded, Message: "The Pods that were stopped ended differently: a (exit code 143), b (exit code 7)."}},
		"a restart, beside a crash loop": {failedJob(exceeded, 2, onFailure, limit(2), decided(6)),
			[]*corev1.Pod{fails("a", 5, 3, stopped(6), before(5, 2)), fails("b", 143, 9, stopped(6), before(3, 6))}, says(3, "Error", "b")},
		"a restart, and a Pod that got over its own": {failedJob(exceeded, 1, onFailure, decided(6)),
			[]*corev1.Pod{with(pod("a", corev1.PodSucceeded, exit(0, 8, "")), before(7, 7)), fails("b", 143, 9, stopped(6), before(3, 2))}, says(3, "Error", "b")},
		"one container ended well, one never ran": {failedJob(exceeded, 1),
			[]*corev1.Pod{with(pod("a", corev1.PodFailed, exit(0, 5, ""), exit(0, 5, "")), neverRan)}, v1alpha1.Result{Reason: "ContainerStatusUnknown", Message: "could not be located", PodName: "a"}},
		"one container had ended, one was stopped": {failedJob(batchv1.JobReasonDeadlineExceeded, 1),
			[]*corev1.Pod{with(pod("a", corev1.PodFailed, exit(5, 2, ""), exit(143, 6, "")), stopped(5))}, says(143, v1alpha1.ResultDeadlineExceeded, "a")},
		"evicted before, stopped now": {failedJob(batchv1.JobReasonDeadlineExceeded, 2),
			[]*corev1.Pod{fails("a", 143, 5, stopped(5), disrupted(evicted, "drained")), fails("b", 9, 8, stopped(8))}, says(9, v1alpha1.ResultDeadlineExceeded, "b")},
		"stopped, and some are gone": {failedJob(batchv1.JobReasonDeadlineExceeded, 3), []*corev1.Pod{fails("a", 143, 5, stopped(4))},
			v1alpha1.Result{Reason: v1alpha1.ResultDeadlineExceeded, Message: "Pods that the Job counted are gone, and how they ended is not known."}},
		"one of two that may have decided is gone": {failedJob(exceeded, 3, limit(1)), []*corev1.Pod{fails("b", 2, 5), fails("c", 3, 6)}, v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"cleaned up after its end":                 {failedJob(exceeded, 2, decided(5)), []*corev1.Pod{fails("a", 3, 5, stopped(50)), fails("b", 143, 5, stopped(5))}, says(3, "Error", "a")},
		"a policy, by a condition that is not there": {failedJob(policy, 1, words("Pod etl/a has condition DisruptionTarget matching FailJob rule at index 0")),
			[]*corev1.Pod{fails("a", 3, 5)}, v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"an end without a time": {failedJob(exceeded, 1), []*corev1.Pod{with(pod("a", corev1.PodFailed, exit(9, 5, ""), exit(3, 5, "")), func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.Time{}
		})}, says(3, "Error", "a")},
		"indexes, a bound that cannot be": {failedJob(indexes, 1, func(j *batchv1.Job) { j.Spec.MaxFailedIndexes = ptr(int32(-1)) }), []*corev1.Pod{fails("a", 3, 5, index(0))}, says(3, "Error", "a")},
		"one was stopped, one had no node": {failedJob(batchv1.JobReasonDeadlineExceeded, 2), []*corev1.Pod{fails("b", 143, 9, stopped(5)), with(unscheduled("Unschedulable", "0/3 nodes"), stopped(5))},
			says(143, v1alpha1.ResultDeadlineExceeded, "b")},
		"deleted by hand before it had a node": {failedJob(exceeded, 1), []*corev1.Pod{with(unscheduled("Unschedulable", "0/3 nodes"), stopped(5))},
			v1alpha1.Result{Reason: v1alpha1.ResultPodGone, Message: "The Pod was deleted before it was scheduled.", PodName: "a"}},
		"failed, and its peer had no node yet": {failedJob(exceeded, 2, decided(5)), []*corev1.Pod{fails("b", 3, 5), with(unscheduled("Unschedulable", "0/3 nodes"), stopped(5))}, says(3, "Error", "b")},
		"between two tries":                    {failedJob(batchv1.JobReasonDeadlineExceeded, 1, limit(3)), []*corev1.Pod{fails("a", 3, 2)}, v1alpha1.Result{Reason: v1alpha1.ResultDeadlineExceeded}},
	})
}

// What somebody knows who reads the Job controller: what it kills it had not counted, and what has no
// end has no place in the order of ends.
func TestWhatTheJobControllerKillsDoesNotDecide(t *testing.T) {
	const (
		exceeded = batchv1.JobReasonBackoffLimitExceeded
		deadline = batchv1.JobReasonDeadlineExceeded
		policy   = batchv1.JobReasonPodFailurePolicy
		evicted  = "EvictionByEvictionAPI"
	)
	began := func(second int) change[*corev1.Pod] {
		return func(p *corev1.Pod) { p.Status.StartTime = ptr(at(second)) }
	}
	stuck := func(changes ...change[*corev1.Pod]) *corev1.Pod {
		return with(fails("stuck", 0, 0, neverRan, began(1)), changes...)
	}
	afterInit := func(p *corev1.Pod) {
		p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "init", State: corev1.ContainerState{Terminated: ptr(exit(0, 5, ""))}}}
		p.Spec.InitContainers = []corev1.Container{{Name: "init"}}
	}
	outOfTime := func(p *corev1.Pod) { p.Status.Reason, p.Status.Message = "DeadlineExceeded", "Pod was active too long" }
	nowhere := with(unscheduled("Unschedulable", "0/3 nodes"), stopped(21))
	nowhere.Name = "nowhere"
	sidecarAgain := func(p *corev1.Pod) {
		sidecar(exit(143, 29, ""))(p)
		p.Status.InitContainerStatuses[0].RestartCount = 1
		p.Status.InitContainerStatuses[0].State.Terminated.StartedAt = at(20)
		p.Status.InitContainerStatuses[0].LastTerminationState.Terminated = ptr(exit(1, 20, ""))
	}
	drainedAt := func(second int) change[*corev1.Pod] {
		return func(p *corev1.Pod) {
			disrupted("DeletionByTaintManager", "drained")(p)
			p.Status.Conditions[0].LastTransitionTime = at(second)
		}
	}
	ignoresDisruptions := func(j *batchv1.Job) {
		j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			Action:          batchv1.PodFailurePolicyActionIgnore,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
		}}}
	}
	perIndex := func(j *batchv1.Job) {
		j.Spec.BackoffLimitPerIndex, j.Spec.MaxFailedIndexes, j.Status.FailedIndexes = ptr(int32(1)), ptr(int32(0)), ptr("0")
	}
	unknown := func(list string) v1alpha1.Result {
		return v1alpha1.Result{Reason: v1alpha1.ResultAmbiguous, Message: "It is not known which of several failures made the Job fail: " + list + "."}
	}
	expectResults(t, map[string]endedJob{
		"a peer had no image": {failedJob(exceeded, 3, limit(1), decided(31)),
			[]*corev1.Pod{fails("a", 3, 10), fails("b", 4, 30), stuck(stopped(31))}, says(4, "Error", "b")},
		"a peer had no image, and no failure is allowed": {failedJob(exceeded, 2, decided(11)),
			[]*corev1.Pod{fails("a", 3, 10), stuck(stopped(11))}, says(3, "Error", "a")},
		"a peer was past its init container": {failedJob(exceeded, 2, decided(11)),
			[]*corev1.Pod{fails("a", 4, 10), stuck(afterInit, stopped(11))}, says(4, "Error", "a")},
		"a Pod failed before it ran, and when is not known": {failedJob(exceeded, 2, limit(1), decided(61)),
			[]*corev1.Pod{fails("a", 3, 10), stuck(outOfTime)}, unknown("a (exit code 3), stuck (exit code none)")},
		"a Pod had ended, which the Job controller did not know": {failedJob(exceeded, 2, decided(7)),
			[]*corev1.Pod{fails("a", 3, 5, stopped(7)), fails("b", 4, 6)}, unknown("b (exit code 4), a (exit code 3)")},
		"it is deleted by hand, and its peer is killed for that": {failedJob(exceeded, 2, decided(7)),
			[]*corev1.Pod{fails("a", 143, 9, stopped(6)), fails("b", 137, 9, stopped(7))}, says(143, "Error", "a")},
		"told to stop, it succeeds, and counts as that": {failedJob(exceeded, 2, limit(1), decided(25)),
			[]*corev1.Pod{with(pod("h", corev1.PodSucceeded, exit(0, 5, "")), stopped(5)), fails("a", 3, 10), fails("b", 4, 25)}, says(4, "Error", "b")},
		"told to stop, it succeeds, and counts as failed": {failedJob(exceeded, 2, limit(1), decided(10)),
			[]*corev1.Pod{with(pod("h", corev1.PodSucceeded, exit(0, 5, "")), stopped(4)), fails("a", 3, 10)}, says(3, "Error", "a")},
		"more failed than the Job counted": {failedJob(exceeded, 2, limit(1), decided(25)),
			[]*corev1.Pod{fails("a", 3, 5), fails("b", 4, 10), fails("c", 5, 25)}, unknown("b (exit code 4), c (exit code 5)")},
		"no node, and Pods count when they have ended": {failedJob(exceeded, 3, limit(1), onCode(batchv1.PodFailurePolicyActionFailJob, 42), decided(21)),
			[]*corev1.Pod{fails("a", 3, 5), fails("b", 4, 20), nowhere}, says(4, "Error", "b")},
		"no node, no time, and Pods count when they have ended": {failedJob(deadline, 2, onCode(batchv1.PodFailurePolicyActionFailJob, 42), decided(21)),
			[]*corev1.Pod{fails("a", 143, 25, stopped(21)), nowhere}, says(143, deadline, "a")},
		"a killed Pod ends as an Ignore rule says": {failedJob(deadline, 1, onCode(batchv1.PodFailurePolicyActionIgnore, 143), decided(21)),
			[]*corev1.Pod{fails("a", 143, 25, stopped(21))}, says(143, deadline, "a")},
		"a FailJob rule matches what the kubelet made up": {failedJob(policy, 1, onCode(batchv1.PodFailurePolicyActionFailJob, 137),
			words("Container c0 for pod etl/stuck failed with exit code 137 matching FailJob rule at index 0")),
			[]*corev1.Pod{stuck()}, v1alpha1.Result{Reason: "ContainerStatusUnknown", Message: "could not be located", PodName: "stuck"}},
		"evictions, not restarts": {failedJob(exceeded, 3, onFailure, limit(2), decided(90)), []*corev1.Pod{
			fails("a", 143, 11, stopped(10), disrupted(evicted, "drained"), before(5, 3)),
			fails("b", 143, 51, stopped(50), disrupted(evicted, "drained")),
			fails("c", 137, 91, stopped(90), disrupted(evicted, "drained"))}, says(137, evicted, "c", "drained")},
		"a restart of a sidecar": {failedJob(exceeded, 1, onFailure, limit(2), decided(20)),
			[]*corev1.Pod{fails("a", 143, 29, stopped(20), before(5, 10), sidecarAgain)}, says(1, "Error", "a")},
		"restarts, one of which is not known": {failedJob(exceeded, 2, onFailure, limit(2), decided(20)),
			[]*corev1.Pod{fails("a", 143, 29, stopped(20), before(5, 10)), fails("b", 143, 29, stopped(20), func(p *corev1.Pod) { p.Status.ContainerStatuses[0].RestartCount = 1 })},
			v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"restarts, and a Pod is gone": {failedJob(exceeded, 2, onFailure, limit(1), decided(20)),
			[]*corev1.Pod{fails("a", 143, 29, stopped(20), before(5, 10))}, v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"more restarts than one too many": {failedJob(exceeded, 2, onFailure, limit(1), decided(20)),
			[]*corev1.Pod{fails("a", 143, 29, stopped(20), before(5, 10)), fails("b", 143, 29, stopped(20), before(6, 19))},
			unknown("a (exit code 5), b (exit code 6)")},
		"the last Pod of an index is gone": {failedJob(batchv1.JobReasonMaxFailedIndexesExceeded, 2, perIndex, decided(20)),
			[]*corev1.Pod{fails("a", 3, 5, index(0))}, v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"one is gone that may have decided long after": {failedJob(exceeded, 2, decided(60)),
			[]*corev1.Pod{fails("a", 3, 5)}, v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"one that was killed is gone": {failedJob(exceeded, 2, decided(6)), []*corev1.Pod{fails("a", 3, 5)}, says(3, "Error", "a")},
		"a counted Pod is deleted by a script before the Job has failed": {failedJob(exceeded, 3, limit(1), decided(10)),
			[]*corev1.Pod{fails("s", 7, 3, stopped(12)), fails("a", 3, 10), fails("b", 143, 14, stopped(10))}, unknown("a (exit code 3), s (exit code 7)")},
		"a controller that does not say when it decided": {failedJob(exceeded, 3, limit(1), func(j *batchv1.Job) { Verdict(j).LastTransitionTime = at(11) }),
			[]*corev1.Pod{fails("h", 143, 5, stopped(4)), fails("a", 3, 10), fails("c", 5, 11)}, unknown("a (exit code 3), c (exit code 5), h (exit code 143)")},
		"clocks that differ": {failedJob(exceeded, 2, decided(10)),
			[]*corev1.Pod{fails("a", 3, 10), fails("b", 143, 12, stopped(7))}, unknown("a (exit code 3), b (exit code 143)")},
		"restarts in a Pod that was being deleted": {failedJob(exceeded, 2, onFailure, limit(2), decided(20)),
			[]*corev1.Pod{fails("h", 137, 40, stopped(18), before(5, 10)), fails("b", 143, 22, stopped(20), before(6, 20))}, says(6, "Error", "b")},
		"restarts that are not known": {failedJob(exceeded, 1, onFailure, limit(2), decided(20)),
			[]*corev1.Pod{fails("h", 137, 15, stopped(14))}, v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"more restarts of one container than one too many": {failedJob(exceeded, 1, onFailure, limit(1), decided(18)),
			[]*corev1.Pod{fails("a", 143, 19, stopped(18), before(6, 14), func(p *corev1.Pod) { p.Status.ContainerStatuses[0].RestartCount = 2 })},
			v1alpha1.Result{Reason: v1alpha1.ResultPodGone}},
		"a restart that could not start": {failedJob(exceeded, 2, onFailure, limit(2), decided(20)), []*corev1.Pod{
			fails("a", 143, 22, stopped(20), before(5, 12)),
			fails("b", 128, 20, stopped(20), before(6, 19), func(p *corev1.Pod) {
				p.Status.ContainerStatuses[0].State.Terminated.StartedAt = metav1.Unix(0, 0)
			})}, says(6, "Error", "b")},
		"drained after it was killed": {failedJob(deadline, 2, decided(20)), []*corev1.Pod{fails("c", 143, 21, stopped(20)), fails("b", 137, 50, stopped(20), drainedAt(25))},
			v1alpha1.Result{Reason: deadline, Message: "The Pods that were stopped ended differently: c (exit code 143), b (exit code 137)."}},
		"drained after it had failed": {failedJob(exceeded, 2, limit(1), ignoresDisruptions, decided(100)),
			[]*corev1.Pod{fails("a", 3, 5, drainedAt(60)), fails("b", 4, 100)}, says(4, "Error", "b")},
		"failed before its main container could run": {failedJob(exceeded, 3, limit(2), decided(20)), []*corev1.Pod{
			with(pod("a", corev1.PodFailed), func(p *corev1.Pod) {
				afterInit(p)
				p.Status.InitContainerStatuses[0].State.Terminated.ExitCode = 1
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c0", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}}}}
			}), fails("b", 3, 10), fails("c", 4, 20)}, says(4, "Error", "c")},
		"evicted while a container was to be started again": {failedJob(exceeded, 1, decided(9)), []*corev1.Pod{with(pod("a", corev1.PodFailed, exit(42, 4, ""), exit(143, 9, "")),
			func(p *corev1.Pod) { p.Status.ContainerStatuses[0].RestartCount = 2 }, stopped(5), disrupted(evicted, "drained"))}, says(143, evicted, "a", "drained")},
	})
}

func TestWhoSpeaksForARunThatSucceeded(t *testing.T) {
	succeeds := func(name string, second int, changes ...change[*corev1.Pod]) *corev1.Pod {
		return with(pod(name, corev1.PodSucceeded, exit(0, second, name)), changes...)
	}
	twoContainers := pod("a", corev1.PodSucceeded, exit(0, 5, "first by name"), exit(0, 5, "first by spec"))
	twoContainers.Spec.Containers = []corev1.Container{{Name: "c1"}, {Name: "c0"}}
	byPolicy := remoteJob(0, 2, 0, batchv1.JobComplete)
	byPolicy.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr("0,2-3")}}}
	Verdict(byPolicy).Reason, Verdict(byPolicy).Message = batchv1.JobReasonSuccessPolicy, "Matched rules at index 0"
	expectResults(t, map[string]endedJob{
		"the first container of the spec": {remoteJob(0, 1, 0, batchv1.JobComplete), []*corev1.Pod{twoContainers}, says(0, "Completed", "a", "first by spec")},
		"an index of the successPolicy":   {byPolicy, []*corev1.Pod{succeeds("a", 5, index(3)), succeeds("b", 6, index(1))}, says(0, "Completed", "a", "a")},
		"a Pod is stopped after enough Pods have succeeded": {remoteJob(0, 1, 0, batchv1.JobComplete),
			[]*corev1.Pod{succeeds("a", 5), succeeds("b", 7, stopped(6))}, says(0, "Completed", "a", "a")},
		"no completions, failures before": {remoteJob(0, 0, 1, batchv1.JobComplete), nil, v1alpha1.Result{}},
	})
}

// What a Pod waited for stays when the Job ends, whatever became of the Pods before.
func TestWhatTheLastPodWaitedForStays(t *testing.T) {
	job := &v1alpha1.PooledJob{}
	first := fails("a", 3, 2)
	waiting := unscheduled("Unschedulable", "0/3 nodes")
	waiting.Name = "b"
	observe(job, remoteJob(1, 0, 1, ""), first, waiting)
	waiting.DeletionTimestamp = ptr(at(5))
	observe(job, remoteJob(0, 0, 2, ""), first, waiting)
	observe(job, failedJob(batchv1.JobReasonDeadlineExceeded, 2, limit(3)), first)
	if got := job.Status.Result; got.Reason != "Unschedulable" || got.ExitCode != nil {
		t.Errorf("result %+v", got)
	}
}

// BenchmarkManyPods judges a Job of 10,000 failed Pods: it must grow as they do, not as their
// square, for each of their events is looked at.
func BenchmarkManyPods(b *testing.B) {
	job := failedJob(batchv1.JobReasonBackoffLimitExceeded, 10_000, onCode(batchv1.PodFailurePolicyActionIgnore, 42))
	var pods []*corev1.Pod
	for n := range 10_000 {
		p := fails(fmt.Sprint(n), 3, 5)
		p.UID = types.UID(p.Name)
		pods = append(pods, p)
	}
	for b.Loop() {
		ResultKnown(job, pods)
	}
}

// A run that never ran says until the end what it waited for.
func TestWhatNeverRanHasNoExitCode(t *testing.T) {
	for _, cancel := range []bool{false, true} {
		job := &v1alpha1.PooledJob{Spec: v1alpha1.PooledJobSpec{Cancel: &cancel}}
		remote := failedJob(batchv1.JobReasonDeadlineExceeded, 1, func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = new(int64) })
		waiting := remoteJob(1, 0, 0, "")
		observe(job, waiting, waits("a", "ImagePullBackOff", "no such image"))
		observe(job, remote, fails("a", 0, 5, neverRan, stopped(4)))
		if diff := cmp.Diff(v1alpha1.Result{Reason: "ImagePullBackOff", Message: "no such image", PodName: "a"}, job.Status.Result); diff != "" {
			t.Errorf("cancel %v: result (-want +got):\n%s", cancel, diff)
		}
		for _, c := range job.Status.Conditions {
			if c.Reason == v1alpha1.ReasonStarted {
				t.Errorf("cancel %v: %s", cancel, c.Message)
			}
		}
	}
}

func TestAContainerThatEndedWhileAnotherGoesOnIsNamed(t *testing.T) {
	p := pod("a", corev1.PodRunning, exit(5, 3, ""))
	p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: "other", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
	job := &v1alpha1.PooledJob{}
	observe(job, remoteJob(1, 0, 0, ""), p)
	want := v1alpha1.Result{
		Reason: v1alpha1.ResultContainerEnded, PodName: "a",
		Message: "Of the containers of the Pod c0 has ended with exit code 5 (Error); the Pod goes on with other.",
	}
	if diff := cmp.Diff(want, job.Status.Result); diff != "" || job.Status.Phase != v1alpha1.PooledJobRunning {
		t.Errorf("%s, result (-want +got):\n%s", job.Status.Phase, diff)
	}
}

// A verdict that is a consequence of the Job's deletion says nothing but that.
func TestAJobThatFailsBecauseItIsDeletedWasDeleted(t *testing.T) {
	for name, test := range map[string]struct {
		deleted, target, failed int
		kind                    batchv1.JobConditionType
		consequence             bool
	}{
		"failed before":            {9, 3, 5, batchv1.JobFailed, false},
		"was about to fail before": {4, 3, 5, batchv1.JobFailed, false},
		"in one second":            {5, 5, 5, batchv1.JobFailed, false},
		"failed after":             {2, 3, 5, batchv1.JobFailed, true},
		"completed after":          {2, 3, 5, batchv1.JobComplete, false},
	} {
		t.Run(name, func(t *testing.T) {
			remote := remoteJob(0, 0, 1, test.kind)
			remote.DeletionTimestamp = ptr(at(test.deleted))
			remote.Status.Conditions = []batchv1.JobCondition{
				{Type: batchv1.JobFailureTarget, Status: corev1.ConditionTrue, LastTransitionTime: at(test.target)},
				{Type: test.kind, Status: corev1.ConditionTrue, LastTransitionTime: at(test.failed)},
			}
			job := &v1alpha1.PooledJob{}
			observe(job, remote)
			deleted := false
			for _, c := range job.Status.Conditions {
				deleted = deleted || c.Reason == v1alpha1.ReasonRemoteJobDeleted
			}
			if EndedByDeletion(remote) != test.consequence || deleted != test.consequence || !Finished(&job.Status) {
				t.Errorf("EndedByDeletion = %v, conditions %+v", EndedByDeletion(remote), job.Status.Conditions)
			}
		})
	}
}
