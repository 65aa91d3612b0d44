package state

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// HasEnded reports whether a run has its final result.
func HasEnded(job *v1alpha1.PooledJob) bool {
	return job.Status.Phase == v1alpha1.PooledJobSucceeded || job.Status.Phase == v1alpha1.PooledJobFailed
}

// Describe returns what a run is doing, in a few words.
func Describe(job *v1alpha1.PooledJob) string {
	status := &job.Status
	said := func(conditionType string, is metav1.ConditionStatus) string {
		c := meta.FindStatusCondition(status.Conditions, conditionType)
		if c == nil || c.Status != is {
			return ""
		}
		return c.Reason + ": " + c.Message
	}
	switch {
	case HasEnded(job):
		return DescribeEnd(job)
	case len(status.Conditions) == 0:
		return "waits for the manager"
	case said(v1alpha1.ConditionDeleting, metav1.ConditionTrue) != "":
		return "is being deleted: " + said(v1alpha1.ConditionDeleting, metav1.ConditionTrue)
	case said(v1alpha1.ConditionAccepted, metav1.ConditionFalse) != "":
		return "waits: " + said(v1alpha1.ConditionAccepted, metav1.ConditionFalse)
	case said(v1alpha1.ConditionSynced, metav1.ConditionUnknown) != "":
		return "no contact with " + ClusterOf(job) + ": " + said(v1alpha1.ConditionSynced, metav1.ConditionUnknown)
	case said(v1alpha1.ConditionDispatched, metav1.ConditionFalse) != "":
		return "waits for " + ClusterOf(job) + ": " + said(v1alpha1.ConditionDispatched, metav1.ConditionFalse)
	case status.Reason == v1alpha1.ReasonChangeRefused || status.Reason == v1alpha1.ReasonTargetError:
		return "goes on on " + ClusterOf(job) + ": " + said(v1alpha1.ConditionReconciling, metav1.ConditionTrue)
	case status.Reason == v1alpha1.ReasonCancelling:
		return "is being cancelled on " + ClusterOf(job)
	case status.Reason == v1alpha1.ReasonSuspending:
		return "is being suspended on " + ClusterOf(job)
	case status.Phase == v1alpha1.PooledJobSuspended:
		return "suspended on " + ClusterOf(job)
	case status.Result.Reason != "" && status.Result.ExitCode == nil:
		return "its Pod waits on " + ClusterOf(job) + ": " + WithMessage(status.Result.Reason, status.Result.Message)
	case status.Phase == v1alpha1.PooledJobRunning:
		return "runs on " + ClusterOf(job)
	case status.JobRef.Name != "":
		return fmt.Sprintf("created on %s as Job %s/%s", ClusterOf(job), status.JobRef.Namespace, status.JobRef.Name)
	}
	return "waits for " + ClusterOf(job)
}

// DescribeEnd returns how a run ended, in a few words.
func DescribeEnd(job *v1alpha1.PooledJob) string {
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
			b.WriteString(", " + WithMessage(c.Reason, c.Message))
		}
		if result.Reason != "" && result.Reason != v1alpha1.ResultError && result.Reason != said {
			b.WriteString(" (" + result.Reason + ")")
		}
	}
	return b.String()
}

// ClusterOf returns the name of the cluster of a run, or "a cluster" while that is not
// known.
func ClusterOf(job *v1alpha1.PooledJob) string {
	switch {
	case job.Status.ClusterName != "":
		return job.Status.ClusterName
	case job.Spec.ClusterName != "":
		return job.Spec.ClusterName
	}
	return "a cluster"
}

// WithMessage joins a reason and its message, which may be empty.
func WithMessage(reason, message string) string {
	if message == "" {
		return reason
	}
	return reason + ": " + message
}
