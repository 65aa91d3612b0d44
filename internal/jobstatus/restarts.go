package jobstatus

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// failedByRestarts applies when the Job failed by the restarts of containers: the Job controller adds
// up those of all Pods that are not over, of sidecars too, and decides when it sees one too many
// (pastBackoffLimitOnFailure). It kills these Pods then.
func failedByRestarts(j *judged) (v1alpha1.Result, bool) {
	if j.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure || len(ownEnds(knownTimes(j.failures))) > j.limit() {
		return v1alpha1.Result{}, false
	}
	tries, restarts := j.lastTries()
	limit := max(1, j.limit())
	unknown := func(t try) bool { return !t.known || (restarts > limit && t.end.restarts > 1) }
	switch {
	case restarts < limit && j.missing == 0:
		return v1alpha1.Result{}, false
	case len(tries) == 0 || slices.ContainsFunc(tries, unknown) || j.missing > 0:
		return podGone, true
	case restarts == limit: // the last one is what was one too many
		last := slices.MaxFunc(tries, func(a, b try) int { return a.again.Compare(b.again) })
		tries = slices.DeleteFunc(tries, func(t try) bool { return !t.again.Equal(last.again) })
	}
	var candidates []v1alpha1.Result
	for _, try := range tries {
		candidates = append(candidates, endResult(try.pod, try.end))
	}
	if !agree(candidates) {
		return ambiguous(candidates), true
	}
	return candidates[len(candidates)-1], true
}

// try is how a container ended before it was started again, and when that was.
type try struct {
	pod   *corev1.Pod
	end   ending
	again time.Time
	known bool
}

// lastTries returns the last of all containers that were started again in the Pods that were not over
// when the Job controller decided, and restarts is the number of all.
func (j *judged) lastTries() (tries []try, restarts int) {
	for _, pod := range j.pods {
		if !isCounted(pod) || !j.wasActive(pod) {
			continue
		}
		for _, status := range ordered(pod) {
			if status.RestartCount > 0 {
				restarts += int(status.RestartCount)
				tries = append(tries, tryOf(pod, &status))
			}
		}
	}
	return tries, restarts
}

// wasActive reports whether a Pod was not over when the Job controller decided: it was killed then,
// or was being deleted.
func (j *judged) wasActive(pod *corev1.Pod) bool {
	_, deleted := deletionAsked(pod)
	end, known := knownEnd(pod)
	return j.decision.kills(pod) != no || (deleted && (!known || end.Unix() >= j.decision.second))
}

func tryOf(pod *corev1.Pod, status *corev1.ContainerStatus) try {
	before, now := status.LastTerminationState.Terminated, status.State.Terminated
	t := try{pod: pod, end: ending{status.Name, status.RestartCount, before}, known: isEnd(before) && isEnd(now)}
	if !t.known {
		return t
	}
	t.again = now.StartedAt.Time
	if t.again.Before(before.FinishedAt.Time) { // it could not be started, and the runtime gives no time
		t.again = now.FinishedAt.Time
	}
	return t
}
