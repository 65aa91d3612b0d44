package orphan

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"
)

// TestClaims: a list answers for all who want one that began after a moment before it did,
// for as long as it is young, also if it took longer than that.
func TestClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxAge, takes = time.Minute, 2 * time.Minute
		var c claims
		var lists int
		var broken, whileListing error
		pass := func(d time.Duration) {
			time.Sleep(d) //nolint:forbidigo // the clock of the bubble
			synctest.Wait()
		}
		list := func() (map[string][]claim, error) {
			lists++
			pass(takes)
			_, whileListing = c.listedAfter(time.Time{}, maxAge, clock.RealClock{}, nil)
			return map[string][]claim{strconv.Itoa(lists): nil}, broken
		}
		ask := func(moment time.Time, want int, why string) {
			t.Helper()
			found, err := c.listedAfter(moment, maxAge, clock.RealClock{}, list)
			_, isWanted := found[strconv.Itoa(want)]
			if lists != want || !errors.Is(err, broken) || isWanted != (broken == nil) {
				t.Fatalf("%s: %v after %d lists, want the one with number %d; error %v, want %v", why, found, lists, want, err, broken)
			}
		}

		before := time.Now()
		pass(time.Second)
		ask(before, 1, "the first")
		if !errors.Is(whileListing, errListing) {
			t.Errorf("another connection meanwhile: %v, want %v", whileListing, errListing)
		}
		ask(before, 1, "another connection")
		ask(time.Now().Add(-takes/2), 2, "a Job that was seen while the hub listed")
		pass(maxAge - time.Second)
		ask(before, 2, "young enough")
		pass(2 * time.Second)
		if c.byName != nil {
			t.Error("a list that nobody may use any more is kept")
		}
		broken = errors.New("no answer")
		ask(before, 3, "too old")
		broken = nil
		ask(before, 4, "after a failure")
	})
}
