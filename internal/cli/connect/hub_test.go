package connect

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func TestReadyMeansReadyWithTheNewToken(t *testing.T) {
	g := NewWithT(t)
	fresh := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	ready := func(until time.Time) bool {
		at := metav1.NewTime(until)
		return isReadyUntil(&v1alpha1.ClusterConnection{Status: v1alpha1.ClusterConnectionStatus{
			CredentialsExpireAt: &at,
			Conditions:          []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonConnected}},
		}}, fresh)
	}
	g.Expect(ready(fresh)).To(BeTrue())
	g.Expect(ready(fresh.Add(-time.Hour))).To(BeFalse(), "it is still the one before")
	g.Expect(ready(fresh.Add(time.Hour))).To(BeFalse(), "the one before lasted longer")
}
