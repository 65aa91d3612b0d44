package binding

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

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

// RemoteName returns the name of the remote object that an attempt of an object creates: at
// most 52 characters, a valid DNS label, unique to hub, UID and attempt.
func RemoteName(hubID string, object metav1.Object, attempt int32) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d", hubID, object.GetUID(), attempt))
	prefix := strings.ReplaceAll(object.GetName(), ".", "-")
	if limit := maxNameLength - hashLength - 1; len(prefix) > limit {
		prefix = prefix[:limit]
	}
	return prefix + "-" + hex.EncodeToString(sum[:])[:hashLength]
}

// Labels returns the labels that mark a remote object as that of an object of the hub.
func Labels(hubID string, object metav1.Object) map[string]string {
	return map[string]string{
		v1alpha1.LabelHub: hubID,
		v1alpha1.LabelUID: string(object.GetUID()),
	}
}

// Owns reports whether a remote object with these labels belongs to an object of the hub.
func Owns(hubID string, object metav1.Object, labels map[string]string) bool {
	return labels[v1alpha1.LabelHub] == hubID && labels[v1alpha1.LabelUID] == string(object.GetUID())
}
