package connpool

import (
	"iter"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/internal/connpool/store"
)

// Lease lends the client and the informers of one session to one run. It is meant
// for one piece of work, not to be kept: after the session has ended every request,
// Job and Pods fail with ErrClosed, and the other methods return nothing.
//
// Errors of calls to the target are those of client-go, as they came.
type Lease struct {
	session   *session
	key       string                // of the run
	views     map[string]*informers // by scope; those that are Ready
	missing   map[string]error      // by scope; why the others are not
	expiresAt time.Time
	made      store.MadePods
}

// newLease lends what a hold has whose target is Ready. Pool.mu is held.
func newLease(h *hold, key string) *Lease {
	l := &Lease{session: h.entry.session, key: key, views: map[string]*informers{}, missing: map[string]error{}, expiresAt: h.config.ExpiresAt, made: store.MadePods{}}
	for _, scope := range h.config.scopes() {
		state, err := h.viewState(scope)
		if state == Ready {
			l.views[scope] = l.session.views[scope].current
			continue
		}
		status := h.member.status()
		status.State, status.Err = state, err
		l.missing[scope] = &NotReadyError{Connection: h.member.name, Status: status}
	}
	return l
}

// ClusterUID returns the UID of the cluster that the session is connected to.
func (l *Lease) ClusterUID() string { return l.session.clusterUID }

// ExpiresAt returns when the credential ends, as its Config said; zero if it did not.
func (l *Lease) ExpiresAt() time.Time { return l.expiresAt }

// PodsLateAt returns when the Pods of a namespace were last known to be shown late: no watch of them was open,
// or something that the target sent was kept waiting, because it sends more than the connection reads. That is
// now if it is so now. Before that time the Pods may be of a moment that is many seconds before that of the Jobs.
func (l *Lease) PodsLateAt(namespace string) time.Time {
	view, err := l.view(namespace)
	if err != nil {
		return time.Now()
	}
	late, held := view.pods.lateAt(), l.session.entry.pacing.HeldBackAt()
	if held.After(late) {
		return held
	}
	return late
}

// view returns the one that shows a namespace.
func (l *Lease) view(namespace string) (*informers, error) {
	i := l.views[allNamespaces]
	if i == nil {
		i = l.views[namespace]
	}
	switch {
	case i == nil && l.missing[namespace] != nil:
		return nil, l.missing[namespace]
	case i == nil:
		return nil, ErrNotWatched
	case i.ctx.Err() != nil:
		return nil, ErrClosed
	}
	return i, nil
}

// Jobs returns all watched Jobs, as Job has them, of the namespaces whose view is up to
// date. Each is made when its turn comes: a target may have tens of thousands.
func (l *Lease) Jobs() iter.Seq[*batchv1.Job] {
	return func(yield func(*batchv1.Job) bool) {
		for _, view := range l.views {
			if view.ctx.Err() != nil {
				continue
			}
			for job := range view.store.Jobs() {
				if !yield(job) {
					return
				}
			}
		}
	}
}

// Job returns the watched Job of that name; nil when the view has none. It is cut down to what a
// run needs: name, UID, deletion time, our labels, conditions, counts and times, and of its
// spec what its end is decided by, ttlSecondsAfterFinished and suspend. It has no resource
// version, so that nothing can be written from it. It is the caller's own.
func (l *Lease) Job(namespace, name string) (*batchv1.Job, error) {
	view, err := l.view(namespace)
	if err != nil {
		return nil, err
	}
	return view.store.Job(namespace, name), nil
}

// ErrTooManyPods is the error of a list of more Pods of a run than are read.
var ErrTooManyPods = store.ErrTooManyPods

// GoneJob is a Job that was watched and went, as it was then.
type GoneJob = store.Gone

// GoneJob returns what is remembered of the run's Job of that name that went; nil when that is
// nothing: it never was, is there, was forgotten, or went while nobody watched. At most
// 1,024 Jobs of a view are remembered, for at most ten minutes.
func (l *Lease) GoneJob(namespace, name string) *GoneJob {
	view, err := l.view(namespace)
	if err != nil {
		return nil
	}
	return view.store.GoneJob(l.key, namespace, name)
}

// ForgetJob drops what is remembered of the run's Job that went from a namespace.
func (l *Lease) ForgetJob(namespace string) {
	if view, err := l.view(namespace); err == nil {
		view.store.Forget(l.key)
	}
}

// Pods returns the Pods of the run that the target has in a namespace, cut down to name, UID,
// deletion time, our labels and that of the Job's name, index, phase, whether they are ready,
// what they wait for and how they ended, with their containers' statuses in the order of the
// spec. They are the same ones as long as they do not change, so they must not be changed.
//
// Three facts are in the events of a Pod and not in its last state. A Pod that the Job
// controller let go while it ran (as it does when the Job is suspended) has the Job as its
// owner, and not as its controller. One that it counted has the finalizer batch.kubernetes.io/job-tracking, although
// that is taken off then. And deletionGracePeriodSeconds is the time from when the deletion
// was first asked for to deletionTimestamp: the kubelet asks again when the containers have
// ended.
func (l *Lease) Pods(namespace string) ([]*corev1.Pod, error) {
	view, err := l.view(namespace)
	if err != nil {
		return nil, err
	}
	return view.store.PodsOf(l.key, namespace, l.made), nil
}

// EndedPods returns Pods of the run that had ended, or never had a node, and are gone, while their
// Job was there or is remembered: what is remembered of them.
func (l *Lease) EndedPods(namespace string) []*corev1.Pod {
	view, err := l.view(namespace)
	if err != nil {
		return nil
	}
	return view.store.GonePodsOf(l.key, namespace, l.made)
}
