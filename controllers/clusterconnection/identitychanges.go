package clusterconnection

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/pooledjob/pooledjob/internal/connpool"
)

// A change of the identity ends a session and begins another one, and all runs of the connection are
// looked at and written each time. So whoever writes a kubeconfig again and again would keep the
// manager and the hub from others: beyond identityBurst changes there is one in identityPause.
const (
	identityBurst = 30
	identityPause = 30 * time.Second
)

// identityChange is the last change of a connection's identity, and how often it may change.
type identityChange struct {
	identity connpool.Identity
	pace     *rate.Limiter // nil before the first
}

// change notes that the connection is to use an identity, or returns how long it is to keep the one that
// it has.
func (c *identityChange) change(to connpool.Identity, now time.Time) (pause time.Duration) {
	if c.pace == nil {
		c.identity, c.pace = to, rate.NewLimiter(rate.Every(identityPause), identityBurst)
		return 0
	}
	if c.identity.Equal(to) {
		return 0
	}
	next := c.pace.ReserveN(now, 1)
	if pause = next.DelayFrom(now); pause > 0 {
		next.CancelAt(now)
		return pause
	}
	c.identity = to
	return 0
}
