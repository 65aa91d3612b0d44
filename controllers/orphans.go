package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// An orphan is a Job with this hub's ID that no PooledJob stands behind: its PooledJob
// was abandoned, moved away, lost its finalizer by hand, or is missing from a hub that
// was restored from a backup. Orphans are looked for when a connection becomes Ready
// and every Interval. A Job counts as one only when two looks, Confirmation apart, have
// found it so, the second by a list of the hub's API server: a cache alone is never
// believed.

// OrphanOptions say what is done about orphans. The zero value reports them.
type OrphanOptions struct {
	// Delete has orphans deleted, not just reported.
	Delete bool
	// Interval is the time between two looks at a connection; 0 is 10 minutes.
	Interval time.Duration
	// Confirmation is the time until the second look at what may be an orphan; 0
	// is 30 seconds.
	Confirmation time.Duration
	// Grace is how long after the start nothing is deleted, so that a person can
	// stop the manager of a hub that was restored from a backup; 0 is 10 minutes.
	Grace time.Duration
}

func (o OrphanOptions) withDefaults() OrphanOptions {
	orDefault := func(d, fallback time.Duration) time.Duration {
		if d == 0 {
			return fallback
		}
		return d
	}
	o.Interval = orDefault(o.Interval, 10*time.Minute)
	o.Confirmation = orDefault(o.Confirmation, 30*time.Second)
	o.Grace = orDefault(o.Grace, 10*time.Minute)
	return o
}

const (
	// maxDeletedOrphans and minSharePerOrphan bound what one look deletes: 50, and of
	// ten Jobs one. A mistake then takes hours to do its worst.
	maxDeletedOrphans = 50
	minSharePerOrphan = 10
	// maxNamedOrphans bounds how many an Event names.
	maxNamedOrphans = 5
	// livePage is how many PooledJobs one request for a list asks for.
	livePage = 500
)

// sweep is what is remembered of the looks at one connection.
type sweep struct {
	ready    bool // at the last look
	next     time.Time
	suspects map[types.UID]bool // of the last look
	reported map[types.UID]bool // the orphans of the last look
}

// sweeps are those of all connections.
type sweeps struct {
	mu     sync.Mutex
	byName map[string]sweep
}

func (s *sweeps) of(name string) sweep {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byName[name]
}

func (s *sweeps) set(name string, to sweep) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName == nil {
		s.byName = map[string]sweep{}
	}
	s.byName[name] = to
}

func (s *sweeps) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byName, name)
}

// newOrphanGauge is the metric of orphans.
func newOrphanGauge() *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "pooledjob_connection_orphaned_jobs",
		Help: "Jobs of this installation on the target that no PooledJob stands behind.",
	}, []string{"connection"})
}

// sweep looks for orphans on the target of a connection, if it is time to. It returns
// when it is again.
func (r *ClusterConnectionReconciler) sweep(ctx context.Context, connection *v1alpha1.ClusterConnection) (time.Duration, error) {
	now, state := r.Now(), r.sweeps.of(connection.Name)
	status, ok := r.Connections.Status(connection.Name)
	if !ok || status.State != connpool.Ready || !connection.DeletionTimestamp.IsZero() {
		state.ready = false
		r.sweeps.set(connection.Name, state)
		return 0, nil
	}
	if left := state.next.Sub(now); state.ready && left > 0 {
		return left, nil
	}
	lease, err := r.Connections.Lease(connection.Name, "")
	if err != nil {
		return 0, nil // it has just ended; its return is another occasion
	}
	jobs := lease.Jobs()
	suspects, err := r.suspects(ctx, jobs, lease.ClusterUID())
	if err != nil {
		return 0, err
	}
	orphans := slices.DeleteFunc(slices.Clone(suspects), func(job *batchv1.Job) bool { return !state.suspects[job.UID] })
	if orphans, err = r.confirmOrphans(ctx, orphans, lease.ClusterUID()); err != nil {
		return 0, err
	}
	again := r.Orphans.Interval
	if len(suspects) > len(orphans) {
		again = r.Orphans.Confirmation
	}
	state.ready, state.next, state.suspects = true, now.Add(again), map[types.UID]bool{}
	for _, job := range suspects {
		state.suspects[job.UID] = true
	}
	state.reported = r.report(connection, orphans, state.reported)
	r.sweeps.set(connection.Name, state)
	r.deleteOrphans(ctx, connection.Name, lease, orphans, len(jobs))
	return again, nil
}

