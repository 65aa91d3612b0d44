package controllers

import (
	"context"
	"fmt"
	"sync"

	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// runTally is how many PooledJobs each ClusterConnection has, also finished ones, as the cache has them.
type runTally struct {
	hubID string

	mu     sync.RWMutex
	all    int
	counts map[string]int // by ClusterConnection
}

// newRunTally counts the PooledJobs in a manager's cache from now on.
func newRunTally(ctx context.Context, mgr ctrl.Manager, hubID string) (*runTally, error) {
	t := &runTally{hubID: hubID, counts: map[string]int{}}
	informer, err := mgr.GetCache().GetInformer(ctx, &v1alpha1.PooledJob{})
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

// of is how many PooledJobs a ClusterConnection has or, for the empty name, all.
func (t *runTally) of(connection string) int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if connection == "" {
		return t.all
	}
	return t.counts[connection]
}

func (t *runTally) add(obj any, number int) {
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
	t.count(clusterOf(job, t.hubID), number)
}

// move counts a PooledJob for another ClusterConnection than before.
func (t *runTally) move(before, after any) {
	old, ok := before.(*v1alpha1.PooledJob)
	now, ok2 := after.(*v1alpha1.PooledJob)
	if !ok || !ok2 {
		return
	}
	from, to := clusterOf(old, t.hubID), clusterOf(now, t.hubID)
	if from == to {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(from, -1)
	t.count(to, 1)
}

// count changes the count of a ClusterConnection, if there is one. t.mu is held.
func (t *runTally) count(name string, number int) {
	if name == "" {
		return
	}
	t.counts[name] += number
	if t.counts[name] == 0 {
		delete(t.counts, name)
	}
}
