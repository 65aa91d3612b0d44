package pooledjob

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func TestEventsOfAClusterAreReadInTurn(t *testing.T) {
	g := NewWithT(t)
	var turns turns
	now := time.Unix(1000, 0)
	for n := range 5 {
		g.Expect(turns.reserve("a", now)).To(Equal(now.Add(time.Duration(n) * eventsInterval)))
	}
	g.Expect(turns.reserve("b", now)).To(Equal(now), "another cluster has turns of its own")
	later := now.Add(time.Hour)
	g.Expect(turns.reserve("a", later)).To(Equal(later))
	g.Expect(turns.next).To(HaveLen(1), "clusters that are not asked are forgotten")
}

func TestTheNewestWarningSpeaks(t *testing.T) {
	g := NewWithT(t)
	at := func(second int64) metav1.Time { return metav1.Unix(second, 0) }
	trouble, ok := troubleOf([]corev1.Event{
		{Reason: "Last", LastTimestamp: at(5)},
		{Reason: "Series", EventTime: metav1.NewMicroTime(at(1).Time), Series: &corev1.EventSeries{LastObservedTime: metav1.NewMicroTime(at(9).Time)}, Message: "again"},
		{Reason: "", LastTimestamp: at(20)},
		{Reason: "Micro", EventTime: metav1.NewMicroTime(at(7).Time)},
		{Reason: "FailedScheduling", LastTimestamp: at(30)},
	}, at(8).Time, true)
	g.Expect(ok).To(BeTrue())
	g.Expect(trouble).To(Equal(v1alpha1.Result{Reason: "Series", Message: "again"}))
	_, ok = troubleOf([]corev1.Event{{Reason: "Before", LastTimestamp: at(5)}}, at(8).Time, false)
	g.Expect(ok).To(BeFalse(), "it is over")
	trouble, _ = troubleOf([]corev1.Event{{Reason: "FailedScheduling", LastTimestamp: at(30)}}, at(8).Time, false)
	g.Expect(trouble.Reason).To(Equal("FailedScheduling"))
}
