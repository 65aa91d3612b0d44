package connpool

import (
	"context"
	"sync"
	"time"
)

const (
	// manyObjects is from how many objects on a run is told of once in manyPause at most: whoever
	// is told looks at all of them.
	manyObjects = 500
	manyPause   = time.Second
)

// runNews tells that something of a run has changed.
type runNews struct {
	ctx  context.Context
	told func(key string)

	mu      sync.Mutex
	waiting map[string]bool // runs with many objects that are told of soon
}

func newRunNews(ctx context.Context, told func(key string)) *runNews {
	return &runNews{ctx: ctx, told: told, waiting: map[string]bool{}}
}

func (n *runNews) tell(key string, hasMany bool) {
	if !hasMany {
		n.told(key)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting[key] {
		return
	}
	n.waiting[key] = true
	time.AfterFunc(manyPause, func() {
		n.mu.Lock()
		delete(n.waiting, key)
		n.mu.Unlock()
		if n.ctx.Err() == nil {
			n.told(key)
		}
	})
}
