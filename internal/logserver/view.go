package logserver

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// timing are the waits of requests that follow; package tests shorten them.
type timing struct {
	// patience is how long the hub or a target may fail before a response is broken off.
	patience time.Duration
	// pause is the wait before a request that failed is made again.
	pause time.Duration
	// recheck is after what time a log that ended is asked for again, of a container that
	// has not ended as far as the target says.
	recheck time.Duration
}

// defaultTiming: a target whose API server restarts is back in less than a minute, and a
// container's status is known some seconds after its end.
var defaultTiming = timing{patience: time.Minute, pause: time.Second, recheck: 3 * time.Second}

// view is what is known, while a request follows, of one Job of the run.
type view struct {
	run  Run
	late map[podContainer]bool // those that had begun before the request came

	mu    sync.Mutex
	pods  []*corev1.Pod // the oldest first
	told  int           // how often the watch has reported them
	ended bool          // the run has ended, and pods are all that it had
	err   error         // why the view is given up
	next  chan struct{} // closed at the next change

	doubt chan struct{} // holds one element when the Pods are to be read anew
}

// state is a view at one moment; changed is closed when it is another.
type state struct {
	pods    []*corev1.Pod
	ended   bool
	err     error
	changed <-chan struct{}
}

func newView(run Run) *view {
	return &view{run: run, next: make(chan struct{}), doubt: make(chan struct{}, 1)}
}

// podContainer is a container of a Pod.
type podContainer struct {
	pod  types.UID
	name string
}

// begunIn returns the containers of Pods that have begun.
func begunIn(pods []*corev1.Pod) map[podContainer]bool {
	begun := map[podContainer]bool{}
	for _, pod := range pods {
		for _, statuses := range [][]corev1.ContainerStatus{
			pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses,
		} {
			for i := range statuses {
				if hasLog(statuses[i]) {
					begun[podContainer{pod.UID, statuses[i].Name}] = true
				}
			}
		}
	}
	return begun
}

// isLate reports whether a container had begun before the request came. Of such a one the log
// before its last restart is not wanted, of any other it is.
func (v *view) isLate(uid types.UID, container string) bool {
	return v.late[podContainer{uid, container}]
}

func (v *view) now() state {
	v.mu.Lock()
	defer v.mu.Unlock()
	return state{pods: v.pods, ended: v.ended, err: v.err, changed: v.next}
}

// change changes the view and wakes who waits for that.
func (v *view) change(how func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	how()
	close(v.next)
	v.next = make(chan struct{})
}

// setPods is called by the watch. Once the run has ended it has all Pods that it will have,
// and those that go then are not forgotten.
func (v *view) setPods(pods []*corev1.Pod) {
	v.change(func() {
		v.told++
		if !v.ended {
			v.pods = podsOf(v.run, pods)
		}
	})
}

// setRead sets the Pods that were read when the watch had reported them so often. If the watch
// has reported since, it knows better.
func (v *view) setRead(pods []*corev1.Pod, told int) {
	v.change(func() {
		if !v.ended && v.told == told {
			v.pods = podsOf(v.run, pods)
		}
	})
}

func (v *view) toldSoFar() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.told
}

// end is called when the run has ended, with the Pods that there were then.
func (v *view) end(pods []*corev1.Pod) {
	v.change(func() {
		v.pods, v.ended = podsOf(v.run, pods), true
	})
}

// giveUp ends the request with an error.
func (v *view) giveUp(err error) { v.change(func() { v.err = err }) }

// doubted has the Pods read anew: the watch may know less by now.
func (v *view) doubted() {
	select {
	case v.doubt <- struct{}{}:
	default:
	}
}

// patience is how long something has failed without a break.
type patience struct {
	limit time.Duration
	since time.Time
}

// failed reports whether patience has run out.
func (p *patience) failed() bool {
	if p.since.IsZero() {
		p.since = time.Now()
	}
	return time.Since(p.since) >= p.limit
}

func (p *patience) works() { p.since = time.Time{} }

// wait blocks until the view has changed, or d has passed if it is not 0.
func (s state) wait(ctx context.Context, d time.Duration) error {
	var timeout <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-s.changed:
	case <-timeout:
	case <-ctx.Done():
	}
	return ctx.Err()
}
