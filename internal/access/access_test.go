package access

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func TestDecide(t *testing.T) {
	yes, no := true, false
	same := v1alpha1.TargetNamespaces{Same: &yes}
	names := func(names ...string) v1alpha1.TargetNamespaces { return v1alpha1.TargetNamespaces{Names: names} }
	all := &v1alpha1.LabelSelector{}
	team := func(name string) *v1alpha1.LabelSelector {
		return &v1alpha1.LabelSelector{MatchLabels: map[string]string{"team": name}}
	}
	where := func(key string, operator metav1.LabelSelectorOperator, values ...string) *v1alpha1.LabelSelector {
		return &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
	}
	both := team("a")
	both.MatchExpressions = where("env", metav1.LabelSelectorOpIn, "prod").MatchExpressions
	rule := func(hub *v1alpha1.LabelSelector, targets v1alpha1.TargetNamespaces) v1alpha1.AccessRule {
		return v1alpha1.AccessRule{HubNamespaces: hub, TargetNamespaces: targets}
	}

	// Who asks is the namespace "team-a" with the labels team=a, env=test.
	for name, test := range map[string]struct {
		rules     []v1alpha1.AccessRule
		target    string
		permitted bool
	}{
		"no rule":                              {nil, "team-a", false},
		"a rule that selects nobody":           {[]v1alpha1.AccessRule{rule(nil, same)}, "team-a", false},
		"a rule that opens nothing":            {[]v1alpha1.AccessRule{rule(all, v1alpha1.TargetNamespaces{})}, "team-a", false},
		"all, the same":                        {[]v1alpha1.AccessRule{rule(all, same)}, "team-a", true},
		"all, the same, asking for another":    {[]v1alpha1.AccessRule{rule(all, same)}, "team-b", false},
		"all, not the same":                    {[]v1alpha1.AccessRule{rule(all, v1alpha1.TargetNamespaces{Same: &no})}, "team-a", false},
		"all, by name":                         {[]v1alpha1.AccessRule{rule(all, names("etl", "batch"))}, "batch", true},
		"all, by name, asking for another":     {[]v1alpha1.AccessRule{rule(all, names("etl", "batch"))}, "team-a", false},
		"names are no patterns":                {[]v1alpha1.AccessRule{rule(all, names("*", "team-"))}, "team-a", false},
		"no name":                              {[]v1alpha1.AccessRule{rule(all, names("etl"))}, "", false},
		"by label":                             {[]v1alpha1.AccessRule{rule(team("a"), same)}, "team-a", true},
		"by another label":                     {[]v1alpha1.AccessRule{rule(team("b"), same)}, "team-a", false},
		"by expression":                        {[]v1alpha1.AccessRule{rule(where("env", metav1.LabelSelectorOpIn, "test", "dev"), same)}, "team-a", true},
		"by excluding expression":              {[]v1alpha1.AccessRule{rule(where("env", metav1.LabelSelectorOpNotIn, "test"), same)}, "team-a", false},
		"by a label that exists":               {[]v1alpha1.AccessRule{rule(where("env", metav1.LabelSelectorOpExists), same)}, "team-a", true},
		"by a label that must not exist":       {[]v1alpha1.AccessRule{rule(where("env", metav1.LabelSelectorOpDoesNotExist), same)}, "team-a", false},
		"a label is not enough":                {[]v1alpha1.AccessRule{rule(both, same)}, "team-a", false},
		"the second of two":                    {[]v1alpha1.AccessRule{rule(team("b"), names("etl")), rule(team("a"), names("batch"))}, "batch", true},
		"halves of two rules make no whole":    {[]v1alpha1.AccessRule{rule(team("b"), names("etl")), rule(team("a"), names("batch"))}, "etl", false},
		"the same wins over names if both are": {[]v1alpha1.AccessRule{rule(all, v1alpha1.TargetNamespaces{Same: &yes, Names: []string{"etl"}})}, "etl", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			decision := Decide(test.rules, "team-a", map[string]string{"team": "a", "env": "test"}, test.target)
			g.Expect(decision.Problem).NotTo(HaveOccurred())
			g.Expect(decision.Permitted).To(Equal(test.permitted))
		})
	}
}

func TestDecideNamesTheRuleThatIsWrong(t *testing.T) {
	g := NewWithT(t)
	yes := true
	wrong := &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "env", Operator: "Resembles"}}}
	decision := Decide([]v1alpha1.AccessRule{
		{HubNamespaces: &v1alpha1.LabelSelector{MatchLabels: map[string]string{"team": "b"}}, TargetNamespaces: v1alpha1.TargetNamespaces{Same: &yes}},
		{HubNamespaces: wrong, TargetNamespaces: v1alpha1.TargetNamespaces{Same: &yes}},
	}, "team-a", nil, "team-a")
	g.Expect(decision.Problem).To(MatchError(ContainSubstring("spec.access[1].hubNamespaces")))
	g.Expect(decision.Permitted).To(BeFalse())
}
