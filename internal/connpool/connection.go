package connpool

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// newsInterval is the shortest time between two texts for an unreachable target.
const newsInterval = 5 * time.Minute

// connection runs the sessions to one target.
type connection struct {
	name    string
	config  Config
	options Options
	log     logr.Logger
	ctx     context.Context
	cancel  context.CancelFunc

	mu      sync.Mutex
	status  Status
	saidAt  time.Time // when status.Err last changed
	current *session  // not nil exactly while status.State is Ready
	expects string    // the cluster UID that sessions must find; "" is any
}

func newConnection(ctx context.Context, name string, config Config, options Options) *connection {
	c := &connection{
		name: name, config: config, options: options,
		log:     options.Log.WithValues("connection", name, "server", config.Server),
		status:  Status{State: Connecting},
		expects: config.ClusterUID,
	}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// run opens sessions until the connection is closed.
func (c *connection) run() {
	for failures := 0; c.ctx.Err() == nil; {
		begin := time.Now()
		err := c.runSession()
		if c.ctx.Err() != nil {
			break
		}
		if time.Since(begin) > c.options.MaxBackoff {
			failures = 0 // a session that lasted, not one that comes and goes
		}
		c.lost(err)
		if !sleep(c.ctx, c.backoff(failures)) {
			break
		}
		failures++
	}
	c.mu.Lock()
	c.current = nil
	c.mu.Unlock()
}

// runSession opens one session, serves it until it ends, and returns why it did.
func (c *connection) runSession() error {
	s, err := openSession(c.ctx, c)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.sync(); err != nil {
		return err
	}
	c.ready(s)
	return s.serve(c.contact)
}

// backoff is a random time below a limit that doubles with every failure, so that
// the connections of many targets that went down together do not come back at the
// same moment.
func (c *connection) backoff(failures int) time.Duration {
	limit := c.options.MaxBackoff
	if failures < 16 {
		limit = min(limit, c.options.MinBackoff<<failures)
	}
	return c.options.MinBackoff/2 + rand.N(limit)
}

func (c *connection) ready(s *session) {
	c.change(func() {
		c.current = s
		c.status = Status{State: Ready, KubernetesVersion: s.version, ClusterUID: s.clusterUID, LastContact: time.Now()}
		c.expects = s.clusterUID
	})
	c.log.Info("Connected", "version", s.version, "clusterUID", s.clusterUID)
}

// lost records why there is no session. Attempts that fail as the last one did are
// no news, and other words for it are at most once in newsInterval: those of a
// network error vary with every attempt, and each change is written to the hub.
func (c *connection) lost(err error) {
	state := stateAfter(err)
	err = redact(err, c.config.Token)
	c.mu.Lock()
	same := c.status.State == state && (c.status.Err.Error() == err.Error() ||
		(state == Unreachable && time.Since(c.saidAt) < newsInterval))
	c.mu.Unlock()
	if same {
		return
	}
	c.change(func() {
		c.current = nil
		c.status.State, c.status.Err, c.saidAt = state, err, time.Now()
	})
	c.log.Info("Not connected", "state", state, "reason", err.Error())
}

// contact notes that the target has answered.
func (c *connection) contact() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.LastContact = time.Now()
}

// change applies an assignment under the lock and reports it after.
func (c *connection) change(assign func()) {
	c.mu.Lock()
	assign()
	c.mu.Unlock()
	c.options.OnState(c.name)
}

// expect sets the cluster that later sessions must find, unless one is known.
func (c *connection) expect(clusterUID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expects == "" {
		c.expects = clusterUID
	}
}

func (c *connection) expected() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expects
}

func (c *connection) snapshot() (Status, *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status, c.current
}
