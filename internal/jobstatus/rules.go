package jobstatus

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// defaultBackoffLimit is what the API server sets when a Job has none.
const defaultBackoffLimit = 6

// judged is a Job that has ended, and what the rules go by.
type judged struct {
	*batchv1.Job
	verdict   *batchv1.JobCondition
	cancelled bool
	pods      []*corev1.Pod   // that it controls
	failures  []*corev1.Pod   // of these, in order, without those that an Ignore rule matches
	missing   int             // failures that the Job has counted and that are not there
	before    v1alpha1.Result // what the result was until now
}

// rules is the chain that decides who speaks; see the package's documentation.
var rules = []func(*judged) (result v1alpha1.Result, applies bool){
	completed, failedByPolicy, stoppedByDeadline, failedByIndexes, failedByRestarts, failedByLimit,
}

// resultOf tells how a Job that has ended did so.
func resultOf(remote *batchv1.Job, pods []*corev1.Pod, cancelled bool, before v1alpha1.Result) v1alpha1.Result {
	j := &judged{Job: remote, verdict: Verdict(remote), cancelled: cancelled, pods: controlled(remote, pods), before: before}
	j.failures = slices.DeleteFunc(failures(remote, j.pods), func(pod *corev1.Pod) bool { return isIgnored(remote, pod) })
	j.missing = max(0, int(remote.Status.Failed)-len(j.failures))
	for _, rule := range rules {
		if result, applies := rule(j); applies {
			return result
		}
	}
	return v1alpha1.Result{}
}

// podGone is the result when the Pod that would tell is not there.
var podGone = v1alpha1.Result{Reason: v1alpha1.ResultPodGone}

func completed(j *judged) (v1alpha1.Result, bool) {
	if j.verdict.Type != batchv1.JobComplete {
		return v1alpha1.Result{}, false
	}
	if j.Status.Succeeded == 0 {
		return v1alpha1.Result{}, true
	}
	var last *corev1.Pod
	for _, pod := range j.pods {
		if pod.Status.Phase == corev1.PodSucceeded && j.countsForSuccess(pod) && (last == nil || !isBefore(pod, last)) {
			last = pod
		}
	}
	if last == nil {
		return podGone, true
	}
	return podResult(last), true
}

func isBefore(a, b *corev1.Pod) bool {
	return cmp.Or(endTime(a).Compare(endTime(b)), cmp.Compare(a.Name, b.Name)) < 0
}

// countsForSuccess tells whether a Pod's index is one that the rule of the successPolicy
// names by which the Job completed.
func (j *judged) countsForSuccess(pod *corev1.Pod) bool {
	number, ok := strings.CutPrefix(j.verdict.Message, "Matched rules at index ")
	rule, err := strconv.Atoi(number)
	policy := j.Spec.SuccessPolicy
	if !ok || err != nil || policy == nil || j.verdict.Reason != batchv1.JobReasonSuccessPolicy || rule < 0 || rule >= len(policy.Rules) {
		return true
	}
	indexes := policy.Rules[rule].SucceededIndexes
	index, ok := indexOf(pod)
	return indexes == nil || !ok || hasIndex(*indexes, index)
}

// hasIndex tells whether a list of indexes, such as "1,3-5,7", has an index.
func hasIndex(list string, index int) bool {
	for span := range strings.SplitSeq(list, ",") {
		from, to, isSpan := strings.Cut(span, "-")
		if !isSpan {
			to = from
		}
		first, err := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err == nil && err2 == nil && first <= index && index <= last {
			return true
		}
	}
	return false
}

func failedByPolicy(j *judged) (v1alpha1.Result, bool) {
	if j.verdict.Reason != batchv1.JobReasonPodFailurePolicy {
		return v1alpha1.Result{}, false
	}
	if name, ok := nameMatched(j.Job, j.verdict.Message); ok {
		if result, ok := j.matchedByName(name); ok {
			return result, true
		}
	}
	for _, pod := range j.counting() {
		m, ok := matchPolicy(j.Job, pod)
		switch {
		case !ok || m.action != batchv1.PodFailurePolicyActionFailJob:
		case m.condition != nil:
			return podResult(pod), true
		default:
			return endResult(pod, m.end), true
		}
	}
	return podGone, true
}

// matchedByName is the result of what the Job controller named, unless the Pod denies it.
func (j *judged) matchedByName(name named) (v1alpha1.Result, bool) {
	i := slices.IndexFunc(j.pods, func(pod *corev1.Pod) bool { return pod.Name == name.pod })
	switch {
	case i >= 0 && name.container == "":
		has := slices.ContainsFunc(j.pods[i].Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == name.condition })
		return podResult(j.pods[i]), has
	case i >= 0:
		end, ok := endingOf(j.pods[i], name.container)
		return endResult(j.pods[i], end), ok && end.ExitCode == name.exitCode
	case name.container == "" || !strings.HasPrefix(name.pod, j.Name+"-"):
		return v1alpha1.Result{}, false
	}
	// The Pod is gone; what the Job controller saw of it is in its words.
	return v1alpha1.Result{
		ExitCode: &name.exitCode, Reason: v1alpha1.ResultError,
		Message: Truncate(j.verdict.Message, maxResultMessage), PodName: Truncate(name.pod, maxPodName),
	}, true
}

func failedByIndexes(j *judged) (v1alpha1.Result, bool) {
	position := 0
	switch {
	case j.verdict.Reason == batchv1.JobReasonMaxFailedIndexesExceeded && j.Spec.MaxFailedIndexes != nil:
		position = max(0, int(*j.Spec.MaxFailedIndexes))
	case j.verdict.Reason != batchv1.JobReasonFailedIndexes:
		return v1alpha1.Result{}, false
	}
	return j.oneTooMany(j.lastsOfIndexes(j.counting()), position), true
}

