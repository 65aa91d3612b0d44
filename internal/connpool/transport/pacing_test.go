package transport

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

const atOnce = secondsAtOnce * DefaultPace

// read counts what is read for a view.
func read(t *testing.T, pacing *Pacing, bytes int) {
	t.Helper()
	if err := pacing.took(t.Context(), forView, bytes, bytes); err != nil {
		t.Fatal(err)
	}
}

func TestViewsAreHeldBackOnlyWhileMoreIsSentThanRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacing := NewPacing(DefaultPace)
		read(t, pacing, atOnce)
		if at := pacing.HeldBackAt(); !at.IsZero() {
			t.Fatalf("held back at %v, although nothing waited", at)
		}
		done := make(chan struct{})
		go func() {
			read(t, pacing, 2*DefaultPace)
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

// An answer that waits while it is read is in the way of the watches.
func TestRequestsWaitBeforeTheyAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacing, begun := NewPacing(DefaultPace), time.Now()
		for range 2 * atOnce / longAnswer {
			if err := pacing.took(t.Context(), forRequest, longAnswer, longAnswer); err != nil {
				t.Fatal(err)
			}
		}
		if waited := time.Since(begun); waited > 0 {
			t.Fatalf("answers waited %v while they were read", waited)
		}
		read(t, pacing, atOnce)
		if waited := time.Since(begun); waited > 0 || !pacing.HeldBackAt().IsZero() {
			t.Fatalf("a view waited %v for what requests have used", waited)
		}
		if err := pacing.begin(t.Context(), forRequest); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(begun); waited < secondsAtOnce*time.Second {
			t.Fatalf("the next request waited %v, want until the pace allows what was read", waited)
		}
	})
}

func TestLongAnswerIsReadAtThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacing, begun := NewPacing(DefaultPace), time.Now()
		for length := longAnswer; length <= 2*atOnce; length += longAnswer {
			if err := pacing.took(t.Context(), forRequest, longAnswer, length); err != nil {
				t.Fatal(err)
			}
		}
		if waited := time.Since(begun); waited < (secondsAtOnce-1)*time.Second {
			t.Fatalf("%v for twice what may be read at once, want the pace", waited)
		}
		if at := pacing.HeldBackAt(); !at.Equal(time.Now()) {
			t.Fatalf("views were held back at %v, want %v: the answer was in their way", at, time.Now())
		}
	})
}

func TestSlowSocketsHoldViewsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacing := NewPacing(DefaultPace)
		if delay := pacing.reserve(pacing.reads, readBurst); delay > 0 {
			t.Fatalf("the first bytes wait %v", delay)
		}
		if delay := pacing.reserve(pacing.reads, readPace); delay != time.Second || !pacing.HeldBackAt().Equal(time.Now()) {
			t.Fatalf("the next second's worth waits %v, and views were held back at %v; want a second, and now", delay, pacing.HeldBackAt())
		}
	})
}

// An answer may be larger than what may be read at once, and a wait ends with its request.
func TestWaitOfAViewEndsWithItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacing := NewPacing(DefaultPace)
		read(t, pacing, atOnce)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := pacing.took(ctx, forView, 100*atOnce, 100*atOnce); err == nil {
			t.Fatal("the wait ended without an error, although its request was over")
		}
		begun := time.Now()
		read(t, pacing, DefaultPace)
		if waited := time.Since(begun); waited != secondsAtOnce*time.Second {
			t.Fatalf("the next one waited %v, want for what was read before", waited)
		}
	})
}
