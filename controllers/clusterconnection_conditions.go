package controllers

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// connectionConditions are the conditions that Ready sums up, in the order in
// which a connection comes up, and what they say when they are True.
var connectionConditions = []struct{ kind, well string }{
	{v1alpha1.ConditionCredentialsValid, "The target accepts the credentials."},
	{v1alpha1.ConditionReachable, "The target answers."},
	{v1alpha1.ConditionAuthorized, "The identity may see what has to be watched."},
	{v1alpha1.ConditionSynced, "The view of the target is complete and kept up to date."},
}

// connectionWriter changes the status of one ClusterConnection in memory.
type connectionWriter struct {
	connection *v1alpha1.ClusterConnection
	now        metav1.Time
	// users are the PooledJobs that a deleted connection is kept for.
	users []string
}

// finding is what is known of one condition.
type finding struct {
	status  metav1.ConditionStatus
	reason  string
	message string
}

var (
	works    = finding{metav1.ConditionTrue, v1alpha1.ReasonConnected, "Jobs can be sent, and their status comes back."}
	notKnown = finding{metav1.ConditionUnknown, v1alpha1.ReasonNotConnected, "Not known without a connection."}
	connects = finding{metav1.ConditionUnknown, v1alpha1.ReasonConnecting, "The first contact is under way."}
)

// maxWords bounds a condition's message, in bytes: it may hold a target's words, or
// those of a kubeconfig.
const maxWords = 4096

// notConnected records why there is nothing to connect with.
func (w *connectionWriter) notConnected(reason, message string) {
	w.write(finding{metav1.ConditionFalse, reason, message}, notKnown, notKnown, notKnown)
}

// observe records the pool's view of the connection.
func (w *connectionWriter) observe(status connpool.Status) {
	if status.KubernetesVersion != "" {
		w.connection.Status.KubernetesVersion = jobstatus.Truncate(status.KubernetesVersion, maxVersion)
	}
	if w.connection.Status.ClusterUID == "" {
		w.connection.Status.ClusterUID = status.ClusterUID
	}
	var words string
	if status.Err != nil {
		words = status.Err.Error()
	}
	no := func(reason string) finding { return finding{metav1.ConditionFalse, reason, words} }
	switch status.State {
	case connpool.Connecting:
		w.write(connects, connects, connects, connects)
	case connpool.Ready:
		w.write(works, works, works, works)
	case connpool.Unreachable:
		w.write(notKnown, no(v1alpha1.ReasonUnreachable), notKnown, notKnown)
	case connpool.Rejected:
		w.write(no(v1alpha1.ReasonCredentialsRejected), works, notKnown, notKnown)
	case connpool.Forbidden:
		w.write(works, works, no(v1alpha1.ReasonForbidden), notKnown)
	case connpool.IdentityChanged:
		w.write(works, works, notKnown, no(v1alpha1.ReasonIdentityChanged))
	}
}

// deleting says that the connection is kept for PooledJobs.
func (w *connectionWriter) deleting() finding {
	const shown = 5
	names := strings.Join(w.users[:min(len(w.users), shown)], ", ")
	if len(w.users) > shown {
		names += ", ..."
	}
	return finding{metav1.ConditionFalse, v1alpha1.ReasonDeleting, fmt.Sprintf(
		"Deleted, but kept for %d PooledJobs that still have to clean up on the target: %s. Delete them first.", len(w.users), names)}
}

// write records a finding for each of connectionConditions, and sums them up.
func (w *connectionWriter) write(findings ...finding) {
	for i, condition := range connectionConditions {
		f := findings[i]
		if f == works {
			f.message = condition.well
		}
		w.set(condition.kind, f)
	}
	ready := rollUp(findings)
	if ready == works && len(w.users) > 0 {
		ready = w.deleting()
	}
	w.set(v1alpha1.ConditionReady, ready)
}

// rollUp is the first finding that is False, else the first that is Unknown, else
// that all is well.
func rollUp(findings []finding) finding {
	for _, status := range []metav1.ConditionStatus{metav1.ConditionFalse, metav1.ConditionUnknown} {
		for _, f := range findings {
			if f.status == status {
				return f
			}
		}
	}
	return works
}

func (w *connectionWriter) set(kind string, f finding) {
	meta.SetStatusCondition(&w.connection.Status.Conditions, metav1.Condition{
		Type: kind, Status: f.status, Reason: f.reason, Message: jobstatus.Truncate(f.message, maxWords),
		ObservedGeneration: w.connection.Generation, LastTransitionTime: w.now,
	})
}

// notice is an Event to emit.
type notice struct{ kind, reason, message string }

// readyTransition is the Event for a change of Ready, if it changed.
func readyTransition(before, after *v1alpha1.ClusterConnection) (notice, bool) {
	was := meta.FindStatusCondition(before.Status.Conditions, v1alpha1.ConditionReady)
	is := meta.FindStatusCondition(after.Status.Conditions, v1alpha1.ConditionReady)
	if is == nil || is.Status == metav1.ConditionUnknown || (was != nil && was.Status == is.Status && was.Reason == is.Reason) {
		return notice{}, false
	}
	if is.Status == metav1.ConditionTrue {
		return notice{corev1.EventTypeNormal, is.Reason, "Connected to " + after.Status.Server}, true
	}
	return notice{corev1.EventTypeWarning, is.Reason, is.Message}, true
}
