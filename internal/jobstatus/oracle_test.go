package jobstatus

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// history is the life of a Job until it fails, as somebody sees it who knows every moment: a
// Job controller that acts at once, Pods that end by themselves, that are evicted, deleted by
// hand or stopped, and suspensions. The oracle is who decided.
type history struct {
	*rand.Rand
	job  *batchv1.Job
	now  time.Duration
	pods []*life
	// failed is what the Job controller has counted.
	failed  int
	indexes map[int]int // failures of each index
	// decider is whose end decided; nil if that was a deadline.
	decider *life
	reason  string
}

// life is that of a Pod.
type life struct {
	name            string
	index           int
	begin, end      time.Duration // end: as it would be by itself, until it is stopped
	code            int32
	asked           time.Duration // for its deletion; 0 if nobody did
	counted         time.Duration // by the Job controller; 0 if it did not
	letGo, evicted  bool
	byHand          bool // it was deleted by somebody, and does not say so
	atEnd           bool // it was stopped because the Job was to end
	lost, isIgnored bool
	stuck           bool // no container of it ever runs: the kubelet makes their ends up
	nowhere         bool // it never has a node, and goes without an end
}

// never is the end of a Pod that waits for ever, unless it is stopped.
const never = time.Hour

func (l *life) ran() bool { return !l.stuck && !l.nowhere }

func (l *life) active(now time.Duration) bool { return l.end > now && l.asked == 0 }

const tick = 50 * time.Millisecond

func newHistory(seed uint64) *history {
	r := rand.New(rand.NewPCG(seed, 11))
	h := &history{Rand: r, job: remoteJob(0, 0, 0, ""), indexes: map[int]int{}}
	spec := &h.job.Spec
	spec.BackoffLimit = ptr(r.Int32N(3))
	switch r.IntN(4) {
	case 0:
		onCode(batchv1.PodFailurePolicyActionIgnore, 42)(h.job)
	case 1:
		onCode(batchv1.PodFailurePolicyActionFailJob, 42)(h.job)
	}
	if r.IntN(4) == 0 {
		spec.BackoffLimit, spec.BackoffLimitPerIndex, spec.MaxFailedIndexes = ptr(int32(1<<31-1)), ptr(int32(0)), ptr(r.Int32N(2))
	}
	if r.IntN(5) == 0 {
		spec.ActiveDeadlineSeconds = ptr(1 + r.Int64N(6))
	}
	if r.IntN(4) == 0 {
		spec.PodReplacementPolicy = ptr(batchv1.Failed)
	}
	parallelism := 1 + r.IntN(3)
	for h.reason == "" {
		h.step(parallelism)
	}
	h.stopAll()
	return h
}

// step lets a moment pass.
func (h *history) step(parallelism int) {
	h.now += tick
	for _, pod := range h.pods {
		switch {
		case pod.end != h.now || pod.counted > 0 || pod.letGo:
		case h.reason == "":
			h.count(pod)
		default: // in the moment in which another one decided
			pod.counted = h.now
			h.failed++
		}
	}
	if deadline := h.job.Spec.ActiveDeadlineSeconds; deadline != nil && h.now >= time.Duration(*deadline)*time.Second && h.reason == "" {
		h.reason = batchv1.JobReasonDeadlineExceeded
	}
	if h.reason != "" {
		return
	}
	var active []*life
	for _, pod := range h.pods {
		if pod.active(h.now) {
			active = append(active, pod)
		}
	}
	switch {
	case len(active) > 0 && h.IntN(120) == 0: // a suspension
		for _, pod := range active {
			pod.letGo = true
			h.stop(pod)
		}
		return
	case len(active) > 0 && h.IntN(60) == 0: // an eviction, or somebody's hand
		pod := active[h.IntN(len(active))]
		if pod.nowhere && waitsForEnds(h.job) {
			return // somebody has to say that it failed, which takes longer than these lives
		}
		pod.evicted = h.IntN(2) == 0
		pod.byHand = !pod.evicted
		h.stop(pod)
		if !waitsForEnds(h.job) {
			h.count(pod)
		}
		return
	}
	for range parallelism - len(active) {
		if h.IntN(3) == 0 && h.nextIndex() >= 0 {
			pod := &life{
				name: fmt.Sprintf("run-1-%02d", len(h.pods)), index: h.nextIndex(), begin: h.now, lost: h.IntN(40) == 0,
				end: h.now + tick*time.Duration(2+h.IntN(60)), code: []int32{3, 3, 3, 5, 42}[h.IntN(5)],
			}
			switch h.IntN(40) {
			case 0:
				pod.stuck, pod.end, pod.code = true, never, -1
			case 1:
				pod.nowhere, pod.end, pod.code = true, never, -1
			}
			h.pods = append(h.pods, pod)
		}
	}
}