// suspects are the Jobs that have no PooledJob behind them in the cache, and are not
// being deleted.
func (r *ClusterConnectionReconciler) suspects(ctx context.Context, jobs []*batchv1.Job, clusterUID string) ([]*batchv1.Job, error) {
	var suspects []*batchv1.Job
	for _, job := range jobs {
		if !job.DeletionTimestamp.IsZero() || job.Labels[v1alpha1.LabelHub] != r.HubID {
			continue
		}
		var found v1alpha1.PooledJobList
		if err := r.Hub.List(ctx, &found, client.MatchingFields{jobsByUID: job.Labels[v1alpha1.LabelUID]}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("looking for the PooledJob of a remote Job: %w", err)
		}
		if len(found.Items) == 0 || !standsBehind(r.HubID, &found.Items[0], job, clusterUID) {
			suspects = append(suspects, job)
		}
	}
	return suspects, nil
}

// standsBehind tells whether a Job of a PooledJob's is the one of its present attempt.
func standsBehind(hubID string, run *v1alpha1.PooledJob, job *batchv1.Job, clusterUID string) bool {
	if jobspec.RemoteName(hubID, run, run.Status.Attempt) != job.Name || jobspec.TargetNamespace(run) != job.Namespace {
		return false
	}
	intent, ok, err := jobspec.IntentOf(run, hubID)
	return !ok || err != nil || intent.ClusterUID == clusterUID
}

// confirmOrphans are those Jobs that the hub's API server has no PooledJob for, either.
func (r *ClusterConnectionReconciler) confirmOrphans(ctx context.Context, suspects []*batchv1.Job, clusterUID string) ([]*batchv1.Job, error) {
	if len(suspects) == 0 {
		return nil, nil
	}
	behind := map[types.UID]bool{}
	byRun := map[string][]*batchv1.Job{}
	for _, job := range suspects {
		byRun[job.Labels[v1alpha1.LabelUID]] = append(byRun[job.Labels[v1alpha1.LabelUID]], job)
	}
	for next, more := "", true; more; more = next != "" {
		var page v1alpha1.PooledJobList
		if err := r.Live.List(ctx, &page, client.Limit(livePage), client.Continue(next)); err != nil {
			return nil, fmt.Errorf("listing PooledJobs: %w", err)
		}
		for i := range page.Items {
			for _, job := range byRun[string(page.Items[i].UID)] {
				behind[job.UID] = behind[job.UID] || standsBehind(r.HubID, &page.Items[i], job, clusterUID)
			}
		}
		next = page.Continue
	}
	return slices.DeleteFunc(suspects, func(job *batchv1.Job) bool { return behind[job.UID] }), nil
}

// report shows the orphans in the metric and, when there are others than at the last
// look, in an Event. It returns what must be known to tell.
func (r *ClusterConnectionReconciler) report(connection *v1alpha1.ClusterConnection, orphans []*batchv1.Job, before map[types.UID]bool) map[types.UID]bool {
	r.OrphanedJobs.WithLabelValues(connection.Name).Set(float64(len(orphans)))
	reported := map[types.UID]bool{}
	var fresh, known []string
	var first *batchv1.Job
	for _, job := range orphans {
		reported[job.UID] = true
		name := job.Namespace + "/" + job.Name
		if before[job.UID] {
			known = append(known, name)
			continue
		}
		fresh, first = append(fresh, name), job
	}
	if len(fresh) == 0 {
		return reported
	}
	names := slices.Concat(fresh, known)
	named := strings.Join(names[:min(len(names), maxNamedOrphans)], ", ")
	if more := len(names) - maxNamedOrphans; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	// Events that differ in nothing but their words are taken for one; the related
	// object tells them apart.
	r.Recorder.Eventf(connection, first, corev1.EventTypeWarning, v1alpha1.ReasonOrphanedJobs, "Sweep", "%s", jobstatus.Truncate(
		fmt.Sprintf("%d Jobs of this installation have no PooledJob behind them: %s.", len(names), named), maxEventNote))
	return reported
}

// deleteOrphans deletes some of the orphans, if that is allowed.
func (r *ClusterConnectionReconciler) deleteOrphans(ctx context.Context, name string, lease *connpool.Lease, orphans []*batchv1.Job, inView int) {
	if !r.Orphans.Delete || len(orphans) == 0 || r.Now().Sub(r.started) < r.Orphans.Grace {
		return
	}
	log := logf.FromContext(ctx).WithValues("connection", name)
	for _, job := range orphans[:deletable(len(orphans), inView)] {
		err := lease.DeleteJob(ctx, job.Namespace, job.Name, job.UID)
		switch {
		case errors.Is(err, connpool.ErrBusy), errors.Is(err, connpool.ErrClosed), errors.Is(err, connpool.ErrNotSent):
			return // the next look is another chance
		case err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err):
			log.Info("An orphaned Job could not be deleted", "namespace", job.Namespace, "job", job.Name, "reason", err.Error())
		default:
			log.Info("Deleted an orphaned Job", "namespace", job.Namespace, "job", job.Name, "uid", job.UID)
		}
	}
}

// deletable is how many orphans one look deletes, of so many Jobs in view.
func deletable(orphans, inView int) int {
	return min(orphans, maxDeletedOrphans, max(1, inView/minSharePerOrphan))
}
