// Package placement chooses the ClusterConnection that a run is placed on, of those that its
// spec.clusterSelector selects. It is pure.
package placement

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// maxNamed bounds how many connections a message names.
const maxNamed = 10

// Candidate is a ClusterConnection that a run may be placed on.
type Candidate struct {
	Name       string
	ClusterUID string
	// Unusable says why it cannot be used now; empty when it can.
	Unusable string
	// Closed is true if its access rules do not permit the run: it is not named.
	Closed bool
}

// Usable reports whether a run can be placed on the candidate.
func (c *Candidate) Usable() bool { return c.Unusable == "" && !c.Closed }

// WhyUnusable returns why no run of a target namespace can be placed on a connection now; it is empty when
// one can. One that is Idle is Ready. fenced are the UIDs of clusters that are fenced.
func WhyUnusable(connection *v1alpha1.ClusterConnection, fenced map[string]bool, namespace string) string {
	ready := meta.FindStatusCondition(connection.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case !connection.DeletionTimestamp.IsZero():
		return "is being deleted"
	case ready == nil:
		return "has not been connected yet"
	case connection.Status.ClusterUID != "" && fenced[connection.Status.ClusterUID]:
		return "is fenced"
	case ready.Status != metav1.ConditionTrue:
		return ready.Reason
	case len(connection.Spec.Namespaces) > 0 && !slices.Contains(connection.Spec.Namespaces, namespace):
		return fmt.Sprintf("does not watch namespace %q", namespace)
	default:
		return ""
	}
}

// WhyNone returns for each candidate why a run cannot be placed on it. Of those that are closed to the run
// it says no more than how many there are.
func WhyNone(candidates []Candidate, hubNamespace, targetNamespace string) string {
	var named []string
	closed := 0
	for _, c := range candidates {
		if c.Closed {
			closed++
		} else {
			named = append(named, c.Name+": "+c.Unusable)
		}
	}
	slices.Sort(named)
	if more := len(named) - maxNamed; more > 0 {
		named = append(named[:maxNamed], fmt.Sprintf("%d more", more))
	}
	if closed > 0 {
		named = append(named, fmt.Sprintf("%d do not let hub namespace %q use namespace %q of their clusters",
			closed, hubNamespace, targetNamespace))
	}
	if len(named) == 0 {
		return "No ClusterConnection has the labels that spec.clusterSelector asks for."
	}
	return "No ClusterConnection that spec.clusterSelector selects can be used: " + strings.Join(named, "; ") + "."
}
