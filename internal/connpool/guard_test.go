package connpool

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
)

// guarded is a guard at work. A test in a bubble of synctest fails when a goroutine
// of it is left.
type guarded struct {
	inner       *watch.FakeWatcher
	outer       watch.Interface
	heard, open atomic.Int64
	cancelled   atomic.Int64
}

func newGuarded() *guarded {
	g := &guarded{inner: watch.NewFake()}
	g.outer = guard(g.inner, func() { g.cancelled.Add(1) }, &g.heard, &g.open, time.Minute)
	synctest.Wait()
	return g
}

// expectEnded looks whether nothing of the guard is left.
func (gd *guarded) expectEnded(g *WithT) {
	synctest.Wait()
	g.Expect(gd.outer.ResultChan()).To(BeClosed())
	g.Expect(gd.inner.IsStopped()).To(BeTrue(), "the watch below is still open")
	g.Expect(gd.open.Load()).To(BeZero())
	g.Expect(gd.cancelled.Load()).To(BeEquivalentTo(1), "the context of the watch is never let go")
	gd.outer.Stop() // as a reader does that has seen the end
}

func TestGuardHandsEventsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, gd := NewWithT(t), newGuarded()
		g.Expect(gd.open.Load()).To(BeEquivalentTo(1))
		g.Expect(gd.heard.Load()).To(BeZero(), "a watch that is granted and silent proves nothing")
		for range 3 {
			time.Sleep(50 * time.Second) //nolint:forbidigo // the clock of the bubble
			go gd.inner.Add(&corev1.Pod{})
			g.Expect((<-gd.outer.ResultChan()).Type).To(Equal(watch.Added))
			synctest.Wait()
			g.Expect(gd.heard.Load()).To(Equal(time.Now().UnixNano()))
		}
		g.Expect(gd.open.Load()).To(BeEquivalentTo(1))
		gd.outer.Stop()
		gd.expectEnded(g)
	})
}

func TestGuardEndsASilentWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, gd := NewWithT(t), newGuarded()
		time.Sleep(30 * time.Second) //nolint:forbidigo // the clock of the bubble
		go gd.inner.Action(watch.Bookmark, &corev1.Pod{})
		<-gd.outer.ResultChan()
		last := time.Now()
		end := <-gd.outer.ResultChan()
		g.Expect(end.Type).To(Equal(watch.Error))
		g.Expect(apierrors.IsResourceExpired(apierrors.FromObject(end.Object))).To(BeTrue(), "its reader must list anew")
		g.Expect(time.Since(last)).To(Equal(time.Minute), "it counts from the last event")
		g.Expect(gd.heard.Load()).To(Equal(last.UnixNano()), "its end is no news")
		gd.expectEnded(g)
	})
}

func TestGuardEndsASilentWatchThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, gd := NewWithT(t), newGuarded()
		time.Sleep(2 * time.Minute) //nolint:forbidigo // the clock of the bubble
		gd.outer.Stop()
		gd.expectEnded(g)
	})
}

func TestGuardEndsWithTheWatchBelow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, gd := NewWithT(t), newGuarded()
		gd.inner.Stop()
		gd.expectEnded(g)
	})
}

func TestGuardCanBeStoppedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, gd := NewWithT(t), newGuarded()
		for range 3 {
			go gd.outer.Stop()
		}
		gd.outer.Stop()
		gd.expectEnded(g)
	})
}

func TestGuardCanBeStoppedWhileAnEventWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, gd := NewWithT(t), newGuarded()
		gd.inner.Add(&corev1.Pod{}) // which nobody reads
		synctest.Wait()
		gd.outer.Stop()
		gd.expectEnded(g)
	})
}
