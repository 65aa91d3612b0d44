package controllers

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// access is what the access rules say of a run.
type access struct {
	permitted bool
	// problem is a rule that cannot be understood, and so permits nothing.
	problem error
}

// permits reports whether access rules open a namespace of the target to a namespace
// of the hub. Without a rule nothing is open. The error names the first rule that
// cannot be understood, and matters only when no other permits.
func permits(rules []v1alpha1.AccessRule, hubNamespace string, hubLabels map[string]string, target string) (bool, error) {
	var problem error
	for i, rule := range rules {
		selector, err := metav1.LabelSelectorAsSelector(labelSelector(rule.HubNamespaces))
		if err != nil {
			problem = cmp.Or(problem, fmt.Errorf("spec.access[%d].hubNamespaces: %w", i, err))
			continue
		}
		if selector.Matches(labels.Set(hubLabels)) && opens(rule.TargetNamespaces, hubNamespace, target) {
			return true, nil
		}
	}
	return false, problem
}

func labelSelector(selector *v1alpha1.LabelSelector) *metav1.LabelSelector {
	if selector == nil {
		return nil // which selects nothing
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