// nextIndex returns one that has neither failed nor a Pod.
func (h *history) nextIndex() int {
	if h.job.Spec.BackoffLimitPerIndex == nil {
		return 0
	}
	for index := range 6 {
		busy := slices.ContainsFunc(h.pods, func(l *life) bool { return l.index == index && (l.end > h.now) })
		if h.indexes[index] == 0 && !busy {
			return index
		}
	}
	return -1
}

// stop has a Pod deleted: its container ends soon, with a code of its own or by itself.
func (h *history) stop(pod *life) {
	pod.asked = h.now
	switch soon := h.now + tick*time.Duration(1+h.IntN(20)); {
	case pod.nowhere:
		pod.end = h.now
	case pod.stuck:
		pod.end = soon
	case soon < pod.end:
		pod.end, pod.code = soon, []int32{143, 143, 137, 7}[h.IntN(4)]
	}
}

func (h *history) stopAll() {
	for _, pod := range h.pods {
		if !pod.active(h.now) {
			continue
		}
		h.stop(pod)
		pod.counted, pod.atEnd = pod.end, true
		h.failed++ // while it runs, whatever an Ignore rule will say of its end
		h.indexes[pod.index]++
	}
}

// count is the Job controller's look at a Pod that failed.
func (h *history) count(pod *life) {
	pod.counted = h.now
	action := batchv1.PodFailurePolicyActionCount
	if pod.end == h.now {
		action = h.matched(pod)
	}
	if action == batchv1.PodFailurePolicyActionIgnore {
		pod.isIgnored = true
		return
	}
	h.failed++
	if action == batchv1.PodFailurePolicyActionFailJob {
		h.decider, h.reason = pod, batchv1.JobReasonPodFailurePolicy
		return
	}
	h.indexes[pod.index]++
	switch limit := h.job.Spec.MaxFailedIndexes; {
	case limit != nil && len(h.indexes) > int(*limit):
		h.decider, h.reason = pod, batchv1.JobReasonMaxFailedIndexesExceeded
	case limit == nil && h.failed > int(*h.job.Spec.BackoffLimit):
		h.decider, h.reason = pod, batchv1.JobReasonBackoffLimitExceeded
	}
}

// matched returns what the Job's policy says of a Pod that has ended.
func (h *history) matched(pod *life) batchv1.PodFailurePolicyAction {
	if h.job.Spec.PodFailurePolicy == nil || pod.code != 42 {
		return batchv1.PodFailurePolicyActionCount
	}
	return h.job.Spec.PodFailurePolicy.Rules[0].Action
}

// told returns what the manager is told of it: whole seconds, and no Pod that is lost.
func (h *history) told() (*batchv1.Job, []*corev1.Pod) {
	whole := func(at time.Duration) metav1.Time { return metav1.NewTime(epoch.Add(at.Truncate(time.Second))) }
	job := h.job.DeepCopy()
	job.Status.Failed = int32(h.failed) //nolint:gosec // a few
	message := "in other words"
	if h.decider != nil && h.reason == batchv1.JobReasonPodFailurePolicy && h.IntN(2) == 0 {
		message = fmt.Sprintf("Container main for pod etl/%s failed with exit code 42 matching FailJob rule at index 0", h.decider.name)
	}
	job.Status.Conditions = []batchv1.JobCondition{
		{Type: batchv1.JobFailureTarget, Status: corev1.ConditionTrue, Reason: h.reason, Message: message, LastTransitionTime: whole(h.now)},
		{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: h.reason, Message: message, LastTransitionTime: whole(h.now + 2*time.Second)},
	}
	if h.job.Spec.BackoffLimitPerIndex != nil {
		list := ""
		for index := range h.indexes {
			list += fmt.Sprintf("%d,", index)
		}
		job.Status.FailedIndexes = &list
	}
	var pods []*corev1.Pod
	for _, l := range h.pods {
		if l.lost {
			continue
		}
		p := pod(l.name, corev1.PodFailed, corev1.ContainerStateTerminated{ExitCode: l.code, StartedAt: whole(l.begin), FinishedAt: whole(l.end)})
		p.Status.ContainerStatuses[0].Name = "main"
		switch {
		case l.nowhere:
			p.Status.Phase, p.Status.ContainerStatuses = corev1.PodPending, nil
		case l.stuck:
			neverRan(p)
			p.Status.StartTime = ptr(whole(l.begin))
		}
		index(l.index)(p)
		if l.asked > 0 {
			grace := int64(30)
			asked := whole(l.asked)
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr(metav1.NewTime(asked.Add(30*time.Second))), &grace
		}
		if l.counted > 0 {
			p.Finalizers = []string{batchv1.JobTrackingFinalizer} // as the store shows it
		}
		if l.letGo {
			p.OwnerReferences = nil
		}
		if l.evicted {
			disrupted("EvictionByEvictionAPI", "evicted")(p)
		}
		if h.IntN(3) == 0 && l.ran() {
			sidecar(exit(h.Int32N(42), h.IntN(1+int(l.end.Seconds())), ""))(p)
		}
		pods = append(pods, p)
	}
	h.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
	return job, pods
}

