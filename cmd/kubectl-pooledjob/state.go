package main

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// finished reports whether a run has its final result.
func finished(job *v1alpha1.PooledJob) bool {
	return job.Status.Phase == v1alpha1.PooledJobSucceeded || job.Status.Phase == v1alpha1.PooledJobFailed
}

// stateOf is what a run is doing, in a few words. Two states of a run that a person
// would call the same have the same words.
func stateOf(job *v1alpha1.PooledJob) string {
	status := &job.Status
	said := func(conditionType string, is metav1.ConditionStatus) string {
		c := meta.FindStatusCondition(status.Conditions, conditionType)
		if c == nil || c.Status != is {
			return ""
		}
		return c.Reason + ": " + c.Message
	}
	switch {
	case finished(job):
		return endOf(job)
	case len(status.Conditions) == 0:
		return "waits for the manager"
	case said(v1alpha1.ConditionDeleting, metav1.ConditionTrue) != "":
		return "is being deleted: " + said(v1alpha1.ConditionDeleting, metav1.ConditionTrue)
	case said(v1alpha1.ConditionAccepted, metav1.ConditionFalse) != "":
		return "waits: " + said(v1alpha1.ConditionAccepted, metav1.ConditionFalse)
	case said(v1alpha1.ConditionSynced, metav1.ConditionUnknown) != "":
		return "no contact with " + clusterOf(job) + ": " + said(v1alpha1.ConditionSynced, metav1.ConditionUnknown)
	case said(v1alpha1.ConditionDispatched, metav1.ConditionFalse) != "":
		return "waits for " + clusterOf(job) + ": " + said(v1alpha1.ConditionDispatched, metav1.ConditionFalse)
	case status.Reason == v1alpha1.ReasonChangeRefused || status.Reason == v1alpha1.ReasonTargetError:
		return "goes on on " + clusterOf(job) + ": " + said(v1alpha1.ConditionReconciling, metav1.ConditionTrue)
	case status.Reason == v1alpha1.ReasonCancelling:
		return "is being cancelled on " + clusterOf(job)
	case status.Reason == v1alpha1.ReasonSuspending:
		return "is being suspended on " + clusterOf(job)
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
		said := ""
		if c := meta.FindStatusCondition(job.Status.Conditions, v1alpha1.ConditionFailed); c != nil {
			said = c.Reason
			b.WriteString(", " + withMessage(c.Reason, c.Message))
		}
		if result.Reason != "" && result.Reason != v1alpha1.ResultError && result.Reason != said {
			b.WriteString(" (" + result.Reason + ")")
		}
	}
	return b.String()
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
