// Package orphan looks for Jobs on targets that no PooledJob stands behind.
//
// An orphan is a Job with this hub's ID that no PooledJob stands behind: its PooledJob
// was abandoned, moved away, lost its finalizer by hand, or is missing from a hub that
// was restored from a backup. Orphans are looked for when a connection becomes Ready
// and every Interval. A Job, finished or not, counts as one only when two looks, Confirmation
// apart, have found it so, the second by a list of the hub's API server that began after the
// first: a cache alone is never believed.
package orphan

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/metrics"
)

// Options say what is done about orphans. The zero value reports them.
type Options struct {
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

// WithDefaults returns the options with what is zero replaced.
func (o Options) WithDefaults() Options {
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
	// maxSuspects bounds how many Jobs of one connection are looked at as possible orphans at a
	// time: a target can show as many as it likes.
	maxSuspects = 1000
	// maxNamedOrphans bounds how many an Event names.
	maxNamedOrphans = 5
	// deletionTimeout bounds the deletions of one look: they hold a worker, and a target
	// that is slow must not hold up the connections to others. What is left, the next
	// look deletes.
	deletionTimeout = 5 * time.Second
	// listTimeout bounds all requests for one list of the PooledJobs of the hub.
	listTimeout = 2 * time.Minute
)

// Connections is what a Sweeper needs of the pool.
type Connections interface {
	// Status returns what is known of the named connection.
	Status(name string) (status connpool.Status, ok bool)
	// Lease lends the named connection to the run of that key, or says at once why it cannot.
	Lease(name, key string) (*connpool.Lease, error)
}

// Sweeper looks for orphans. Its methods may be called for several connections at the same time.
type Sweeper struct {
	// Hub answers from the manager's caches, and UIDs finds the PooledJobs that they have.
	Hub  client.Reader
	UIDs *hubcache.UIDs
	// PooledJobs reads PooledJobs from the hub's API server itself.
	PooledJobs *hubcache.Reader
	// Connections is the pool.
	Connections Connections
	// HubID marks the remote objects of this installation.
	HubID string
	// Options say what is done about orphans.
	Options Options
	// Recorder emits the Events that name them, and Metrics has how many there are.
	Recorder events.EventRecorder
	Metrics  *metrics.Recorder
	// Clock is where the time is read.
	Clock clock.PassiveClock

	sweeps  sweeps
	claims  claims
	begun   sync.Once
	started time.Time
}

// Begin notes the start, from which Options.Grace is counted, when it is called for the first time.
func (w *Sweeper) Begin() { w.begun.Do(func() { w.started = w.Clock.Now() }) }

// Forget drops what is remembered of a connection that is gone.
func (w *Sweeper) Forget(name string) { w.sweeps.forget(name) }

// sweep is what is remembered of the looks at one connection.
type sweep struct {
	ready bool // at the last look
	next  time.Time
	seen  map[types.UID]sighting // the Jobs that seemed to be orphans at the last look
}

// sighting is what is known of a Job that seems to be an orphan.
type sighting struct {
	since time.Time
	// At the last list of PooledJobs it was an orphan, and an Event has said so, or
	// there was one behind it that only the list has shown.
	told, behind bool
}

// sweeps are those of all connections. When orphans were last deleted is known by the
// cluster's UID, for two connections may reach one cluster.
type sweeps struct {
	mu        sync.Mutex
	byName    map[string]sweep
	deletedAt map[string]time.Time
}

// mayDelete reports whether the last deletion on a cluster is long enough ago; if so, this
// is the last one from now on.
func (s *sweeps) mayDelete(clusterUID string, now time.Time, interval time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.deletedAt[clusterUID]) < interval {
		return false
	}
	if s.deletedAt == nil {
		s.deletedAt = map[string]time.Time{}
	}
	s.deletedAt[clusterUID] = now
	return true
}

// deletedNone takes back what mayDelete noted.
func (s *sweeps) deletedNone(clusterUID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.deletedAt, clusterUID)
}

