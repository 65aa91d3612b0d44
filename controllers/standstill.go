package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// This file is about runs of which nothing happens and nothing on the target says why but its
// Events: no Pod can be made, no scheduler looks at one, a volume cannot be mounted. They are
// read when a run has stood still for a few seconds, and then rarely.

// standstillPauses are the times that a run stands still before its Events are read, each time;
// the last one goes on. Most runs are past it before the first is over.
var standstillPauses = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute}

// eventsInterval is the shortest time between two lists of Events on one cluster.
const eventsInterval = time.Second

// standstill is what a process knows of a run that stands still.
type standstill struct {
	// since is when it was seen to; zero while it does not.
	since time.Time
	// looked tells that the run was looked at before, and is not one that was taken over.
	looked bool
	// reads counts how often the Events were read since, lastRead is when that was, and turn
	// when the next may be.
	reads          int
	lastRead, turn time.Time
	// trouble is what they said.
	trouble v1alpha1.Result
}

// explainStandstill has the status say why nothing happens, if nothing does.
func (r *run) explainStandstill(ctx context.Context, remote *batchv1.Job, pods []*corev1.Pod) {
	if r.lease == nil {
		return
	}
	still, pod := jobstatus.Standstill(remote, pods)
	known := r.memory.standstill
	switch {
	case !still && (!known.since.IsZero() || !known.looked):
		r.remember(func(m *memory) { m.standstill = standstill{looked: true} })
		return
	case !still:
		return
	case known.since.IsZero():
		known = standstill{since: r.now, looked: true}
		if !r.memory.standstill.looked {
			known.trouble = r.before.Result // another process may have found out
		}
		r.remember(func(m *memory) { m.standstill = known })
	}
	if wait := r.untilRead(&known); wait > 0 {
		r.remember(func(m *memory) { m.standstill = known })
		r.lookAgain = earliest(r.lookAgain, wait)
	} else {
		r.readEvents(ctx, remote, pod, &known)
	}
	r.writer.Explain(known.trouble)
}

// untilRead is the time until the Events may be read.
func (r *run) untilRead(s *standstill) time.Duration {
	from := s.since
	if s.reads > 0 {
		from = s.lastRead
	}
	due := from.Add(standstillPauses[min(s.reads, len(standstillPauses)-1)])
	if left := due.Sub(r.now); left > 0 {
		return left
	}
	if s.turn.IsZero() {
		s.turn = r.eventTurns.take(r.cluster, r.now)
	}
	return s.turn.Sub(r.now)
}

// readEvents reads what the target says of the Job or, if it has one, of its Pod. That it
// cannot be read is no trouble of the run.
func (r *run) readEvents(ctx context.Context, remote *batchv1.Job, pod *corev1.Pod, known *standstill) {
	kind, name, uid := "Job", remote.Name, remote.UID
	if pod != nil {
		kind, name, uid = "Pod", pod.Name, pod.UID
	}
	warnings, err := r.lease.Warnings(ctx, remote.Namespace, kind, name, uid)
	known.reads, known.lastRead, known.turn = known.reads+1, r.now, time.Time{}
	switch trouble, ok := troubleOf(warnings); {
	case err != nil && !apierrors.IsForbidden(err):
		known.reads-- // the target is in trouble itself
	case ok:
		if pod != nil {
			trouble.PodName = pod.Name
		}
		known.trouble = trouble
	default:
		known.trouble = r.unexplained(remote, pod, err != nil, known.reads)
	}
	r.remember(func(m *memory) { m.standstill = *known })
	r.lookAgain = earliest(r.lookAgain, standstillPauses[min(known.reads, len(standstillPauses)-1)])
}

// troubleOf is what the newest of some warnings says.
func troubleOf(warnings []corev1.Event) (v1alpha1.Result, bool) {
	var newest *corev1.Event
	for i := range warnings {
		if e := &warnings[i]; e.Reason != "" && (newest == nil || toldAt(e).After(toldAt(newest))) {
			newest = e
		}
	}
	if newest == nil {
		return v1alpha1.Result{}, false
	}
	return v1alpha1.Result{Reason: newest.Reason, Message: newest.Message}, true
}

// toldAt is when an Event was last told: programs differ in which of its times they fill in.
func toldAt(e *corev1.Event) time.Time {
	at := e.LastTimestamp.Time
	if e.EventTime.After(at) {
		at = e.EventTime.Time
	}
	if e.Series != nil && e.Series.LastObservedTime.After(at) {
		at = e.Series.LastObservedTime.Time
	}
	if at.IsZero() {
		at = e.CreationTimestamp.Time
	}
	return at
}

// unexplained says that a run stands still and that its Events do not say why, or may not be
// read. A Job waits between two tries without a reason, and containers are made for as long as
// their images are pulled.
func (r *run) unexplained(remote *batchv1.Job, pod *corev1.Pod, forbidden bool, reads int) v1alpha1.Result {
	where := fmt.Sprintf("kubectl -n %s get events --field-selector involvedObject.name=", remote.Namespace)
	why := "Its Events on the cluster do not say why"
	if forbidden {
		why = fmt.Sprintf("Its Events may say why, but the identity of ClusterConnection %q may not list them there", r.cluster)
	}
	switch {
	case pod == nil && (remote.Status.Failed > 0 || remote.Status.Succeeded > 0 || r.before.Result.Reason != ""):
		return v1alpha1.Result{} // what the last Pod waited for stands, for a Job that gives up deletes its Pods first
	case pod == nil:
		return v1alpha1.Result{Reason: v1alpha1.ResultNoPod, Message: fmt.Sprintf(
			"Job %s/%s has had no Pod for more than %d seconds. %s: %s%s", remote.Namespace, remote.Name, int(standstillPauses[0].Seconds()), why, where, remote.Name)}
	case len(pod.Status.ContainerStatuses) == 0:
		return v1alpha1.Result{Reason: v1alpha1.ResultNotScheduled, PodName: pod.Name, Message: fmt.Sprintf(
			"Neither a scheduler nor a kubelet has said anything about Pod %s/%s for more than %d seconds. Does a scheduler of the name in its "+
				"spec.schedulerName run on the cluster? %s: %s%s", pod.Namespace, pod.Name, int(standstillPauses[0].Seconds()), why, where, pod.Name)}
	case reads > 1 || forbidden:
		return v1alpha1.Result{Reason: v1alpha1.ResultContainerCreating, PodName: pod.Name, Message: fmt.Sprintf(
			"The containers of Pod %s/%s are still being made. %s: %s%s", pod.Namespace, pod.Name, why, where, pod.Name)}
	}
	return v1alpha1.Result{}
}

// turns gives out times, one after the other, for each key. The zero value is ready.
type turns struct {
	mu   sync.Mutex
	next map[string]time.Time
}

// take is the next time for a key, now or later.
func (t *turns) take(key string, now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	for other, next := range t.next {
		if next.Before(now) {
			delete(t.next, other) // it has had its pause
		}
	}
	if t.next == nil {
		t.next = map[string]time.Time{}
	}
	turn := now
	if next, ok := t.next[key]; ok {
		turn = next
	}
	t.next[key] = turn.Add(eventsInterval)
	return turn
}
