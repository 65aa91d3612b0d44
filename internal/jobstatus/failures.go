package jobstatus

import (
	"cmp"
	"math"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// failure is a Pod that the Job controller has counted as failed.
type failure struct {
	pod *corev1.Pod
	// at is the second in which it was counted, and known is true if this is known.
	at    int64
	known bool
	// killed is true if the Job controller deleted the Pod when it had decided: it deletes only
	// Pods that it has not counted, so such a Pod comes after the one that decided.
	killed bool
}

// decision is when the Job controller decided that a Job fails.
type decision struct {
	// second is when, and verdict when the Job failed: after all its Pods have stopped.
	second, verdict int64
	// apart is true if the Job says both; one that has no condition FailureTarget does not.
	apart bool
}

func decisionOf(remote *batchv1.Job, verdict *batchv1.JobCondition) decision {
	d := decision{second: decidedAt(remote, verdict).Unix(), verdict: verdict.LastTransitionTime.Unix()}
	d.apart = slices.ContainsFunc(remote.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == batchv1.JobFailureTarget && c.Status == corev1.ConditionTrue
	})
	return d
}

// maxDelay is how many seconds may lie between what the Job controller decides by, its decision and
// what it does then: it waits for the API server, tries again, and has a clock of its own.
const maxDelay = 10

// likelihood is whether something was so.
type likelihood int

const (
	no likelihood = iota
	maybe
	yes
)

// kills returns whether a Pod was deleted by the decision, as far as that is known. The Job controller asks for that in the
// second before it says so, or later, and only for Pods that it does not know to have ended.
func (d decision) kills(pod *corev1.Pod) likelihood {
	deletion, ok := deletionAsked(pod)
	asked := deletion.Unix()
	if !ok || disruption(pod) != nil || asked > d.verdict || asked < d.second-maxDelay {
		return no
	}
	end, all := containersEnd(pod)
	if leftUnscheduled(pod) {
		end, all = deletion, true
	}
	switch {
	case asked < d.second-1 && d.apart && all && end.Unix() < d.second:
		return no // it was over
	case asked < d.second-1, all && end.Unix() < asked:
		return maybe
	default:
		return yes
	}
}

// failuresOf returns the Pods that the Job controller has counted as failed when the Job failed, in the
// order in which it did, without those that an Ignore rule matches. Those of which the time is not
// known come last.
func failuresOf(remote *batchv1.Job, d decision, pods []*corev1.Pod) []failure {
	waits := waitsForEnds(remote)
	var found []failure
	for _, pod := range pods {
		killed := d.kills(pod)
		if isFailure(pod, killed, waits) && (killed != no || !isIgnored(remote, pod)) {
			found = append(found, counted(pod, killed, waits))
		}
	}
	slices.SortStableFunc(found, func(a, b failure) int {
		return cmp.Or(
			later(!a.known, !b.known), cmp.Compare(a.at, b.at), later(a.killed, b.killed), cmp.Compare(a.pod.Name, b.pod.Name),
		)
	})
	return found
}

// later orders what is so after what is not.
func later(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// isFailure reports whether the Job controller counts a Pod as failed: one that failed; one whose
// deletion it takes for that; and one that succeeds after it was killed.
func isFailure(pod *corev1.Pod, killed likelihood, waits bool) bool {
	if !isCounted(pod) {
		return false
	}
	return pod.Status.Phase == corev1.PodFailed || leftUnscheduled(pod) ||
		(pod.Status.Phase == corev1.PodSucceeded && wasStopped(pod) && (killed != no || !waits))
}

// counted returns when a Pod was counted. Unless it waits for their end (podReplacementPolicy Failed),
// the Job controller counts a Pod when its deletion is asked for. What it kills it had not counted
// before.
func counted(pod *corev1.Pod, killed likelihood, waits bool) failure {
	end, known := knownEnd(pod)
	deletion, deleted := deletionAsked(pod)
	asked := deletion.Unix()
	f := failure{pod: pod, at: end.Unix(), known: known && killed != maybe, killed: killed == yes}
	switch _, all := containersEnd(pod); {
	case waits && leftUnscheduled(pod): // it is counted by the decision, if at all
		f.at, f.known, f.killed = math.MaxInt64, true, true
	case waits && killed == no && !all && !isRejected(pod):
		f.known = false // somebody says later that it has ended
	case waits && killed == yes:
		f.at = max(f.at, asked)
	case killed == yes:
		f.at = asked
	case deleted && !waits:
		f.at = min(f.at, asked)
	}
	return f
}

// ownEnds returns the failures that no decision has caused.
func ownEnds(failures []failure) []failure {
	return slices.DeleteFunc(slices.Clone(failures), func(f failure) bool { return f.killed })
}

// knownTimes returns the failures whose time is known.
func knownTimes(failures []failure) []failure {
	return slices.DeleteFunc(slices.Clone(failures), func(f failure) bool { return !f.known })
}
