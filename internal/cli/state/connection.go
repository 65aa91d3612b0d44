package state

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// DescribeConnection returns the state of a connection in one word, and what is wrong
// with it; "" if nothing is.
func DescribeConnection(c *v1alpha1.ClusterConnection) (state, problem string) {
	ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
	credentials := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionCredentialsValid)
	switch {
	case ready == nil:
		return "Unknown", "the manager has not looked at it yet"
	case ready.Status != metav1.ConditionTrue:
		return ready.Reason, ready.Message
	case credentials != nil && (credentials.Status != metav1.ConditionTrue ||
		credentials.Reason == v1alpha1.ReasonExpiringSoon || credentials.Reason == v1alpha1.ReasonTokenRenewalFailed):
		return readyState(ready), WithMessage(credentials.Reason, credentials.Message)
	}
	return readyState(ready), ""
}

// readyState returns a connection that is Ready in one word.
func readyState(ready *metav1.Condition) string {
	if ready.Reason == v1alpha1.ReasonConnected {
		return v1alpha1.ConditionReady
	}
	return ready.Reason
}
