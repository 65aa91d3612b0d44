package wakeup

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func TestMomentsAreTheEarliestAndTakenOnce(t *testing.T) {
	g, moment := NewWithT(t), time.Unix(1, 0)
	var m Moments[string]
	g.Expect(m.Take("a")).To(BeZero())
	m.Note("a", moment)
	m.Note("a", moment.Add(time.Second))
	g.Expect(m.Take("a")).To(Equal(moment))
	g.Expect(m.Take("a")).To(BeZero())
	g.Expect(m.at).To(BeEmpty())
}
