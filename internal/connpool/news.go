package connpool

import (
	"context"
	"runtime"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pooledjob/pooledjob/internal/connpool/pause"
)

// OnChange of a run leads to a look at all of its objects, so between two calls for one run there is a pause
// that grows with them (pause.Look). The calls for all runs of a connection together come at lookPace, and none
// comes later than after pause.LongestLook.
const (
	// lookPace is how often OnChange is called in a second, for each CPU, for changed runs of one connection
	// in the long run, and lookBurst how often at once.
	lookPace  = 500
	lookBurst = 20_000
)

// newLooks bounds how often runs of one connection are looked at. Sessions that follow each other have it
// together.
func newLooks() *rate.Limiter {
	return rate.NewLimiter(lookPace*rate.Limit(runtime.GOMAXPROCS(0)), lookBurst)
}

// runNews calls OnChange when something of a run has changed.
type runNews struct {
	ctx   context.Context
	told  func(key string)
	looks *rate.Limiter

	mu      sync.Mutex
	waiting map[string]*waitingRun
}

// waitingRun is a run for which OnChange is called after a pause, if there is news.
type waitingRun struct {
	objects int
	news    bool
}

func newRunNews(ctx context.Context, told func(key string), looks *rate.Limiter) *runNews {
	return &runNews{ctx: ctx, told: told, looks: looks, waiting: map[string]*waitingRun{}}
}

// notify passes on the news of a run that has so many objects, at once if its pause is over.
func (n *runNews) notify(key string, objects int) {
	if n.schedule(key, objects) {
		n.told(key)
	}
}

// schedule reports whether the news of a run is to be passed on now. If not, it schedules that for later;
// news that comes meanwhile goes with it.
func (n *runNews) schedule(key string, objects int) (now bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if run := n.waiting[key]; run != nil {
		run.objects, run.news = objects, true
		return false
	}
	delay := n.turn()
	if wait := max(delay, pause.Look(objects)); wait > 0 {
		n.waiting[key] = &waitingRun{objects: objects, news: delay > 0}
		time.AfterFunc(wait, func() { n.notifyLate(key) })
	}
	return delay == 0
}

// notifyLate passes on the news of a run that has waited, if there is any.
func (n *runNews) notifyLate(key string) {
	if n.next(key) && n.ctx.Err() == nil {
		n.told(key)
	}
}

// next reports whether there is news of a run that has waited. If so, it waits again.
func (n *runNews) next(key string) (news bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	run := n.waiting[key]
	wait := pause.Look(run.objects)
	if !run.news || wait == 0 {
		delete(n.waiting, key)
		return run.news
	}
	run.news = false
	time.AfterFunc(max(wait, n.turn()), func() { n.notifyLate(key) })
	return true
}

// turn returns the time until OnChange may be called for another run.
func (n *runNews) turn() time.Duration {
	next := n.looks.Reserve()
	if delay := next.Delay(); delay <= pause.LongestLook {
		return delay
	}
	next.Cancel() // else those who come later would wait longer and longer
	return pause.LongestLook
}