// wanted returns the exit code that the oracle gives; ok is false if there is none.
func (h *history) wanted() (code int32, ok bool) {
	if h.decider != nil {
		return h.decider.code, h.decider.ran()
	}
	for _, pod := range h.pods {
		if !pod.atEnd || !pod.ran() {
			continue
		}
		if ok && pod.code != code {
			return 0, false
		}
		code, ok = pod.code, true
	}
	return code, ok
}

// excused reports whether what the manager is told cannot tell: a Pod is lost, or another one
// failed in the decider's second.
func (h *history) excused() bool {
	if h.decider == nil {
		return true
	}
	second := func(at time.Duration) time.Duration { return at.Truncate(time.Second) }
	for _, pod := range h.pods {
		// Nobody says when a Pod ended that never ran, and one that somebody deleted shortly before
		// the decision, and that ended after it, may have been killed.
		unsaid := pod.stuck && !pod.atEnd && (pod.byHand || waitsForEnds(h.job))
		late := pod.byHand && second(pod.end) >= second(h.now)
		if pod.lost || (pod.counted > 0 && (unsaid || late)) {
			return true
		}
		near := second(pod.counted) == second(h.decider.counted) || second(pod.end) == second(h.decider.end) ||
			(pod.asked > 0 && second(pod.asked) == second(h.decider.counted))
		if pod != h.decider && pod.counted > 0 && pod.code != h.decider.code && near {
			return true
		}
	}
	return false
}

// unlucky reports whether something happened, in the very second in which the Job controller
// decided, that the package's documentation makes an exception of: somebody deleted a Pod, or
// the Pod that decided went and another one failed.
func (h *history) unlucky() bool {
	if h.decider == nil { // just before the deadline
		return slices.ContainsFunc(h.pods, func(l *life) bool {
			uncounted := l.atEnd && l.lost && h.matched(l) == batchv1.PodFailurePolicyActionIgnore
			return (l.byHand && h.now-l.asked < 2*time.Second) || uncounted
		})
	}
	second := func(at time.Duration) time.Duration { return at.Truncate(time.Second) }
	return slices.ContainsFunc(h.pods, func(l *life) bool {
		byHand := l.byHand && (second(l.asked) == second(h.decider.counted) || second(l.counted) == second(h.decider.counted))
		instead := h.decider.lost && l != h.decider && second(l.end) == second(h.decider.counted)
		return byHand || instead
	})
}

// An exit code is the one that somebody would give who saw every moment, or absent.
func TestNoExitCodeIsAnothers(t *testing.T) {
	const runs = 100_000
	known := 0
	for seed := range uint64(runs) {
		h := newHistory(seed)
		job, pods := h.told()
		result := resultOf(job, pods, false, v1alpha1.Result{})
		want, ok := h.wanted()
		switch {
		case h.unlucky():
		case result.ExitCode != nil && (!ok || *result.ExitCode != want):
			t.Fatalf("seed %d: %s: exit code %d of %s, want %d, %v, of %+v\n%s", seed, h.reason, *result.ExitCode, result.PodName, want, ok, h.decider, h)
		case result.ExitCode == nil && ok && !h.excused():
			t.Fatalf("seed %d: %s: %s: %s, want %d of %+v\n%s", seed, h.reason, result.Reason, result.Message, want, h.decider, h)
		case result.ExitCode != nil:
			known++
		}
	}
	if known < runs*6/10 {
		t.Errorf("only %d of %d runs had an exit code", known, runs)
	}
	t.Logf("%d of %d runs had an exit code", known, runs)
}

func (h *history) String() string {
	text := fmt.Sprintf("backoffLimit %d, failed %d, indexes %v, waits %v\n", *h.job.Spec.BackoffLimit, h.failed, h.indexes, waitsForEnds(h.job))
	for _, pod := range h.pods {
		text += fmt.Sprintf("%+v\n", *pod)
	}
	return text
}
