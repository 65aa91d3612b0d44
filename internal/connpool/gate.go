package connpool

import (
	"slices"
	"time"

	"k8s.io/client-go/util/flowcontrol"
)

// ticksPerSecond is how often the list is looked at for new tokens, at most.
const ticksPerSecond = 20

// gate bounds the calls to one target. A caller that finds it full does not wait, for that
// would keep a worker from other targets: its key is put on a list, and the caller is notified when
// there is room. Pool.mu guards it.
type gate struct {
	limit    int
	qps      int
	limiter  flowcontrol.RateLimiter // nil without a bound
	inFlight int
	queue    []string // keys, first come first served
	queued   map[string]struct{}
	ticking  bool // somebody will look at the queue when there is a token again
}

// set changes the bounds.
func (g *gate) set(limit, qps int) {
	g.limit = limit
	if g.qps == qps {
		return
	}
	g.qps, g.limiter = qps, nil
	if qps > 0 {
		g.limiter = flowcontrol.NewTokenBucketRateLimiter(float32(qps), qps)
	}
}

// enter lets a call on behalf of key start, or lists it. A call that started must
// leave.
func (g *gate) enter(key string) bool {
	if g.inFlight < g.limit && (g.limiter == nil || g.limiter.TryAccept()) {
		g.inFlight++
		return true
	}
	if _, ok := g.queued[key]; !ok && key != "" {
		if g.queued == nil {
			g.queued = map[string]struct{}{}
		}
		g.queued[key] = struct{}{}
		g.queue = append(g.queue, key)
	}
	return false
}

func (g *gate) leave() { g.inFlight-- }

// dequeue takes as many keys off the list as there is room for: with a bound per second one
// at a time, as there are tokens.
func (g *gate) dequeue() []string {
	room := min(max(g.limit-g.inFlight, 0), len(g.queue))
	if g.limiter != nil {
		room = min(room, max(g.qps/ticksPerSecond, 1))
	}
	keys := slices.Clone(g.queue[:room])
	g.queue = slices.Delete(g.queue, 0, room)
	for _, key := range keys {
		delete(g.queued, key)
	}
	return keys
}

// tick returns the time until dequeue must be called although no call ends: until the next token
// comes, while somebody is on the list. It is 0 when there is no need, or when a
// tick is on its way already.
func (g *gate) tick() time.Duration {
	if g.limiter == nil || len(g.queue) == 0 || g.ticking {
		return 0
	}
	g.ticking = true
	return time.Second / time.Duration(min(g.qps, ticksPerSecond))
}
