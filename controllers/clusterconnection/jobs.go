package clusterconnection

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// countTimes remembers when the jobs of each connection were last counted.
type countTimes struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// due reports whether name may be counted now; if not, how long from now it may.
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
func (r *Reconciler) countJobs(ctx context.Context, connection *v1alpha1.ClusterConnection) (time.Duration, error) {
	wait, ok := r.counted.due(connection.Name, r.Now())
	if !ok {
		return wait, nil
	}
	var jobs v1alpha1.PooledJobList
	if err := r.Hub.List(ctx, &jobs, client.MatchingFields{hubcache.JobsInNeed: connection.Name}, client.UnsafeDisableDeepCopy); err != nil {
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

// jobCountChanged reports whether an update moves a PooledJob from one count to
// another, or out of its connection's way.
func (r *Reconciler) jobCountChanged(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*v1alpha1.PooledJob)
	after, ok2 := e.ObjectNew.(*v1alpha1.PooledJob)
	if !ok || !ok2 {
		return false
	}
	return jobstatus.Finished(&before.Status) != jobstatus.Finished(&after.Status) ||
		jobstatus.Dispatched(&before.Status) != jobstatus.Dispatched(&after.Status) ||
		hubcache.NeedsConnection(before) != hubcache.NeedsConnection(after) ||
		hubcache.ClusterOf(before, r.HubID) != hubcache.ClusterOf(after, r.HubID) ||
		controllerutil.ContainsFinalizer(before, v1alpha1.FinalizerPooledJob) != controllerutil.ContainsFinalizer(after, v1alpha1.FinalizerPooledJob)
}

// idleTimes remembers since when each connection has no job that needs it.
type idleTimes struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// update notes whether name is needed, and returns since when it is not.
func (i *idleTimes) update(name string, needed bool, now time.Time) time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	if needed {
		delete(i.since, name)
		return now
	}
	if i.since == nil {
		i.since = map[string]time.Time{}
	}
	if _, ok := i.since[name]; !ok {
		i.since[name] = now
	}
	return i.since[name]
}

// sleepIfIdle puts a connection to sleep that no job has needed for as long as its spec
// says. It returns the time until then, if that has not passed.
func (r *Reconciler) sleepIfIdle(ctx context.Context, connection *v1alpha1.ClusterConnection) (time.Duration, error) {
	timeout := connection.Spec.IdleTimeoutSeconds
	if timeout == nil || *timeout == 0 {
		r.idle.update(connection.Name, true, time.Time{})
		r.Connections.Wake(connection.Name)
		return 0, nil
	}
	var jobs v1alpha1.PooledJobList
	if err := r.Hub.List(ctx, &jobs, client.MatchingFields{hubcache.JobsInNeed: connection.Name}, client.Limit(1), client.UnsafeDisableDeepCopy); err != nil {
		return 0, fmt.Errorf("looking for unfinished PooledJobs of the connection: %w", err)
	}
	now, needed := r.Now(), len(jobs.Items) > 0
	since := r.idle.update(connection.Name, needed, now)
	if needed {
		return 0, nil
	}
	left := since.Add(time.Duration(*timeout) * time.Second).Sub(now)
	if left <= 0 && !r.renewals.isWaking(connection.Name) {
		r.Connections.Sleep(connection.Name)
	}
	return max(left, 0), nil
}
