package connpool

import (
	"context"
	"sync"
	"time"
)

// Whoever is told of a run looks at all of its objects. So a run of more than fewObjects is told of
// only after a pause, which grows with them by pausePerObject up to manyPause: a target whose runs
// change all the time takes a part of a core for each that does not depend on how many objects they have.
const (
	fewObjects     = 25
	pausePerObject = 2 * time.Millisecond
	manyPause      = time.Second
)

// newsPause is the pause before a run of so many objects is told of.
func newsPause(objects int) time.Duration {
	if objects <= fewObjects {
		return 0
	}
	return min(time.Duration(objects)*pausePerObject, manyPause)
}

// runNews tells that something of a run has changed.
type runNews struct {
	ctx  context.Context
	told func(key string)

	mu      sync.Mutex
	waiting map[string]bool // runs that are told of after their pause
}

func newRunNews(ctx context.Context, told func(key string)) *runNews {
	return &runNews{ctx: ctx, told: told, waiting: map[string]bool{}}
}

// tell tells of a run that has so many objects.
func (n *runNews) tell(key string, objects int) {
	pause := newsPause(objects)
	if pause == 0 {
		n.told(key)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting[key] {
		return
	}
	n.waiting[key] = true
	time.AfterFunc(pause, func() {
		n.mu.Lock()
		delete(n.waiting, key)
		n.mu.Unlock()
		if n.ctx.Err() == nil {
			n.told(key)
		}
	})
}
