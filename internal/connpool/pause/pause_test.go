package pause

import (
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
)

func TestBackoff(t *testing.T) {
	g := NewWithT(t)
	const least, most = time.Second, time.Minute
	for failures, limit := range map[int]time.Duration{
		0: least, 1: 2 * least, 2: 4 * least, 5: 32 * least, 6: most, 7: most, 15: most, 16: most, 64: most, 1 << 20: most,
	} {
		low, high := time.Hour, time.Duration(0)
		for range 1000 {
			wait := Backoff(least, most, failures)
			low, high = min(low, wait), max(high, wait)
		}
		g.Expect(low).To(BeNumerically(">=", least/2), "after %d failures", failures)
		g.Expect(high).To(BeNumerically("<", least/2+limit), "after %d failures", failures)
		g.Expect(high-low).To(BeNumerically(">", limit*8/10), "no jitter after %d failures", failures)
	}
}

func TestAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		attempts := Attempts{Shortest: time.Second, Longest: time.Minute}
		longest := func(lasting time.Duration) (most time.Duration) {
			for range 1000 {
				next := attempts
				next.Begin()
				For(t.Context(), lasting)
				most = max(most, next.Pause())
			}
			attempts.Begin()
			For(t.Context(), lasting)
			attempts.Pause()
			return most
		}
		for _, limit := range []time.Duration{1, 2, 4, 8} {
			g.Expect(longest(0)).To(BeNumerically("~", limit*time.Second+time.Second/2, limit*time.Second/5))
		}
		g.Expect(longest(2*time.Minute)).To(BeNumerically("<", 1500*time.Millisecond), "it had lasted")
		g.Expect(longest(0)).To(BeNumerically(">", 1500*time.Millisecond))
		attempts.Reset()
		g.Expect(longest(0)).To(BeNumerically("<", 1500*time.Millisecond))
	})
}
