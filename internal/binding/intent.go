package binding

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// maxClusterUID is the API's bound on status.clusterUID, in bytes.
const maxClusterUID = 128

// Intent is where a run's remote object is about to be created. It is written to the object on the hub before
// the first attempt to create it, so that a later process knows where to look, whatever became of the one
// that tried.
type Intent struct {
	// Cluster is the name of the ClusterConnection.
	Cluster string `json:"cluster"`
	// ClusterUID is the UID of the target's kube-system namespace.
	ClusterUID string `json:"clusterUID"`
	// Namespace and JobName name the remote object on the target.
	Namespace string `json:"namespace"`
	JobName   string `json:"jobName"`
	// Attempt is status.attempt: how often the run was moved before.
	Attempt int32 `json:"attempt"`
}

// Encode returns the value of the intent annotation.
func (i Intent) Encode() string {
	data, err := json.Marshal(i)
	if err != nil {
		panic(err) // strings and an integer always marshal
	}
	return string(data)
}

// Run is what a binding is made from: an object of any Kind, and what its spec and its status say.
type Run struct {
	HubID string
	// Object is the one on the hub, and Finalizer the one that keeps it until its remote object is gone.
	Object    metav1.Object
	Finalizer string
	// Cluster is the ClusterConnection that the spec or the status names; empty while neither does.
	Cluster string
	// ClusterUID is that of the status; empty before it was written.
	ClusterUID string
	// Namespace is that of the remote object.
	Namespace string
	// Attempt is how often the run was moved before, by the status.
	Attempt int32
}

// NewIntent returns the intent to run on the cluster of that ClusterConnection, which has the given UID.
func (r Run) NewIntent(cluster, clusterUID string) Intent {
	return Intent{
		Cluster:    cluster,
		ClusterUID: clusterUID,
		Namespace:  r.Namespace,
		JobName:    RemoteName(r.HubID, r.Object, r.Attempt),
		Attempt:    r.Attempt,
	}
}

// ClusterName returns the ClusterConnection that a run is bound to or asks for by name; empty while there is
// none.
func (r Run) ClusterName() string {
	if r.Cluster != "" {
		return r.Cluster
	}
	intent, _, _ := r.Recorded() // empty if it is not ours
	return intent.Cluster
}

// Recorded reads the intent that is recorded on the object; ok is false when there is none.
//
// The author of an object can write its annotations, so an intent that this hub cannot have written for
// this spec is an error: nothing may be created or deleted on its word. Neither can this hub have written
// one for another attempt than the status has: that is the record of a cluster that the run was moved away
// from. Nor one for another cluster than the status has, which authors cannot write. (A wrong ClusterUID is
// left to the proof of absence, which fails on it.)
func (r Run) Recorded() (intent Intent, ok bool, err error) {
	raw, ok := r.Object.GetAnnotations()[v1alpha1.AnnotationIntent]
	if !ok {
		return Intent{}, false, nil
	}
	if err := json.Unmarshal([]byte(raw), &intent); err != nil {
		return Intent{}, true, fmt.Errorf("annotation %s is not valid: %w", v1alpha1.AnnotationIntent, err)
	}
	// While neither spec nor status names a cluster it is any: the access rules apply to it.
	cluster := cmp.Or(r.Cluster, intent.Cluster)
	if want := r.NewIntent(cluster, intent.ClusterUID); intent != want || cluster == "" || len(intent.ClusterUID) > maxClusterUID {
		return Intent{}, true, fmt.Errorf("annotation %s was not written by this installation", v1alpha1.AnnotationIntent)
	}
	return intent, true, nil
}

// Bound returns the intent by which a run is bound, if it is, and intact reports whether the object says so, by
// finalizer and annotation. Both are open to its author, and kubectl replace takes them off, so the status
// wins, which is not; before it was written, what the process remembers does.
func (r Run) Bound(remembered Intent) (intent Intent, bound, intact bool) {
	recorded, ok, err := r.Recorded()
	ok = ok && err == nil
	switch {
	case r.ClusterUID != "":
		intent = r.NewIntent(r.Cluster, r.ClusterUID)
	case remembered != Intent{}:
		intent = remembered
	case ok:
		intent = recorded
	default:
		return Intent{}, false, false
	}
	return intent, true, ok && recorded == intent && slices.Contains(r.Object.GetFinalizers(), r.Finalizer)
}
