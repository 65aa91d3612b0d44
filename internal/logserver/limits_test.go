package logserver

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestARequestTakesAPlaceOfItsUserItsNamespaceAndOfAll(t *testing.T) {
	for name, test := range map[string]struct {
		limits Limits
		// user and namespace are those of the request of that number.
		user, namespace func(int) string
		says            string
	}{
		"one user": {
			Limits{PerUser: 3, PerNamespace: 9, Total: 9}, same, number, `user "same"`,
		},
		"many users of one namespace": {
			Limits{PerUser: 9, PerNamespace: 3, Total: 9}, number, same, `namespace "same"`,
		},
		"many users of many namespaces": {
			Limits{PerUser: 9, PerNamespace: 9, Total: 3}, number, number, "log API",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, l := NewWithT(t), newLimits(test.limits)
			var leave func()
			for i := range 3 {
				var err error
				leave, err = l.enterFor(test.user(i), test.namespace(i), 1)
				g.Expect(err).NotTo(HaveOccurred())
			}
			_, err := l.enterFor(test.user(3), test.namespace(3), 1)
			g.Expect(apierrors.IsTooManyRequests(err)).To(BeTrue(), "%v", err)
			g.Expect(err).To(MatchError(ContainSubstring(test.says)))
			leave()
			leave, err = l.enterFor(test.user(3), test.namespace(3), 1)
			g.Expect(err).NotTo(HaveOccurred(), "a refused request keeps no place")
			leave()
		})
	}
}

func same(int) string { return "same" }

func number(i int) string { return fmt.Sprint(i) }

func TestALimitBelowOneIsRefused(t *testing.T) {
	g := NewWithT(t)
	g.Expect(Limits{PerUser: 1, PerNamespace: 1, PerConnection: 1, Total: 1}.Validate()).To(Succeed())
	g.Expect(Limits{PerUser: 1, PerNamespace: 0, PerConnection: 1, Total: 1}.Validate()).To(MatchError(ContainSubstring("--logs-per-namespace is 0")))
}

func TestARequestForManyLogsTakesAsManyPlaces(t *testing.T) {
	g, l := NewWithT(t), newLimits(Limits{PerUser: 7, PerNamespace: 9, Total: 9})
	leave, err := l.enterFor("a", "b", 5)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = l.enterFor("a", "b", 5)
	g.Expect(apierrors.IsTooManyRequests(err)).To(BeTrue(), "%v", err)
	leave()
	for range 2 {
		leave, err = l.enterFor("a", "b", 5)
		g.Expect(err).NotTo(HaveOccurred())
		leave()
	}
	g.Expect(newLimits(Limits{PerUser: 2, PerNamespace: 2, Total: 2}).enterFor("a", "b", 5)).NotTo(BeNil(), "one is let in, however low the limits are")
}

func TestARequestForAllPodsTakesPlacesOfItsConnection(t *testing.T) {
	g, l := NewWithT(t), newLimits(Limits{PerConnection: 2 * podsAtOnce})
	leave, err := l.enterConnection("c", podsAtOnce)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = l.enterConnection("c", podsAtOnce)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = l.enterConnection("c", 1)
	g.Expect(err).To(HaveOccurred())
	leave()
	g.Expect(l.served()).To(HaveKeyWithValue("c", podsAtOnce))
}
