package jobstatus

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
	decision  decision
	cancelled bool
	pods      []*corev1.Pod   // that it controls
	failures  []failure       // of these, in order
	missing   int             // failures that the Job has counted and that are not there
	surplus   int             // failures that are there and that the Job has not counted
	before    v1alpha1.Result // what the result was until now
}

func judge(remote *batchv1.Job, pods []*corev1.Pod) *judged {
	j := &judged{Job: remote, verdict: Verdict(remote), pods: controlled(remote, pods)}
	j.decision = decisionOf(remote, j.verdict)
	j.failures = failuresOf(remote, j.decision, j.pods)
	j.dropUncounted()
	j.missing = max(0, int(remote.Status.Failed)-len(j.failures))
	j.surplus = max(0, len(j.failures)-int(remote.Status.Failed))
	return j
}

// rules is the chain that decides who speaks; see the package's documentation.
var rules = []func(*judged) (result v1alpha1.Result, applies bool){
	completed, failedByPolicy, stoppedByDeadline, failedByIndexes, failedByRestarts, failedByLimit,
}

// dropUncounted leaves those out that may not count, if there are more failures than the Job has
// counted, and as many without them: Pods that were told to stop and then succeeded, for the Job
// controller may have seen only that; and Pods that an Ignore rule matches and that may have ended
// before it decided.
func (j *judged) dropUncounted() {
	succeeded := func(f failure) bool { return f.pod.Status.Phase == corev1.PodSucceeded }
	ignored := func(f failure) bool { return (f.killed || !f.known) && isIgnored(j.Job, f.pod) }
	either := func(f failure) bool { return succeeded(f) || ignored(f) }
	for _, which := range []func(failure) bool{succeeded, ignored, either} {
		if left := slices.DeleteFunc(slices.Clone(j.failures), which); len(left) == int(j.Status.Failed) {
			j.failures = left
			return
		}
	}
}

// resultOf returns how a Job ended.
func resultOf(remote *batchv1.Job, pods []*corev1.Pod, cancelled bool, before v1alpha1.Result) v1alpha1.Result {
	j := judge(remote, pods)
	j.cancelled, j.before = cancelled, before
	return j.result()
}

// result returns that of the first rule that applies.
func (j *judged) result() v1alpha1.Result {
	for _, rule := range rules {
		if result, applies := rule(j); applies {
			return result
		}
	}
	return v1alpha1.Result{}
}

// podGone is the result when the Pod that decides it is not there.
var podGone = v1alpha1.Result{Reason: v1alpha1.ResultPodGone}

func completed(j *judged) (v1alpha1.Result, bool) {
	if j.verdict.Type != batchv1.JobComplete {
		return v1alpha1.Result{}, false
	}
	if j.Status.Succeeded == 0 {
		return v1alpha1.Result{}, true
	}
	var last *corev1.Pod
	counts := j.successIndexes()
	for _, pod := range j.pods {
		if pod.Status.Phase == corev1.PodSucceeded && counts.has(pod) && (last == nil || !isBefore(pod, last)) {
			last = pod
		}
	}
	if last == nil {
		return podGone, true
	}
	return podResult(last), true
}

// isBefore orders Pods that succeeded. Those that were told to stop, because the others were enough,
// come first.
func isBefore(a, b *corev1.Pod) bool {
	if wasStopped(a) != wasStopped(b) {
		return wasStopped(a)
	}
	return cmp.Or(endTime(a).Compare(endTime(b)), cmp.Compare(a.Name, b.Name)) < 0
}

// successIndexes returns the indexes of which one that succeeded counts: those that the rule of the
// successPolicy names by which the Job completed, or all.
func (j *judged) successIndexes() indexSpans {
	number, ok := strings.CutPrefix(j.verdict.Message, "Matched rules at index ")
	rule, err := strconv.Atoi(number)
	policy := j.Spec.SuccessPolicy
	if !ok || err != nil || policy == nil || j.verdict.Reason != batchv1.JobReasonSuccessPolicy || rule < 0 || rule >= len(policy.Rules) {
		return nil
	}
	return parseIndexes(policy.Rules[rule].SucceededIndexes)
}

// indexSpans are spans of indexes of a Job; nil has all.
type indexSpans [][2]int

// parseIndexes reads a list of indexes, such as "1,3-5,7".
func parseIndexes(list *string) indexSpans {
	if list == nil {
		return nil
	}
	parsed := indexSpans{}
	for span := range strings.SplitSeq(*list, ",") {
		from, to, isSpan := strings.Cut(span, "-")
		if !isSpan {
			to = from
		}
		first, err := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err == nil && err2 == nil {
			parsed = append(parsed, [2]int{first, last})
		}
	}
	slices.SortFunc(parsed, func(a, b [2]int) int { return cmp.Compare(a[0], b[0]) })
	return parsed
}

// has reports whether the index of a Pod is among them. One without an index is.
func (i indexSpans) has(pod *corev1.Pod) bool {
	index, ok := indexOf(pod)
	if i == nil || !ok {
		return true
	}
	at, found := slices.BinarySearchFunc(i, index, func(span [2]int, index int) int { return cmp.Compare(span[0], index) })
	return found || (at > 0 && index <= i[at-1][1])
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
	for _, f := range j.mayDecide() {
		m, ok := matchPolicy(j.Job, f.pod)
		switch {
		case !ok || m.action != batchv1.PodFailurePolicyActionFailJob:
		case m.condition != nil:
			return podResult(f.pod), true
		default:
			return endResult(f.pod, m.end), true
		}
	}
	return podGone, true
}

