// Package access applies the access rules of a ClusterConnection: which hub namespaces may use which
// namespaces of its cluster. It is pure.
package access

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// Decision is what access rules say of a run.
type Decision struct {
	Permitted bool
	// Problem names the first rule that cannot be understood, and so permits nothing. It is nil if
	// the run is permitted.
	Problem error
}

// Decide reports whether access rules open a namespace of the target to a namespace of the hub, which has
// these labels. Without a rule nothing is open.
func Decide(rules []v1alpha1.AccessRule, hubNamespace string, hubLabels map[string]string, target string) Decision {
	var problem error
	for i, rule := range rules {
		selector, err := metav1.LabelSelectorAsSelector(Selector(rule.HubNamespaces))
		if err != nil {
			problem = cmp.Or(problem, fmt.Errorf("spec.access[%d].hubNamespaces: %w", i, err))
			continue
		}
		if selector.Matches(labels.Set(hubLabels)) && opens(rule.TargetNamespaces, hubNamespace, target) {
			return Decision{Permitted: true}
		}
	}
	return Decision{Problem: problem}
}

// Selector returns a label selector of the API as apimachinery has it. A nil one selects nothing.
func Selector(selector *v1alpha1.LabelSelector) *metav1.LabelSelector {
	if selector == nil {
		return nil
	}
	converted := &metav1.LabelSelector{MatchLabels: selector.MatchLabels}
	for _, r := range selector.MatchExpressions {
		converted.MatchExpressions = append(converted.MatchExpressions, metav1.LabelSelectorRequirement(r))
	}
	return converted
}

func opens(targets v1alpha1.TargetNamespaces, hubNamespace, target string) bool {
	if targets.Same != nil && *targets.Same {
		return target == hubNamespace
	}
	return slices.Contains(targets.Names, target)
}
