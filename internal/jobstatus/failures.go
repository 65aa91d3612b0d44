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
	// at is the second in which it was counted, and known whether that is known.
	at    int64
	known bool
	// killed tells that the Job controller deleted the Pod when it had decided, as far as can be
	// told: it deletes only Pods that it has not counted, so such a Pod comes after the one that
	// decided.
	killed bool
}

// decision is when the Job controller decided that a Job fails.
type decision struct {
	// second is when, and verdict when the Job failed: after all its Pods have stopped.
	second, verdict int64
	// apart tells that the Job says both; one that has no condition FailureTarget does not.
	apart bool
}

func decisionOf(remote *batchv1.Job, verdict *batchv1.JobCondition) decision {
	d := decision{second: decidedAt(remote, verdict).Unix(), verdict: verdict.LastTransitionTime.Unix()}
	d.apart = slices.ContainsFunc(remote.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == batchv1.JobFailureTarget && c.Status == corev1.ConditionTrue
	})
	return d
}

// kills reports whether a Pod was deleted by the decision: the Job controller asks for that in the
// second before it says so, or later. Where it does not say when it decided, any Pod whose deletion
// was asked for before may have been.
func (d decision) kills(pod *corev1.Pod) bool {
	asked, ok := deletionAsked(pod)
	if !ok || disruption(pod) != nil {
		return false
	}
	return asked.Unix() <= d.verdict && (!d.apart || d.second-1 <= asked.Unix())
}

// failuresOf are the Pods that the Job controller has counted as failed when the Job failed, in the
// order in which it did, without those that an Ignore rule matches. Those of which the time is not
// known come last.
func failuresOf(remote *batchv1.Job, d decision, pods []*corev1.Pod) []failure {
	waits := waitsForEnds(remote)
	var found []failure
	for _, pod := range pods {
		killed := d.kills(pod)
		if !isFailure(pod, killed, waits) || (!killed && isIgnored(remote, pod)) {
			continue
		}
		found = append(found, counted(pod, d, killed, waits))
	}
	rank := func(f failure) int {
		switch {
		case !f.known:
			return 2
		case f.killed:
			return 1
		default:
			return 0
		}
	}
	slices.SortStableFunc(found, func(a, b failure) int {
		if (rank(a) == 2) != (rank(b) == 2) {
			return rank(a) - rank(b)
		}
		return cmp.Or(cmp.Compare(a.at, b.at), rank(a)-rank(b), cmp.Compare(a.pod.Name, b.pod.Name))
	})
	return found
}

// isFailure reports whether the Job controller counts a Pod as failed: one that failed; one whose
// deletion it takes for that; and when it has decided, each that is not over.
func isFailure(pod *corev1.Pod, killed, waits bool) bool {
	if !isCounted(pod) {
		return false
	}
	return pod.Status.Phase == corev1.PodFailed || leftUnscheduled(pod) ||
		(pod.Status.Phase == corev1.PodSucceeded && wasStopped(pod) && (killed || !waits))
}

// counted says when a Pod was counted. Unless it waits for their end (podReplacementPolicy Failed),
// the Job controller counts a Pod when its deletion is asked for. What it kills it had not counted
// before, however early that ended.
func counted(pod *corev1.Pod, d decision, killed, waits bool) failure {
	end, known := knownEnd(pod)
	if _, all := containersEnd(pod); waits && !all && !isRejected(pod) {
		known = killed // somebody says later that it has ended
	}
	f := failure{pod: pod, at: end.Unix(), known: known, killed: killed}
	asked, ok := deletionAsked(pod)
	switch {
	case waits && leftUnscheduled(pod): // it is counted by the decision, if at all
		f.at, f.known, f.killed = math.MaxInt64, true, true
	case killed && d.apart && waits:
		f.at = max(f.at, asked.Unix())
	case killed && d.apart:
		f.at = asked.Unix()
	case ok && !waits:
		f.at = min(f.at, asked.Unix())
	}
	return f
}

// ownEnds are the failures that no decision has caused.
func ownEnds(failures []failure) []failure {
	return slices.DeleteFunc(slices.Clone(failures), func(f failure) bool { return f.killed })
}

// knownTimes are the failures whose time is known.
func knownTimes(failures []failure) []failure {
	return slices.DeleteFunc(slices.Clone(failures), func(f failure) bool { return !f.known })
}
