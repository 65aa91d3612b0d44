package jobstatus

import (
	batchv1 "k8s.io/api/batch/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func stoppedByDeadline(j *judged) (v1alpha1.Result, bool) {
	if !j.cancelled && j.verdict.Reason != batchv1.JobReasonDeadlineExceeded {
		return v1alpha1.Result{}, false
	}
	reason := v1alpha1.ResultDeadlineExceeded
	if j.cancelled {
		reason = v1alpha1.ResultCancelled
	}
	stopped := j.stopped()
	switch {
	case len(stopped) == 0 && isWaiting(j.before):
		return j.before, true
	case j.missing > 0:
		return v1alpha1.Result{Reason: reason, Message: "Pods that the Job counted are gone, and how they ended is not known."}, true
	case len(stopped) == 0:
		return v1alpha1.Result{Reason: reason}, true
	case !agree(stopped):
		return v1alpha1.Result{Reason: reason, Message: Truncate("The Pods that were stopped ended differently: "+list(stopped)+".", maxResultMessage)}, true
	}
	result := v1alpha1.Result{ExitCode: stopped[0].ExitCode}
	if len(stopped) == 1 {
		result = stopped[0]
	}
	result.Reason = reason
	return result, true
}

// stopped returns the results of the Pods that the Job controller stopped when it had decided to end
// the Job.
func (j *judged) stopped() []v1alpha1.Result {
	var results []v1alpha1.Result
	for _, pod := range j.pods {
		if !isCounted(pod) || j.decision.kills(pod) == no {
			continue
		}
		if end, ok := stoppedEnding(pod); ok {
			results = append(results, endResult(pod, end))
		}
	}
	return results
}

// isWaiting reports whether a result is why a Pod did not run.
func isWaiting(result v1alpha1.Result) bool {
	return result.ExitCode == nil && result.Reason != "" && result.Reason != v1alpha1.ResultContainerEnded
}

func waitingOnly(result v1alpha1.Result) v1alpha1.Result {
	if isWaiting(result) {
		return result
	}
	return v1alpha1.Result{}
}
