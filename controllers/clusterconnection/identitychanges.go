package clusterconnection

import (
	"sync"
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

// identityChanges bound how often connections change their identity.
type identityChanges struct {
	mu   sync.Mutex
	last map[string]*identityChange // by connection
}

type identityChange struct {
	identity connpool.Identity
	pace     *rate.Limiter
}

// change notes that a connection is to use an identity, or returns how long it is to keep the one that it
// has.
func (c *identityChanges) change(connection string, to connpool.Identity, now time.Time) (pause time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.last[connection]
	if last == nil {
		if c.last == nil {
			c.last = map[string]*identityChange{}
		}
		c.last[connection] = &identityChange{identity: to, pace: rate.NewLimiter(rate.Every(identityPause), identityBurst)}
		return 0
	}
	if last.identity.Equal(to) {
		return 0
	}
	next := last.pace.ReserveN(now, 1)
	if pause = next.DelayFrom(now); pause > 0 {
		next.CancelAt(now)
		return pause
	}
	last.identity = to
	return 0
}

func (c *identityChanges) forget(connection string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, connection)
}
