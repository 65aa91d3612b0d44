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
	run    Run
	timing timing
	began  []*corev1.Pod // those that there were when the request came

	mu      sync.Mutex
	pods    []*corev1.Pod // the oldest first
	synced  bool          // pods is known
	ended   bool          // the run has ended, and pods are all that it had
	err     error         // why the view is given up
	failing time.Time     // since when the target or the hub fails
	next    chan struct{} // closed at the next change
}

// state is a view at one moment; changed is closed when it is another.
type state struct {
	pods          []*corev1.Pod
	synced, ended bool
	err           error
	changed       <-chan struct{}
}

func newView(run Run, timing timing) *view {
	return &view{run: run, timing: timing, next: make(chan struct{})}
}

// isLate tells whether a container had begun before the request came. Of such a one the log
// before its last restart is not wanted, of any other it is.
func (v *view) isLate(uid types.UID, container string) bool {
	for _, pod := range v.began {
		if pod.UID == uid {
			return hasLog(statusOf(pod, container))
		}
	}
	return false
}

func (v *view) now() state {
	v.mu.Lock()
	defer v.mu.Unlock()
	return state{pods: v.pods, synced: v.synced, ended: v.ended, err: v.err, changed: v.next}
}

// change changes the view and wakes who waits for that.
func (v *view) change(how func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	how()
	close(v.next)
	v.next = make(chan struct{})
}

// setPods is told by the watch. Once the run has ended it has all Pods that it will have,
// and those that go then are not forgotten.
func (v *view) setPods(pods []*corev1.Pod) {
	v.change(func() {
		v.failing = time.Time{}
		if !v.ended {
			v.pods, v.synced = podsOf(v.run, pods), true
		}
	})
}

// end is told when the run has ended, with the Pods that there were then.
func (v *view) end(pods []*corev1.Pod) {
	v.change(func() {
		v.pods, v.synced, v.ended = podsOf(v.run, pods), true, true
	})
}

// failed is told what keeps the view from being up to date. It is given up when that
// lasts.
func (v *view) failed(err error) {
	v.change(func() {
		if v.failing.IsZero() {
			v.failing = time.Now()
		}
		if time.Since(v.failing) >= v.timing.patience {
			v.err = targetError(v.run, err)
		}
	})
}

// works is told when the target has answered.
func (v *view) works() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failing = time.Time{}
}

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
