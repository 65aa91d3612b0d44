package transport

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPacingIsBehindUntilEverythingIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacing := NewPacing()
		if pacing.IsBehind() {
			t.Fatal("a connection that has read nothing is behind")
		}
		answer := &paced{ctx: context.Background(), pacing: pacing}
		answer.charge(decodedFraction * paceBurst)
		if !pacing.IsBehind() {
			t.Fatal("not behind, although the whole burst was used")
		}
		answer.charge(decodedFraction * pace)
		if !pacing.IsBehind() {
			t.Fatal("not behind, although the reader was held back")
		}
		<-time.After(time.Second)
		if pacing.IsBehind() {
			t.Fatal("still behind, although nothing was read for a second")
		}
	})
}
