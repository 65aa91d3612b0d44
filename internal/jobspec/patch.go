package jobspec

import (
	"encoding/json"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// The merge patches that are sent to remote Jobs. Each holds only for the Job of the
// UID: the API server refuses a change of it.

// LabelPatch puts our labels back on a Job that has lost them. What spec.suspend last
// asked for is lost with them: if it ever asked, it is taken to have got what is there. It
// is about the Job as it was read.
func LabelPatch(hubID string, job *v1alpha1.PooledJob, remote *batchv1.Job) []byte {
	labels := map[string]any{v1alpha1.LabelHub: hubID, v1alpha1.LabelUID: job.UID}
	if job.Spec.Suspend != nil && remote.Spec.Suspend != nil {
		labels[v1alpha1.LabelSuspend] = strconv.FormatBool(*remote.Spec.Suspend)
	}
	return lockedPatch(remote, labels)
}

// lockedPatch changes labels of a Job as it was read, and of no later one.
func lockedPatch(remote *batchv1.Job, labels map[string]any) []byte {
	return encode(map[string]any{"metadata": map[string]any{
		"uid": remote.UID, "resourceVersion": remote.ResourceVersion, "labels": labels,
	}})
}

// OrphanPatch takes the hub's label off a Job, so that it is nobody's. The run's stays:
// an API server gives a Job without labels those of its Pods.
func OrphanPatch(uid types.UID) []byte {
	return patch(uid, map[string]any{v1alpha1.LabelHub: nil, v1alpha1.LabelSuspend: nil}, nil)
}

// SuspendPatch suspends or resumes a Job, and notes that we did.
func SuspendPatch(uid types.UID, suspend bool) []byte {
	return patch(uid, map[string]any{v1alpha1.LabelSuspend: strconv.FormatBool(suspend)}, map[string]any{"suspend": suspend})
}

// CancelPatch has the target's Job controller stop the Pods of a Job and declare it
// failed, with reason DeadlineExceeded.
func CancelPatch(uid types.UID) []byte {
	return patch(uid, nil, map[string]any{"activeDeadlineSeconds": 0})
}

// Cancelled reports whether CancelPatch has arrived.
func Cancelled(remote *batchv1.Job) bool {
	return remote.Spec.ActiveDeadlineSeconds != nil && *remote.Spec.ActiveDeadlineSeconds == 0
}

// SuspendWanted reports whether spec.suspend asks for something else than it last did,
// and for what.
func SuspendWanted(job *v1alpha1.PooledJob, remote *batchv1.Job) (suspend, ask bool) {
	suspend = job.Spec.Suspend != nil && *job.Spec.Suspend
	asked := remote.Labels[v1alpha1.LabelSuspend] == "true"
	return suspend, suspend != asked
}

func patch(uid types.UID, labels, spec map[string]any) []byte {
	metadata := map[string]any{"uid": uid}
	if labels != nil {
		metadata["labels"] = labels
	}
	document := map[string]any{"metadata": metadata}
	if spec != nil {
		document["spec"] = spec
	}
	return encode(document)
}

func encode(document map[string]any) []byte {
	data, err := json.Marshal(document)
	if err != nil {
		panic(err) // strings, numbers and truth values always marshal
	}
	return data
}

// KeptSeconds is the ttlSecondsAfterFinished of a remote Job that a policy of its cluster would
// have deleted sooner: 30 days. An explicit value stays where policies fill in an absent one,
// and a longer one would stay as long in the target's delaying queue.
const KeptSeconds = 30 * 24 * 60 * 60

// ExpiresSoon reports whether the target is to delete a Job, after it has finished, sooner than
// KeptSeconds.
func ExpiresSoon(remote *batchv1.Job) bool {
	ttl := remote.Spec.TTLSecondsAfterFinished
	return ttl != nil && *ttl < KeptSeconds
}

// KeepPatch has the target keep the Job of that UID for KeptSeconds after it has finished.
func KeepPatch(uid types.UID) []byte {
	return patch(uid, nil, map[string]any{"ttlSecondsAfterFinished": KeptSeconds})
}
