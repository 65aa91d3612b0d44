package jobspec

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

const (
	// maxNameLength leaves room for what the target's Job controller appends to
	// make Pod names and host names: an Indexed Job with a 63 character name is
	// refused.
	maxNameLength = 52
	// hashLength is 16 hexadecimal digits, 64 bits.
	hashLength = 16
)

// RemoteName is the name of the Job that an attempt of a PooledJob creates: at
// most 52 characters, a valid DNS label, unique to hub, UID and attempt.
func RemoteName(hubID string, job *v1alpha1.PooledJob, attempt int32) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d", hubID, job.UID, attempt))
	prefix := strings.ReplaceAll(job.Name, ".", "-")
	if limit := maxNameLength - hashLength - 1; len(prefix) > limit {
		prefix = prefix[:limit]
	}
	return prefix + "-" + hex.EncodeToString(sum[:])[:hashLength]
}

// Labels are the labels that mark a remote object as the given PooledJob's.
func Labels(hubID string, job *v1alpha1.PooledJob) map[string]string {
	return map[string]string{
		v1alpha1.LabelHub: hubID,
		v1alpha1.LabelUID: string(job.UID),
	}
}

// Owns tells whether a remote object with these labels belongs to the PooledJob.
func Owns(hubID string, job *v1alpha1.PooledJob, labels map[string]string) bool {
	return labels[v1alpha1.LabelHub] == hubID && labels[v1alpha1.LabelUID] == string(job.UID)
}

// Build makes the Job to create for a PooledJob where the intent says.
func Build(job *v1alpha1.PooledJob, hubID string, intent Intent) *batchv1.Job {
	template := job.Spec.Template.DeepCopy()
	ours := Labels(hubID, job)
	remote := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   intent.Namespace,
			Name:        intent.JobName,
			Labels:      merge(template.Labels, ours),
			Annotations: merge(template.Annotations, map[string]string{v1alpha1.AnnotationSource: job.Namespace + "/" + job.Name}),
		},
		Spec: template.Spec,
	}
	if job.Spec.Suspend != nil && *job.Spec.Suspend {
		remote.Spec.Suspend = job.Spec.Suspend
		remote.Labels[v1alpha1.LabelSuspend] = "true"
	}
	pod := &remote.Spec.Template
	pod.Labels = merge(pod.Labels, ours)
	keepLastLogLines(pod.Spec.InitContainers)
	keepLastLogLines(pod.Spec.Containers)
	return remote
}

// keepLastLogLines makes the kubelet put the end of a failed container's log into
// its status, so that the result needs no call for logs. Authors who do not want
// log text in a status set the policy themselves.
func keepLastLogLines(containers []corev1.Container) {
	for i := range containers {
		if containers[i].TerminationMessagePolicy == "" {
			containers[i].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
		}
	}
}

func merge(base, over map[string]string) map[string]string {
	merged := make(map[string]string, len(base)+len(over))
	maps.Copy(merged, base)
	maps.Copy(merged, over)
	return merged
}
