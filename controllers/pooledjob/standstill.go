package pooledjob

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/requeue"
)

// This file is about runs of which nothing happens and nothing on the target says why but its
// Events: no Pod can be made, no scheduler looks at one, a volume cannot be mounted. They are
// read when a run has stood still for a few seconds, and then rarely.

// standstillPauses are the times that a run stands still before its Events are read, each time;
// the last one goes on. Most runs are past it before the first is over.
var standstillPauses = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute}

// eventsInterval is the shortest time between two lists of Events on one cluster.
const eventsInterval = time.Second

// explainStandstill has the status say why nothing happens, if nothing does.
func (r *run) explainStandstill(ctx context.Context, remote *batchv1.Job, pods []*corev1.Pod) {
	if r.lease == nil {
		return
	}
	still, standing := jobstatus.Standstill(remote, pods)
	known := r.Memory.Standstill
	if !still {
		if !known.Since.IsZero() || !known.Looked {
			r.remember(func(m *decision.Memory) { m.Standstill = decision.Standstill{Looked: true} })
		}
		return
	}
	subject, pod := remote.UID, r.subjectOf(standing)
	if pod != nil {
		subject = pod.UID
	}
	if known.Subject != subject {
		before := known
		known = decision.Standstill{Subject: subject, Since: r.Time, Looked: true}
		if !before.Looked && isFound(r.before.Result, pod) {
			known.Trouble = r.before.Result // another process has found out
		}
		r.remember(func(m *decision.Memory) { m.Standstill = known })
	}
	if wait := r.untilRead(&known); wait > 0 {
		r.remember(func(m *decision.Memory) { m.Standstill = known })
		r.lookAgain = requeue.Earliest(r.lookAgain, wait)
	} else {
		r.readEvents(ctx, remote, pod, jobstatus.LastEnd(remote, pods), &known)
	}
	r.writer.Explain(known.Trouble)
}

// subjectOf returns the Pod to ask about: the same as before, as long as it stands still.
func (r *run) subjectOf(standing []*corev1.Pod) *corev1.Pod {
	for _, pod := range standing {
		if pod.UID == r.Memory.Standstill.Subject {
			return pod
		}
	}
	if len(standing) == 0 {
		return nil
	}
	return standing[0]
}

// isFound reports whether a result is what was found out about a Pod that stands still, or about a
// Job that has none.
func isFound(result v1alpha1.Result, pod *corev1.Pod) bool {
	name := ""
	if pod != nil {
		name = pod.Name
	}
	found := result.Reason == v1alpha1.ResultNoPod || result.Reason == v1alpha1.ResultNotScheduled ||
		result.Reason == v1alpha1.ResultContainerCreating || strings.HasPrefix(result.Reason, "Failed")
	return found && result.ExitCode == nil && result.PodName == name
}

// untilRead returns the time until the Events may be read.
func (r *run) untilRead(s *decision.Standstill) time.Duration {
	from := s.Since
	if s.Reads > 0 {
		from = s.LastRead
	}
	due := from.Add(standstillPauses[min(s.Reads, len(standstillPauses)-1)])
	if left := due.Sub(r.Time); left > 0 {
		return left
	}
	if s.Turn.IsZero() {
		s.Turn = r.eventTurns.reserve(r.Cluster, r.Time)
	}
	return s.Turn.Sub(r.Time)
}

// readEvents reads what the target says of the Job or, if it has one, of its Pod, since the last
// of them ended. That it cannot be read is no trouble of the run.
func (r *run) readEvents(ctx context.Context, remote *batchv1.Job, pod *corev1.Pod, lastEnd time.Time, known *decision.Standstill) {
	kind, name, uid := "Job", remote.Name, remote.UID
	if pod != nil {
		kind, name, uid = "Pod", pod.Name, pod.UID
	}
	warnings, err := r.lease.Warnings(ctx, remote.Namespace, kind, name, uid)
	known.Reads, known.LastRead, known.Turn = known.Reads+1, r.Time, time.Time{}
	switch trouble, ok := troubleOf(warnings, lastEnd, pod != nil && isScheduled(pod)); {
	case err != nil && !apierrors.IsForbidden(err):
		known.Reads-- // the target is in trouble itself
	case ok:
		if pod != nil {
			trouble.PodName = pod.Name
		}
		known.Trouble = trouble
	default:
		known.Trouble = r.unexplained(remote, pod, err != nil, known.Reads, !lastEnd.IsZero())
	}
	r.remember(func(m *decision.Memory) { m.Standstill = *known })
	r.lookAgain = requeue.Earliest(r.lookAgain, standstillPauses[min(known.Reads, len(standstillPauses)-1)])
}

// isScheduled reports whether a Pod has a node, as far as the view keeps that.
func isScheduled(pod *corev1.Pod) bool {
	return len(pod.Status.ContainerStatuses) > 0 || slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue
	})
}

// troubleOf returns what the newest of some warnings says that came after a time and are not over:
// what the scheduler said of a Pod is when it has a node.
func troubleOf(warnings []corev1.Event, after time.Time, scheduled bool) (v1alpha1.Result, bool) {
	var newest *corev1.Event
	for i := range warnings {
		e := &warnings[i]
		over := e.Reason == "" || !toldAt(e).After(after) || (scheduled && e.Reason == "FailedScheduling")
		if !over && (newest == nil || toldAt(e).After(toldAt(newest))) {
			newest = e
		}
	}
	if newest == nil {
		return v1alpha1.Result{}, false
	}
	return v1alpha1.Result{Reason: newest.Reason, Message: jobstatus.Truncate(newest.Message, jobstatus.MaxEventNote)}, true
}

// toldAt returns when an Event was last reported: programs differ in which of its times they fill in.
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
func (r *run) unexplained(remote *batchv1.Job, pod *corev1.Pod, forbidden bool, reads int, hadPods bool) v1alpha1.Result {
	where := fmt.Sprintf("kubectl -n %s get events --field-selector involvedObject.name=", remote.Namespace)
	why := "Its Events on the cluster do not say why"
	if forbidden {
		why = fmt.Sprintf("Its Events may say why, but the identity of ClusterConnection %q may not list them there", r.Cluster)
	}
	switch {
	case pod == nil && (hadPods || remote.Status.Failed > 0 || remote.Status.Succeeded > 0 || (r.before.Result.Reason != "" && !isFound(r.before.Result, nil))):
		return v1alpha1.Result{} // what the last Pod waited for stands, for a Job that gives up deletes its Pods first
	case pod == nil:
		return v1alpha1.Result{Reason: v1alpha1.ResultNoPod, Message: fmt.Sprintf(
			"Job %s/%s has had no Pod for more than %d seconds. %s: %s%s", remote.Namespace, remote.Name, int(standstillPauses[0].Seconds()), why, where, remote.Name)}
	case !isScheduled(pod):
		return v1alpha1.Result{Reason: v1alpha1.ResultNotScheduled, PodName: pod.Name, Message: fmt.Sprintf(
			"No scheduler has said anything about Pod %s/%s for more than %d seconds. Does a scheduler of the name in its "+
				"spec.schedulerName run on the cluster? %s: %s%s", pod.Namespace, pod.Name, int(standstillPauses[0].Seconds()), why, where, pod.Name)}
	case reads > 1:
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

// reserve returns the next time for a key, now or later.
func (t *turns) reserve(key string, now time.Time) time.Time {
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
