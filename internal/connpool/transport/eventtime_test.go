package transport

import (
	"runtime"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// someTime is when these tests begin.
var someTime = time.Unix(1_800_000_000, 0)

// reader reads events that take some time, one after the other.
type reader struct {
	*EventTime
	took, pause time.Duration // of each, and after each
	next        time.Time     // when it begins with the next
	spent       time.Duration // in all
	waited      time.Duration // at most
}

// readUntil has readers read their events, in the order in which they come to them.
func readUntil(end time.Time, readers ...*reader) {
	for _, r := range readers {
		r.spent, r.waited = 0, 0
	}
	for {
		first := slices.MinFunc(readers, func(a, b *reader) int { return a.next.Compare(b.next) })
		if first.next.After(end) {
			return
		}
		first.next = first.next.Add(first.took)
		delay := first.count(first.next, first.took)
		first.spent += first.took
		first.waited = max(first.waited, delay)
		first.next = first.next.Add(delay + first.pause)
	}
}

func TestConnectionsThatAlwaysHaveEventsShareTheTimeForThem(t *testing.T) {
	share := (time.Duration(runtime.GOMAXPROCS(0)) * eventShare).Seconds()
	for _, number := range []int{1, 3, 40} {
		g, all := NewWithT(t), NewEventTimes()
		readers := make([]*reader, number)
		for i := range readers {
			readers[i] = &reader{EventTime: all.NewPart(), took: time.Millisecond, next: someTime}
		}
		const begin, seconds = 10 * time.Second, 20.0
		readUntil(someTime.Add(begin), readers...) // they use up what they may take at once
		readUntil(someTime.Add(begin+seconds*time.Second), readers...)
		each := share * seconds / float64(number)
		for _, r := range readers {
			g.Expect(r.spent.Seconds()).To(BeNumerically("~", each, each/5), "of %d", number)
		}
	}
}

func TestAConnectionWithFewEventsDoesNotWaitForOthers(t *testing.T) {
	g, all := NewWithT(t), NewEventTimes()
	quiet := &reader{EventTime: all.NewPart(), took: 50 * time.Microsecond, pause: 10 * time.Millisecond, next: someTime}
	readers := []*reader{quiet}
	for range 20 {
		readers = append(readers, &reader{EventTime: all.NewPart(), took: time.Millisecond, next: someTime})
	}
	readUntil(someTime.Add(20*time.Second), readers...)
	g.Expect(quiet.waited).To(BeZero())
	g.Expect(quiet.spent).To(BeNumerically(">", 80*time.Millisecond), "it read on")
}

func TestWhatWaitedForACPUDoesNotCount(t *testing.T) {
	g, one := NewWithT(t), NewEventTimes().NewPart()
	now := someTime
	for range eventBurst / eventSlice {
		g.Expect(one.count(now, time.Hour)).To(BeZero())
	}
	g.Expect(one.count(now, time.Hour)).To(And(BeNumerically(">", 0), BeNumerically("<", time.Second)))
}

func TestAConnectionThatHadEventsAtOnceCatchesUp(t *testing.T) {
	g, all := NewWithT(t), NewEventTimes()
	one := all.NewPart()
	now := someTime
	for range eventBurst / time.Millisecond {
		g.Expect(one.count(now, time.Millisecond)).To(BeZero())
	}
	g.Expect(one.count(now, time.Millisecond)).NotTo(BeZero())
	now = now.Add(busyFor + time.Second)
	g.Expect(one.count(now, time.Millisecond)).To(BeZero())
	g.Expect(all.busy).To(BeEmpty(), "nothing is kept of a connection that is no longer busy")
}