// lastsOfIndexes are, of each index that failed, the last of these Pods, in their order.
func (j *judged) lastsOfIndexes(pods []*corev1.Pod) []*corev1.Pod {
	byIndex := map[int]*corev1.Pod{}
	for _, pod := range pods {
		index, ok := indexOf(pod)
		if !ok || (j.Status.FailedIndexes != nil && !hasIndex(*j.Status.FailedIndexes, index)) {
			continue
		}
		if last := byIndex[index]; last == nil || earlierFailures(pod) >= earlierFailures(last) {
			byIndex[index] = pod
		}
	}
	return slices.DeleteFunc(slices.Clone(pods), func(pod *corev1.Pod) bool {
		index, ok := indexOf(pod)
		return !ok || byIndex[index] != pod
	})
}

// counting are the failures, in order. Where one is missing they are only those of Pods that
// were not just deleted: one that was killed when the missing one had decided could be taken
// for it.
func (j *judged) counting() []*corev1.Pod {
	if j.missing == 0 {
		return j.failures
	}
	return slices.DeleteFunc(slices.Clone(j.failures), func(pod *corev1.Pod) bool { return wasStopped(pod) && disruption(pod) == nil })
}

// oneTooMany is the result of the failure after a number of others. The Pods that a Job
// controller kills when it has decided come later than the one that it decided by, or in the
// same second; there, those that ended by themselves, or were disrupted, come first.
func (j *judged) oneTooMany(pods []*corev1.Pod, others int) v1alpha1.Result {
	if j.missing > 0 {
		return j.oneOfThese(pods, others)
	}
	for len(pods) > 0 {
		second := j.countedAt(pods[0]).Unix()
		n := 1
		for n < len(pods) && j.countedAt(pods[n]).Unix() == second {
			n++
		}
		switch own := j.ownEnds(pods[:n]); {
		case others < len(own):
			return oneOf(own, others)
		case others < n:
			return oneOf(pods[:n], others)
		}
		others, pods = others-n, pods[n:]
	}
	return podGone
}

// oneOfThese is oneTooMany where failures are missing: any of them may be among the others, so
// several Pods come into question. They must have ended alike.
func (j *judged) oneOfThese(pods []*corev1.Pod, others int) v1alpha1.Result {
	if len(pods) <= others {
		return podGone
	}
	first, last := j.countedAt(pods[max(0, others-j.missing)]).Unix(), j.countedAt(pods[others]).Unix()
	var candidates []v1alpha1.Result
	for _, pod := range pods {
		if at := j.countedAt(pod).Unix(); first <= at && at <= last {
			candidates = append(candidates, podResult(pod))
		}
	}
	if !agree(candidates) {
		return podGone
	}
	return podResult(pods[others])
}

// ownEnds are those of some Pods of one second that the Job controller cannot have killed for
// what happened in it.
func (j *judged) ownEnds(pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(pod *corev1.Pod) bool {
		asked, _ := deletionAsked(pod)
		return wasStopped(pod) && disruption(pod) == nil && asked.Unix() == j.countedAt(pod).Unix()
	})
}

func (j *judged) countedAt(pod *corev1.Pod) time.Time { return countedAt(pod, waitsForEnds(j.Job)) }

// limit is how many failures the Job takes.
func (j *judged) limit() int {
	if j.Spec.BackoffLimit == nil {
		return defaultBackoffLimit
	}
	return max(int(*j.Spec.BackoffLimit), 0)
}

// failedByLimit applies to all that is left. It also serves Job controllers that are not
// Kubernetes' own.
func failedByLimit(j *judged) (v1alpha1.Result, bool) {
	pods, limit := j.counting(), j.limit()
	switch {
	case len(pods) > limit:
		return j.oneTooMany(pods, limit), true
	case len(j.failures) == 0 && j.missing == 0:
		return waitingOnly(j.before), true // no Pod ever ended, and what kept them from running stands
	case len(pods) == 0 || j.missing > 0:
		return podGone, true
	}
	return j.oneTooMany(pods, len(pods)-1), true
}

// oneOf is the result of one of several Pods of one second, if they ended alike.
func oneOf(pods []*corev1.Pod, position int) v1alpha1.Result {
	var candidates []v1alpha1.Result
	for _, pod := range pods {
		candidates = append(candidates, podResult(pod))
	}
	if !agree(candidates) {
		return ambiguous(candidates)
	}
	return candidates[position]
}

// agree tells whether results have the same exit code, or none.
func agree(results []v1alpha1.Result) bool {
	for _, result := range results {
		if codeOf(result) != codeOf(results[0]) {
			return false
		}
	}
	return true
}

func codeOf(result v1alpha1.Result) string {
	if result.ExitCode == nil {
		return "none"
	}
	return fmt.Sprint(*result.ExitCode)
}

func ambiguous(candidates []v1alpha1.Result) v1alpha1.Result {
	return v1alpha1.Result{
		Reason: v1alpha1.ResultAmbiguous,
		Message: Truncate("Several Pods failed in the same second, and which of them made the Job fail cannot be told: "+
			list(candidates)+".", maxResultMessage),
	}
}

// list names results by Pod and exit code.
func list(results []v1alpha1.Result) string {
	var names []string
	for _, result := range results {
		names = append(names, fmt.Sprintf("%s (exit code %s)", result.PodName, codeOf(result)))
	}
	return strings.Join(names, ", ")
}
