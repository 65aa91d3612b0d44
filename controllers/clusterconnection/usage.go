package clusterconnection

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// countJobs refreshes status.jobs, at most every countInterval. It returns the time
// until it may, if that has not passed.
func (r *Reconciler) countJobs(ctx context.Context, connection *v1alpha1.ClusterConnection, m *memory) (time.Duration, error) {
	now := r.Clock.Now()
	if wait := m.countedAt.Add(countInterval).Sub(now); wait > 0 {
		return wait, nil
	}
	m.countedAt = now
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

// sleepIfIdle puts a connection to sleep that no job has needed for as long as its spec
// says. It returns the time until then, if that has not passed.
func (r *Reconciler) sleepIfIdle(ctx context.Context, connection *v1alpha1.ClusterConnection, m *memory) (time.Duration, error) {
	timeout := connection.Spec.IdleTimeoutSeconds
	if timeout == nil || *timeout == 0 {
		m.idleSince = time.Time{}
		r.Connections.Wake(connection.Name)
		return 0, nil
	}
	var jobs v1alpha1.PooledJobList
	if err := r.Hub.List(ctx, &jobs, client.MatchingFields{hubcache.JobsInNeed: connection.Name}, client.Limit(1), client.UnsafeDisableDeepCopy); err != nil {
		return 0, fmt.Errorf("looking for unfinished PooledJobs of the connection: %w", err)
	}
	if len(jobs.Items) > 0 {
		m.idleSince = time.Time{}
		return 0, nil
	}
	now := r.Clock.Now()
	if m.idleSince.IsZero() {
		m.idleSince = now
	}
	left := m.idleSince.Add(time.Duration(*timeout) * time.Second).Sub(now)
	if left <= 0 && !m.renewal.waking {
		r.Connections.Sleep(connection.Name)
	}
	return max(left, 0), nil
}
