package jobspec

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// maxClusterUID is the API's bound on status.clusterUID, in bytes.
const maxClusterUID = 128

// Intent is where a PooledJob's remote Job is about to be created. It is written
// to the PooledJob before the first attempt to create it, so that a later process
// knows where to look, whatever became of the one that tried.
type Intent struct {
	// Cluster is the name of the ClusterConnection.
	Cluster string `json:"cluster"`
	// ClusterUID is the UID of the target's kube-system namespace.
	ClusterUID string `json:"clusterUID"`
	// Namespace and JobName name the Job on the target.
	Namespace string `json:"namespace"`
	JobName   string `json:"jobName"`
	// Attempt is status.attempt: how often the run was moved before.
	Attempt int32 `json:"attempt"`
}

// NewIntent is the intent to run job on the cluster of that ClusterConnection, which
// has the given UID.
func NewIntent(job *v1alpha1.PooledJob, hubID, cluster, clusterUID string) Intent {
	return Intent{
		Cluster:    cluster,
		ClusterUID: clusterUID,
		Namespace:  TargetNamespace(job),
		JobName:    RemoteName(hubID, job, job.Status.Attempt),
		Attempt:    job.Status.Attempt,
	}
}

// ClusterOf is the ClusterConnection that a PooledJob is bound to or asks for by name;
// empty while there is none.
func ClusterOf(job *v1alpha1.PooledJob, hubID string) string {
	if named := cmp.Or(job.Spec.ClusterName, job.Status.ClusterName); named != "" {
		return named
	}
	intent, _, _ := IntentOf(job, hubID) // empty if it is not ours
	return intent.Cluster
}

// TargetNamespace is the namespace that a PooledJob's spec asks for.
func TargetNamespace(job *v1alpha1.PooledJob) string {
	if job.Spec.TargetNamespace != "" {
		return job.Spec.TargetNamespace
	}
	return job.Namespace
}

// IntentOf reads the intent that is recorded on a PooledJob; ok is false when
// there is none.
//
// The author of a PooledJob can write its annotations, so an intent that this
// hub cannot have written for this spec is an error: nothing may be created or
// deleted on its word. Neither can this hub have written one for another attempt than
// the status has: that is the record of a cluster that the run was moved away from. Nor one for
// another cluster than the status has, which authors cannot write. (A wrong ClusterUID is left to the proof of absence, which
// fails on it.)
func IntentOf(job *v1alpha1.PooledJob, hubID string) (intent Intent, ok bool, err error) {
	raw, ok := job.Annotations[v1alpha1.AnnotationIntent]
	if !ok {
		return Intent{}, false, nil
	}
	if err := json.Unmarshal([]byte(raw), &intent); err != nil {
		return Intent{}, true, fmt.Errorf("annotation %s is not valid: %w", v1alpha1.AnnotationIntent, err)
	}
	// While neither names one it is any: the access rules apply to it.
	cluster := cmp.Or(job.Spec.ClusterName, job.Status.ClusterName, intent.Cluster)
	if want := NewIntent(job, hubID, cluster, intent.ClusterUID); intent != want || cluster == "" || len(intent.ClusterUID) > maxClusterUID {
		return Intent{}, true, fmt.Errorf("annotation %s was not written by this installation", v1alpha1.AnnotationIntent)
	}
	return intent, true, nil
}

// BoundBy is the intent by which a run is bound, and intact reports whether the
// PooledJob says so, by finalizer and annotation. Both are open to its author, and
// kubectl replace takes them off, so the status wins, which is not; before it was
// written, what the process remembers does. The result is not bound if none tells.
func BoundBy(job *v1alpha1.PooledJob, hubID string, remembered Intent) (intent Intent, bound, intact bool) {
	recorded, ok, err := IntentOf(job, hubID)
	ok = ok && err == nil
	switch {
	case job.Status.ClusterUID != "":
		intent = NewIntent(job, hubID, cmp.Or(job.Spec.ClusterName, job.Status.ClusterName), job.Status.ClusterUID)
	case remembered != Intent{}:
		intent = remembered
	case ok:
		intent = recorded
	default:
		return Intent{}, false, false
	}
	return intent, true, ok && recorded == intent && slices.Contains(job.Finalizers, v1alpha1.FinalizerPooledJob)
}

// Encode is the value of the intent annotation.
func (i Intent) Encode() string {
	data, err := json.Marshal(i)
	if err != nil {
		panic(err) // strings and an integer always marshal
	}
	return string(data)
}
