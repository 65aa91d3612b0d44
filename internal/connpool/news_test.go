package connpool

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"

	"github.com/pooledjob/pooledjob/internal/connpool/pause"
)

// newsRig counts how often a runNews calls back for each key.
type newsRig struct {
	*WithT
	*runNews
	mu   sync.Mutex
	told map[string]int
}

func newNewsRig(t *testing.T) *newsRig {
	r := &newsRig{WithT: NewWithT(t), told: map[string]int{}}
	r.runNews = newRunNews(t.Context(), func(key string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told[key]++
	}, newLooks())
	return r
}

func (r *newsRig) times(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told[key]
}

// after lets time pass.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestARunWithManyObjectsIsToldOfOncePerPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newNewsRig(t)
		r.notify("a", pause.FewObjects)
		r.notify("a", 1)
		r.Expect(r.times("a")).To(Equal(2))
		r.notify("a", 100)
		r.Expect(r.times("a")).To(Equal(3), "it was not told of for a while")
		for range 10 {
			r.notify("a", 100)
		}
		r.Expect(r.times("a")).To(Equal(3))
		after(100 * pause.LookPerObject)
		r.Expect(r.times("a")).To(Equal(4))
		r.notify("a", 100)
		r.Expect(r.times("a")).To(Equal(4))
		after(100 * pause.LookPerObject)
		r.Expect(r.times("a")).To(Equal(5))
		after(100 * pause.LookPerObject)
		r.Expect(r.times("a")).To(Equal(5), "there was nothing new")
		r.Expect(r.waiting).To(BeEmpty())

		r.notify("a", 1_000_000)
		r.Expect(r.times("a")).To(Equal(6))
		r.notify("a", 1_000_000)
		after(pause.LongestLook)
		r.Expect(r.times("a")).To(Equal(7))
		after(pause.LongestLook)
	})
}

func TestTheRunsOfAConnectionAreToldOfAtAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, told := newNewsRig(t), 0
		runs := lookBurst + 100*runtime.GOMAXPROCS(0)*lookPace
		for n := range runs {
			r.notify(fmt.Sprint(n), 1)
			r.notify(fmt.Sprint(n), 1)
		}
		for n := range runs {
			told += r.times(fmt.Sprint(n))
		}
		r.Expect(told).To(Equal(lookBurst))
		after(pause.LongestLook)
		for n := range runs {
			r.Expect(r.times(fmt.Sprint(n))).To(BeNumerically(">", 0), "nothing is lost")
		}
		r.Expect(r.waiting).To(BeEmpty())
	})
}
