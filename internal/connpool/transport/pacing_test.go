package transport

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// read counts what is read of an answer.
func read(t *testing.T, pacing *Pacing, purpose readPurpose, bytes int) {
	t.Helper()
	if err := pacing.wait(t.Context(), purpose, bytes); err != nil {
		t.Fatal(err)
	}
}

func TestViewsAreHeldBackOnlyWhileMoreIsSentThanRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacing := NewPacing()
		read(t, pacing, forView, paceBurst)
		if at := pacing.HeldBackAt(); !at.IsZero() {
			t.Fatalf("held back at %v, although nothing waited", at)
		}
		done := make(chan struct{})
		go func() {
			read(t, pacing, forView, 2*pace)
			close(done)
		}()
		<-time.After(time.Second)
		if at := pacing.HeldBackAt(); !at.Equal(time.Now()) {
			t.Fatalf("held back at %v, want now, %v: something waits", at, time.Now())
		}
		<-done
		read := time.Now()
		<-time.After(time.Minute)
		if at := pacing.HeldBackAt(); !at.Equal(read) {
			t.Fatalf("held back at %v, want %v, when the last of it was read", at, read)
		}
	})
}

func TestRequestsDoNotHoldViewsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacing, begun := NewPacing(), time.Now()
		for range 2*paceBurst/requestCost + 1 {
			read(t, pacing, forRequest, requestCost)
		}
		if time.Since(begun) < paceBurst/pace*time.Second {
			t.Fatalf("%v for twice what may be read at once, want the pace", time.Since(begun))
		}
		begun = time.Now()
		read(t, pacing, forView, paceBurst)
		if waited := time.Since(begun); waited > 0 || !pacing.HeldBackAt().IsZero() {
			t.Fatalf("a view waited %v for what requests have used", waited)
		}
	})
}

func TestSlowSocketsHoldViewsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacing := NewPacing()
		if delay := pacing.reserve(pacing.reads, readBurst); delay > 0 {
			t.Fatalf("the first bytes wait %v", delay)
		}
		if delay := pacing.reserve(pacing.reads, readPace); delay != time.Second || !pacing.HeldBackAt().Equal(time.Now()) {
			t.Fatalf("the next second's worth waits %v, and views were held back at %v; want a second, and now", delay, pacing.HeldBackAt())
		}
	})
}

// An answer may be larger than what may be read at once, and a wait ends with its request.
func TestWaitForTheViewIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacing := NewPacing()
		read(t, pacing, forView, paceBurst)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := pacing.wait(ctx, forView, 100*paceBurst); err == nil {
			t.Fatal("the wait ended without an error, although its request was over")
		}
		read(t, pacing, forView, pace)
		if waited := pacing.HeldBackAt(); time.Now().Before(waited) {
			t.Fatalf("views are held back until %v", waited)
		}
	})
}
