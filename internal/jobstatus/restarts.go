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
	if j.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure || len(ownEnds(j.failures)) > j.limit() {
		return v1alpha1.Result{}, false
	}
	tries, restarts, all := j.lastTries()
	switch limit := max(1, j.limit()); {
	case restarts < limit && j.missing == 0:
		return v1alpha1.Result{}, false
	case len(tries) == 0 || !all || j.missing > 0:
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
}

// lastTries are the last of all containers that were started again in the Pods that were killed, and
// restarts the number of all; all is false if one of them is not known.
func (j *judged) lastTries() (tries []try, restarts int, all bool) {
	all = true
	for _, pod := range j.pods {
		if !isCounted(pod) || !j.decision.kills(pod) {
			continue
		}
		for _, status := range ordered(pod) {
			before, now := status.LastTerminationState.Terminated, status.State.Terminated
			restarts += int(status.RestartCount)
			switch {
			case status.RestartCount == 0:
				continue
			case !isEnd(before):
				all = false
				continue
			}
			again := before.FinishedAt.Time
			if isEnd(now) {
				again = now.StartedAt.Time
			}
			tries = append(tries, try{pod, ending{container: status.Name, restarts: status.RestartCount, ContainerStateTerminated: before}, again})
		}
	}
	return tries, restarts, all
}
