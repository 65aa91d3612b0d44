package main

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// finished tells whether a run has its final result.
func finished(job *v1alpha1.PooledJob) bool {
	return job.Status.Phase == v1alpha1.PooledJobSucceeded || job.Status.Phase == v1alpha1.PooledJobFailed
}

// stateOf is what a run is doing, in a few words. Two states of a run that a person
// would call the same have the same words.
func stateOf(job *v1alpha1.PooledJob) string {
	status := &job.Status
	obstacle := func(conditionType string) string {
		c := meta.FindStatusCondition(status.Conditions, conditionType)
		if c == nil || c.Status == metav1.ConditionTrue {
			return ""
		}
		return c.Reason + ": " + c.Message
	}
	switch {
	case finished(job):
		return endOf(job)
	case len(status.Conditions) == 0:
		return "waits for the manager"
	case obstacle(v1alpha1.ConditionAccepted) != "":
		return "waits: " + obstacle(v1alpha1.ConditionAccepted)
	case obstacle(v1alpha1.ConditionSynced) != "":
		return "no contact with " + clusterOf(job) + ": " + obstacle(v1alpha1.ConditionSynced)
	case obstacle(v1alpha1.ConditionDispatched) != "":
		return "waits for " + clusterOf(job) + ": " + obstacle(v1alpha1.ConditionDispatched)
	case status.Phase == v1alpha1.PooledJobSuspended:
		return "suspended on " + clusterOf(job)
	case status.Result.Reason != "" && status.Result.ExitCode == nil:
		return "its Pod waits on " + clusterOf(job) + ": " + withMessage(status.Result.Reason, status.Result.Message)
	case status.Phase == v1alpha1.PooledJobRunning:
		return "runs on " + clusterOf(job)
	case status.JobRef.Name != "":
		return fmt.Sprintf("created on %s as Job %s/%s", clusterOf(job), status.JobRef.Namespace, status.JobRef.Name)
	}
	return "waits for " + clusterOf(job)
}

// endOf says how a run ended.
func endOf(job *v1alpha1.PooledJob) string {
	var b strings.Builder
	b.WriteString(strings.ToLower(string(job.Status.Phase)))
	if start, end := job.Status.StartTime, job.Status.CompletionTime; start != nil && end != nil {
		fmt.Fprintf(&b, " after %s", end.Sub(start.Time).Round(time.Second))
	}
	result := job.Status.Result
	if result.ExitCode != nil {
		fmt.Fprintf(&b, ", exit code %d", *result.ExitCode)
	}
	if job.Status.Phase == v1alpha1.PooledJobFailed {
		if c := meta.FindStatusCondition(job.Status.Conditions, v1alpha1.ConditionFailed); c != nil {
			b.WriteString(", " + withMessage(c.Reason, c.Message))
		}
		if result.Reason != "" && result.Reason != v1alpha1.ResultError {
			b.WriteString(" (" + result.Reason + ")")
		}
	}
	return b.String()
}

// reasonOf is the reason that a person looks for first.
func reasonOf(job *v1alpha1.PooledJob) string {
	conditions := job.Status.Conditions
	for _, conditionType := range []string{v1alpha1.ConditionDeleting, v1alpha1.ConditionFailed} {
		if c := meta.FindStatusCondition(conditions, conditionType); c != nil && c.Status == metav1.ConditionTrue {
			return c.Reason
		}
	}
	if finished(job) {
		return job.Status.Result.Reason
	}
	for _, conditionType := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionSynced, v1alpha1.ConditionDispatched} {
		if c := meta.FindStatusCondition(conditions, conditionType); c != nil && c.Status != metav1.ConditionTrue {
			return c.Reason
		}
	}
	if job.Status.Result.Reason != "" {
		return job.Status.Result.Reason
	}
	if c := meta.FindStatusCondition(conditions, v1alpha1.ConditionDispatched); c != nil {
		return c.Reason
	}
	return ""
}

// clusterOf names the cluster of a run, as far as it is known.
func clusterOf(job *v1alpha1.PooledJob) string {
	switch {
	case job.Status.ClusterName != "":
		return job.Status.ClusterName
	case job.Spec.ClusterName != "":
		return job.Spec.ClusterName
	}
	return "a cluster"
}

func withMessage(reason, message string) string {
	if message == "" {
		return reason
	}
	return reason + ": " + message
}
