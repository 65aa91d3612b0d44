package jobspec

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

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

// Owns reports whether a remote object with these labels belongs to the PooledJob.
func Owns(hubID string, job *v1alpha1.PooledJob, labels map[string]string) bool {
	return labels[v1alpha1.LabelHub] == hubID && labels[v1alpha1.LabelUID] == string(job.UID)
}
