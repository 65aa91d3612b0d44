package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// countTimes remembers when the jobs of each connection were last counted.
type countTimes struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// due tells whether name may be counted now; if not, how long from now it may.
func (c *countTimes) due(name string, now time.Time) (wait time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := c.last[name].Add(countInterval).Sub(now); wait > 0 {
		return wait, false
	}
	if c.last == nil {
		c.last = map[string]time.Time{}
	}
	c.last[name] = now
	return 0, true
}

func (c *countTimes) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, name)
}

// countJobs refreshes status.jobs, at most every countInterval. It returns the time
// until it may, if that has not passed.
func (r *ClusterConnectionReconciler) countJobs(ctx context.Context, connection *v1alpha1.ClusterConnection) (time.Duration, error) {
	wait, ok := r.counted.due(connection.Name, r.Now())
	if !ok {
		return wait, nil
	}
	var jobs v1alpha1.PooledJobList
	if err := r.Hub.List(ctx, &jobs, client.MatchingFields{jobsByCluster: connection.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return 0, fmt.Errorf("counting PooledJobs of the connection: %w", err)
	}
	var pending, active int32
	for i := range jobs.Items {
		switch status := &jobs.Items[i].Status; {
		case jobstatus.Finished(status):
		case jobstatus.Dispatched(status):
			active++
		default:
			pending++
		}
	}
	connection.Status.Jobs = v1alpha1.JobCounts{Pending: &pending, Active: &active}
	return 0, nil
}

// jobCountChanged tells whether an update moves a PooledJob from one count to
// another, or out of its connection's way.
func jobCountChanged(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*v1alpha1.PooledJob)
	after, ok2 := e.ObjectNew.(*v1alpha1.PooledJob)
	if !ok || !ok2 {
		return false
	}
	return jobstatus.Finished(&before.Status) != jobstatus.Finished(&after.Status) ||
		jobstatus.Dispatched(&before.Status) != jobstatus.Dispatched(&after.Status) ||
		controllerutil.ContainsFinalizer(before, v1alpha1.FinalizerPooledJob) != controllerutil.ContainsFinalizer(after, v1alpha1.FinalizerPooledJob)
}