// matchedByName returns the result of what the Job controller named, unless the Pod denies it.
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
	lasts, ok := j.lastsOfIndexes(j.mayDecide())
	if !ok {
		return podGone, true
	}
	return j.oneTooMany(lasts, position), true
}

// lastsOfIndexes are, of each index that failed, the last of these failures, in their order. ok is
// false if one is missing by which an index failed.
func (j *judged) lastsOfIndexes(failures []failure) (lasts []failure, ok bool) {
	byIndex, failed := map[int]failure{}, parseIndexes(j.Status.FailedIndexes)
	for _, f := range failures {
		index, ok := indexOf(f.pod)
		if !ok || !failed.has(f.pod) {
			continue
		}
		if last, ok := byIndex[index]; !ok || earlierFailures(f.pod) >= earlierFailures(last.pod) {
			byIndex[index] = f
		}
	}
	for _, last := range byIndex {
		if j.missing > 0 && !j.failsIndex(last.pod) {
			return nil, false
		}
	}
	return slices.DeleteFunc(slices.Clone(failures), func(f failure) bool {
		index, ok := indexOf(f.pod)
		return !ok || byIndex[index].pod != f.pod
	}), true
}

// failsIndex reports whether an index fails with the failure of that Pod.
func (j *judged) failsIndex(pod *corev1.Pod) bool {
	m, ok := matchPolicy(j.Job, pod)
	limit := j.Spec.BackoffLimitPerIndex
	return limit == nil || earlierFailures(pod) >= int(*limit) || (ok && m.action == batchv1.PodFailurePolicyActionFailIndex)
}

// mayDecide returns the failures by which the Job controller may have decided: none that an Ignore rule
// matches and, where some are missing, none that it killed, for the one that decided may be missing.
func (j *judged) mayDecide() []failure {
	return slices.DeleteFunc(slices.Clone(j.failures), func(f failure) bool {
		return (j.missing > 0 && f.killed) || isIgnored(j.Job, f.pod)
	})
}

// oneTooMany returns the result of the failure that decided: the first after a number of others, in the order of
// their times. With backoffLimit 2 that is the third. Failures without a known time, and failures of the same
// second that were not killed, have no order. If failures are missing, each missing one may have been one of
// the others: with one of three gone, the second of the two that are left may have decided, or the missing
// one itself. If there are more failures than the Job counted, any of them may be one that it did not count.
// Then several failures may have decided, and there is a result only if all of them ended alike.
func (j *judged) oneTooMany(failures []failure, others int) v1alpha1.Result {
	if len(failures) <= others {
		return podGone
	}
	known := knownTimes(failures)
	unknown := failures[len(known):]
	if own := ownEnds(known); len(own)+len(unknown) > others+j.surplus {
		known = own
	}
	first, last := window(known, others-j.missing-len(unknown), others+j.surplus)
	inQuestion := slices.Concat(known[first:last], unknown)
	speaks := inQuestion[min(max(0, others-first), len(inQuestion)-1)]
	if agreed := results(inQuestion); !agree(agreed) {
		if j.missing > 0 {
			return podGone
		}
		return ambiguous(agreed)
	}
	if j.missing > 0 && (!speaks.known || j.decision.second-speaks.at > maxDelay) {
		return podGone
	}
	return podResult(speaks.pod)
}

// window returns the part of some failures that begins with one and ends with another, both included,
// with all that have no order among them. Positions that are none are moved to the nearest that is.
func window(failures []failure, from, to int) (first, last int) {
	if len(failures) == 0 {
		return 0, 0
	}
	alike := func(a, b failure) bool { return a.at == b.at && a.killed == b.killed }
	from, to = min(max(from, 0), len(failures)-1), min(max(to, 0), len(failures)-1)
	for from > 0 && alike(failures[from-1], failures[from]) {
		from--
	}
	for to < len(failures)-1 && alike(failures[to+1], failures[to]) {
		to++
	}
	return from, to + 1
}

func results(failures []failure) []v1alpha1.Result {
	found := make([]v1alpha1.Result, 0, len(failures))
	for _, f := range failures {
		found = append(found, podResult(f.pod))
	}
	return found
}

// limit returns how many failures the Job takes.
func (j *judged) limit() int {
	if j.Spec.BackoffLimit == nil {
		return defaultBackoffLimit
	}
	return max(int(*j.Spec.BackoffLimit), 0)
}

// failedByLimit applies to all that is left. It also serves Job controllers that are not
// Kubernetes' own.
func failedByLimit(j *judged) (v1alpha1.Result, bool) {
	failures, limit := j.mayDecide(), j.limit()
	switch {
	case len(failures) > limit:
		return j.oneTooMany(failures, limit), true
	case len(j.failures) == 0 && j.missing == 0:
		return waitingOnly(j.before), true // no Pod ever ended, and what kept them from running stands
	case len(failures) == 0 || j.missing > 0 || len(j.failures) > limit:
		return podGone, true
	}
	if j.Spec.Template.Spec.RestartPolicy == corev1.RestartPolicyOnFailure {
		return podGone, true // restarts decided, and are not known
	}
	if own := ownEnds(failures); len(own) > 0 {
		failures = own
	}
	return j.oneTooMany(failures, len(failures)-1), true
}

// agree reports whether results have the same exit code, or none.
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
		Reason:  v1alpha1.ResultAmbiguous,
		Message: Truncate("It is not known which of several failures made the Job fail: "+list(candidates)+".", maxResultMessage),
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