func (s *sweeps) get(name string) sweep {
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

// Sweep looks for orphans on the target of a connection, if it is time to. It returns
// when it is again.
func (w *Sweeper) Sweep(ctx context.Context, connection *v1alpha1.ClusterConnection) (time.Duration, error) {
	now, state := w.Clock.Now(), w.sweeps.get(connection.Name)
	status, ok := w.Connections.Status(connection.Name)
	if !ok || status.State != connpool.Ready || !connection.DeletionTimestamp.IsZero() {
		state.ready = false
		w.sweeps.set(connection.Name, state)
		return 0, nil
	}
	if left := state.next.Sub(now); state.ready && left > 0 {
		return left, nil
	}
	lease, err := w.Connections.Lease(connection.Name, "")
	if err != nil {
		return 0, nil // it has just ended; its return is another occasion
	}
	fenced, err := hubcache.IsFenced(ctx, w.Hub, lease.ClusterUID())
	if err != nil {
		return 0, err
	}
	suspects, inView := w.suspects(lease.Jobs(), state.seen, lease.ClusterUID())
	deleting := w.Options.Delete && !fenced && now.Sub(w.started) >= w.Options.Grace
	orphans, seen, err := w.judge(ctx, suspects, state.seen, lease.ClusterUID(), deleting)
	if errors.Is(err, errListing) {
		return min(w.Options.Confirmation/2, time.Second), nil
	}
	if err != nil {
		return 0, err
	}
	again := w.Options.Interval
	for _, s := range seen {
		if !s.told && !s.behind {
			again = w.Options.Confirmation
		}
	}
	w.report(connection, orphans, state.seen)
	state.ready, state.next, state.seen = true, now.Add(again), seen
	if deleting && len(orphans) > 0 && w.sweeps.mayDelete(lease.ClusterUID(), now, w.Options.Interval) {
		if w.deleteOrphans(ctx, connection.Name, lease, orphans[:deletable(len(orphans), inView)]) == 0 {
			w.sweeps.deletedNone(lease.ClusterUID()) // another connection may be able to
		}
	}
	w.sweeps.set(connection.Name, state)
	return again, nil
}

// judge returns the suspects that are orphans, and what is to be remembered of all. The hub is
// asked when one of them has been seen for long enough and was not reported yet, or when
// they are about to be deleted.
func (w *Sweeper) judge(ctx context.Context, suspects []*batchv1.Job, before map[types.UID]sighting, clusterUID string, deleting bool) (orphans []*batchv1.Job, seen map[types.UID]sighting, err error) {
	now, ask := w.Clock.Now(), deleting
	seen = map[types.UID]sighting{}
	for _, job := range suspects {
		s, ok := before[job.UID]
		if !ok {
			s.since = now
		}
		seen[job.UID] = s
		if now.Sub(s.since) >= w.Options.Confirmation {
			orphans = append(orphans, job)
			ask = ask || !s.told
		}
	}
	if !ask || len(orphans) == 0 {
		return orphans, seen, nil
	}
	behind, err := w.behind(ctx, orphans, seen, clusterUID)
	if err != nil {
		return nil, nil, err
	}
	for _, job := range orphans {
		s := seen[job.UID]
		s.told, s.behind = !behind[job.UID], behind[job.UID]
		seen[job.UID] = s
	}
	return slices.DeleteFunc(orphans, func(job *batchv1.Job) bool { return behind[job.UID] }), seen, nil
}

// suspects returns the metadata of Jobs that have no PooledJob behind them in the cache, and are not
// being deleted: those that were seen before, and others as long as there are not too many.
// inView is how many Jobs there are.
func (w *Sweeper) suspects(jobs iter.Seq[*batchv1.Job], before map[types.UID]sighting, clusterUID string) (suspects []*batchv1.Job, inView int) {
	room := maxSuspects - len(before)
	for job := range jobs {
		inView++
		if !job.DeletionTimestamp.IsZero() || job.Labels[v1alpha1.LabelHub] != w.HubID {
			continue
		}
		if run := w.UIDs.Find(types.UID(job.Labels[v1alpha1.LabelUID])); run != nil && standsBehind(w.HubID, run, job, clusterUID) {
			continue
		}
		if _, known := before[job.UID]; !known {
			room--
			if room < 0 {
				continue
			}
		}
		suspects = append(suspects, &batchv1.Job{ObjectMeta: job.ObjectMeta})
	}
	return suspects, inView
}

// standsBehind reports whether a PooledJob stands behind a Job.
func standsBehind(hubID string, run *v1alpha1.PooledJob, job *batchv1.Job, clusterUID string) bool {
	return run.Status.JobRef.UID == string(job.UID) || claimOf(hubID, run).covers(job, clusterUID)
}

// behind returns the suspects behind which a PooledJob stands that the hub's API server has,
// whether the cache has it or not.
func (w *Sweeper) behind(ctx context.Context, suspects []*batchv1.Job, seen map[types.UID]sighting, clusterUID string) (map[types.UID]bool, error) {
	var lastSeen time.Time
	for _, job := range suspects {
		if since := seen[job.UID].since; since.After(lastSeen) {
			lastSeen = since
		}
	}
	all, err := w.claims.listedAfter(lastSeen, w.Options.Confirmation, w.Clock, func() (map[string][]claim, error) { return w.listClaims(ctx) })
	if err != nil {
		return nil, err
	}
	behind := map[types.UID]bool{}
	for _, job := range suspects {
		behind[job.UID] = slices.ContainsFunc(all[job.Name], func(c claim) bool { return c.covers(job, clusterUID) })
	}
	return behind, nil
}

// listClaims asks the hub's API server, page by page of one snapshot.
func (w *Sweeper) listClaims(ctx context.Context) (map[string][]claim, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	all := map[string][]claim{}
	err := w.PooledJobs.Each(ctx, func(job *v1alpha1.PooledJob) error {
		c := claimOf(w.HubID, job)
		all[c.name] = append(all[c.name], c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing PooledJobs: %w", err)
	}
	return all, nil
}

// report shows the orphans in the metric and, when there are others than at the last
// look, in an Event.
func (w *Sweeper) report(connection *v1alpha1.ClusterConnection, orphans []*batchv1.Job, before map[types.UID]sighting) {
	w.Metrics.Orphaned(connection.Name, len(orphans))
	var fresh, known []string
	var first *batchv1.Job
	for _, job := range orphans {
		name := job.Namespace + "/" + job.Name
		if before[job.UID].told {
			known = append(known, name)
			continue
		}
		fresh, first = append(fresh, name), job
	}
	if len(fresh) == 0 {
		return
	}
	names := slices.Concat(fresh, known)
	named := strings.Join(names[:min(len(names), maxNamedOrphans)], ", ")
	if more := len(names) - maxNamedOrphans; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	// Events that differ only in their text are counted as one; the related object makes them
	// different.
	w.Recorder.Eventf(connection, first, corev1.EventTypeWarning, v1alpha1.ReasonOrphanedJobs, "Sweep", "%s", jobstatus.Truncate(
		fmt.Sprintf("%d Jobs of this installation have no PooledJob behind them: %s.", len(names), named), jobstatus.MaxEventNote))
}

// deleteOrphans deletes orphans, each after a look at it as the target has it now: the
// view may be late, and somebody may have made it his own. It returns how many.
func (w *Sweeper) deleteOrphans(ctx context.Context, name string, lease *connpool.Lease, orphans []*batchv1.Job) (deleted int) {
	ctx, cancel := context.WithTimeout(ctx, deletionTimeout)
	defer cancel()
	for _, job := range orphans {
		log := logf.FromContext(ctx).WithValues("connection", name, "namespace", job.Namespace, "job", job.Name, "uid", job.UID)
		live, err := lease.GetJob(ctx, job.Namespace, job.Name)
		if err == nil {
			if live.UID != job.UID || live.Labels[v1alpha1.LabelHub] != w.HubID || live.Labels[v1alpha1.LabelUID] != job.Labels[v1alpha1.LabelUID] {
				continue
			}
			err = lease.DeleteJob(ctx, live.Namespace, live.Name, live.UID, live.ResourceVersion)
		}
		switch {
		case err == nil:
			deleted++
			log.Info("Deleted an orphaned Job")
		case !apierrors.IsNotFound(err) && !apierrors.IsConflict(err):
			log.Info("An orphaned Job could not be deleted; the next look is another chance", "reason", err.Error())
			return deleted // a slow target must not hold a worker
		}
	}
	return deleted
}

// deletable returns how many orphans one look deletes, of so many Jobs in view.
func deletable(orphans, inView int) int {
	return min(orphans, maxDeletedOrphans, max(1, inView/minSharePerOrphan))
}
