package hubcache

import (
	"context"
	"fmt"
	"sync"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// Tally is how many PooledJobs each ClusterConnection has, also finished ones, as the cache has them.
type Tally struct {
	hubID string

	mu     sync.RWMutex
	all    int
	counts map[string]int // by ClusterConnection
}

// NewTally counts the PooledJobs in a cache from now on.
func NewTally(ctx context.Context, hub cache.Cache, hubID string) (*Tally, error) {
	t := &Tally{hubID: hubID, counts: map[string]int{}}
	informer, err := hub.GetInformer(ctx, &v1alpha1.PooledJob{})
	if err != nil {
		return nil, fmt.Errorf("the cache of PooledJobs: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { t.add(obj, 1) },
		UpdateFunc: t.move,
		DeleteFunc: func(obj any) { t.add(obj, -1) },
	})
	if err != nil {
		return nil, fmt.Errorf("the cache of PooledJobs: %w", err)
	}
	return t, nil
}

// Of returns how many PooledJobs a ClusterConnection has or, for the empty name, all.
func (t *Tally) Of(connection string) int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if connection == "" {
		return t.all
	}
	return t.counts[connection]
}

func (t *Tally) add(obj any, number int) {
	if gone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	job, ok := obj.(*v1alpha1.PooledJob)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all += number
	t.count(ClusterOf(job, t.hubID), number)
}

// move counts a PooledJob for another ClusterConnection than before.
func (t *Tally) move(before, after any) {
	old, ok := before.(*v1alpha1.PooledJob)
	now, ok2 := after.(*v1alpha1.PooledJob)
	if !ok || !ok2 {
		return
	}
	from, to := ClusterOf(old, t.hubID), ClusterOf(now, t.hubID)
	if from == to {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(from, -1)
	t.count(to, 1)
}

// count changes the count of a ClusterConnection, if there is one. t.mu is held.
func (t *Tally) count(name string, number int) {
	if name == "" {
		return
	}
	t.counts[name] += number
	if t.counts[name] == 0 {
		delete(t.counts, name)
	}
}
