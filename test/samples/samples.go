// Package samples tells what becomes of each file of config/samples, for the demo,
// which shows it, and for the end-to-end suite, which checks it.
package samples

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// Setup are the files that make the namespaces and the connections, in order.
var Setup = []string{
	"namespace-team-a.yaml",
	"namespace-team-b.yaml",
	"clusterconnection-1.yaml",
	"clusterconnection-2.yaml",
}

// Invalid is the file that the API server refuses, and InvalidWords what it says.
const (
	Invalid      = "pooledjob-invalid.yaml"
	InvalidWords = "spec.template.spec.ttlSecondsAfterFinished must not be set"
)

// Outcome is what becomes of a PooledJob of the samples.
type Outcome struct {
	// File is in config/samples, and makes the PooledJob of that name.
	File, Namespace, Name string
	// Target is the cluster, from 1, and TargetNamespace the namespace of its
	// Job; 0 when there must be no Job anywhere.
	Target          int
	TargetNamespace string
	// Phase is the last one, and ExitCode the container's, or -1 for none.
	Phase    v1alpha1.PooledJobPhase
	ExitCode int32
	// Condition is one that must have the Reason.
	Condition, Reason string
}

// Outcomes are those of all PooledJobs that the API server takes.
var Outcomes = []Outcome{
	{"pooledjob-succeeds.yaml", "team-a", "hello", 1, "team-a", v1alpha1.PooledJobSucceeded, 0, v1alpha1.ConditionSynced, v1alpha1.ReasonSynced},
	{"pooledjob-fails.yaml", "team-a", "breaks", 1, "team-a", v1alpha1.PooledJobFailed, 3, v1alpha1.ConditionFailed, "BackoffLimitExceeded"},
	{"pooledjob-second-target.yaml", "team-a", "far", 2, "batch", v1alpha1.PooledJobSucceeded, 0, v1alpha1.ConditionSynced, v1alpha1.ReasonSynced},
	{"pooledjob-anywhere.yaml", "team-a", "anywhere", 2, "batch", v1alpha1.PooledJobSucceeded, 0, v1alpha1.ConditionSynced, v1alpha1.ReasonSynced},
	{"pooledjob-no-access.yaml", "team-b", "denied", 0, "", v1alpha1.PooledJobFailed, -1, v1alpha1.ConditionFailed, v1alpha1.ReasonNotPermitted},
	{"pooledjob-missing-namespace.yaml", "team-a", "early", 0, "", v1alpha1.PooledJobPending, -1, v1alpha1.ConditionDispatched, v1alpha1.ReasonNamespaceNotFound},
}

// Check tells in what a PooledJob differs from its outcome; nil when in nothing.
func (o Outcome) Check(job *v1alpha1.PooledJob) error {
	exitCode := int32(-1)
	if job.Status.Result.ExitCode != nil {
		exitCode = *job.Status.Result.ExitCode
	}
	condition := meta.FindStatusCondition(job.Status.Conditions, o.Condition)
	if condition == nil {
		condition = &metav1.Condition{}
	}
	if job.Status.Phase != o.Phase || exitCode != o.ExitCode || condition.Reason != o.Reason {
		return fmt.Errorf("%s/%s: phase %q, exit code %d, %s with reason %q; want %q, %d and %q",
			o.Namespace, o.Name, job.Status.Phase, exitCode, o.Condition, condition.Reason, o.Phase, o.ExitCode, o.Reason)
	}
	return nil
}
