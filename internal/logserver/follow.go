package logserver

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// podsAtOnce bounds how many Pods of one request are read at a time with allPods; others
// wait for their turn, the oldest first. kubectl, too, takes no more at once.
const podsAtOnce = 5

// follow sends the log until the run has ended and everything is read.
func (r *reading) follow(ctx context.Context) error {
	changed, stop := r.backend.Watch(r.namespace, r.name)
	defer stop()
	for {
		run, err := r.dispatched(ctx, changed)
		if err != nil {
			return err
		}
		if run.JobUID == "" {
			if r.out.begun {
				return nil // it has ended, and there is nothing to read
			}
			return noLog(r.name, run)
		}
		moved, err := r.followJob(ctx, run, changed)
		if err != nil || !moved {
			return err
		}
	}
}

// dispatched waits until the run has a Job, or has ended without one.
func (r *reading) dispatched(ctx context.Context, changed <-chan struct{}) (Run, error) {
	hub := patience{limit: r.timing.patience}
	for {
		run, err := r.backend.Run(ctx, r.namespace, r.name)
		if err != nil && r.out.begun && !apierrors.IsNotFound(err) && !hub.failed() {
			pause(ctx, r.timing.pause)
			continue
		}
		if err != nil {
			return run, err
		}
		hub.works()
		if run.UID != r.run.UID {
			return run, notFound(r.name, "PooledJob \""+r.name+"\" was deleted; another one has its name")
		}
		if run.JobUID != "" || run.Ended {
			return run, nil
		}
		if err := r.out.begin(); err != nil {
			return run, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return run, ctx.Err()
		}
	}
}

// followJob follows one Job of the run; moved is true if the run has another one now.
func (r *reading) followJob(ctx context.Context, run Run, changed <-chan struct{}) (moved bool, err error) {
	leave, err := r.enter(run.Connection)
	if err != nil {
		return false, err
	}
	defer leave()
	target, pods, err := r.reach(ctx, run)
	if err != nil {
		return false, err
	}
	defer target.Close()
	if err := r.checkChoice(run, podsOf(run, pods)); err != nil {
		return false, err
	}
	r.preferSpeaker(podsOf(run, pods))
	v := newView(run)
	if run.sameJob(r.run) { // else the request was there before any of its Pods
		v.late = begunIn(podsOf(run, pods))
	}
	v.setRead(pods, 0)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() {
		target.WatchPods(ctx, run.Namespace, run.UID, v.setPods, func(error) { v.doubted() })
	})
	running.Go(func() { r.refresh(ctx, target, v) })
	running.Go(func() {
		moved = r.watchRun(ctx, run, target, v, changed)
		if moved {
			cancel()
		}
	})
	err = r.followPods(ctx, target, v)
	cancel()
	running.Wait()
	if moved {
		return true, nil
	}
	return false, err
}

// reach opens the target and reads the Pods. As long as no header was sent, an error is returned
// at once.
func (r *reading) reach(ctx context.Context, run Run) (Target, []*corev1.Pod, error) {
	// It takes the manager up to a minute to notice that a cluster is back.
	patience := patience{limit: 2 * r.timing.patience}
	for {
		target, pods, err := r.tryReach(ctx, run)
		if err == nil {
			return target, pods, nil
		}
		if !r.out.begun || ctx.Err() != nil || patience.failed() {
			return nil, nil, err
		}
		pause(ctx, r.timing.pause)
	}
}

func (r *reading) tryReach(ctx context.Context, run Run) (Target, []*corev1.Pod, error) {
	target, err := r.backend.Open(ctx, run)
	if err != nil {
		return nil, nil, err
	}
	pods, err := target.Pods(ctx, run.Namespace, run.UID)
	if err != nil {
		target.Close()
		return nil, nil, targetError(run, err)
	}
	return target, pods, nil
}

// refresh reads the Pods whenever there is doubt about what the watch has reported.
func (r *reading) refresh(ctx context.Context, target Target, v *view) {
	for {
		select {
		case <-v.doubt:
		case <-ctx.Done():
			return
		}
		patience := patience{limit: r.timing.patience}
		for ctx.Err() == nil {
			told := v.toldSoFar()
			pods, err := target.Pods(ctx, v.run.Namespace, v.run.UID)
			if err == nil {
				v.setRead(pods, told)
				break
			}
			if patience.failed() {
				v.giveUp(targetError(v.run, err))
				return
			}
			pause(ctx, r.timing.pause)
		}
	}
}

// preferSpeaker follows, of a run that had ended before anybody followed it, the Pod that read would
// read. (One who goes on from a time has followed others before.)
func (r *reading) preferSpeaker(pods []*corev1.Pod) {
	fresh := r.run.Ended && r.query.sinceTime == nil && r.query.pod == "" && !r.query.allPods
	if fresh && podNamed(pods, r.run.Speaker) != nil {
		r.query.pod = r.run.Speaker
	}
}

// checkChoice refuses what cannot be right, as long as an error can be sent.
func (r *reading) checkChoice(run Run, pods []*corev1.Pod) error {
	if r.query.pod != "" && podNamed(pods, r.query.pod) == nil {
		return notFound(r.name, "PooledJob \""+r.name+"\" has no Pod "+r.query.pod+" on the cluster")
	}
	if len(pods) == 0 && run.Ended {
		return noLog(r.name, run)
	}
	for _, pod := range pods {
		if _, err := containerOf(pod, r.query.container); err != nil {
			return err
		}
	}
	return nil
}

// watchRun notifies the view when the run has ended, and returns when it has or when it has
// another Job.
func (r *reading) watchRun(ctx context.Context, followed Run, target Target, v *view, changed <-chan struct{}) (moved bool) {
	patience := patience{limit: r.timing.patience}
	for ctx.Err() == nil {
		run, err := r.backend.Run(ctx, r.namespace, r.name)
		gone := apierrors.IsNotFound(err) || (err == nil && run.UID != followed.UID)
		switch {
		case err != nil && !gone:
			if patience.failed() {
				v.giveUp(err)
				return false
			}
			pause(ctx, r.timing.pause)
			continue
		case !gone && !run.sameJob(followed):
			return true
		case gone || run.Ended:
			pods, err := target.Pods(ctx, followed.Namespace, followed.UID)
			if err == nil {
				v.end(pods)
				return false
			}
			if patience.failed() {
				v.giveUp(targetError(followed, err))
				return false
			}
			pause(ctx, r.timing.pause)
			continue
		}
		patience.works()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return false
}

// podsFollower follows the Pods of one Job.
type podsFollower struct {
	*reading
	target Target
	view   *view

	begun  map[types.UID]bool
	active int
	ended  chan error // of each that is active
}

// followPods reads every Pod that is to be read, until there is none more to come.
func (r *reading) followPods(ctx context.Context, target Target, v *view) error {
	f := &podsFollower{reading: r, target: target, view: v, begun: map[types.UID]bool{}, ended: make(chan error)}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for ; f.active > 0; f.active-- {
			<-f.ended //nolint:errcheck // there is another error to return, or none
		}
	}()
	for {
		now := v.now()
		if now.err != nil {
			return now.err
		}
		if len(now.pods) == 0 {
			if err := f.out.begin(); err != nil {
				return err
			}
		}
		waiting := f.begin(ctx, now)
		if f.active == 0 && waiting == 0 && f.isComplete(now) {
			return nil
		}
		select {
		case err := <-f.ended:
			f.active--
			if err != nil {
				return err
			}
		case <-now.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begin begins to read Pods, the oldest first. It returns how many wait for their turn.
func (f *podsFollower) begin(ctx context.Context, now state) (waiting int) {
	pods := now.pods
	atOnce := 1
	if f.query.allPods {
		atOnce = podsAtOnce
	}
	if len(f.begun) == 0 && len(pods) > 0 && !f.query.allPods && f.query.pod == "" {
		for _, older := range pods[:len(pods)-1] {
			// The newest is meant, and those after it; or who goes on, from where that was.
			f.begun[older.UID] = f.query.sinceTime == nil || !endedSince(older, f.query.sinceTime.Time)
		}
	}
	for _, pod := range pods {
		switch {
		case f.query.allPods && !now.ended && !isOver(pod) && !f.mayHaveLog(pod): // others may need its turn
		case f.begun[pod.UID] || (f.query.pod != "" && pod.Name != f.query.pod):
		case f.active == atOnce:
			waiting++
		default:
			f.begun[pod.UID] = true
			f.active++
			go func() { f.ended <- f.followPod(ctx, f.target, f.view, pod) }()
		}
	}
	return waiting
}

// mayHaveLog reports whether there is something to read of a Pod, or to say.
func (f *podsFollower) mayHaveLog(pod *corev1.Pod) bool {
	container, err := containerOf(pod, f.query.container)
	return err != nil || hasLog(statusOf(pod, container))
}

// isComplete reports whether no further Pod can come that is to be read.
func (f *podsFollower) isComplete(now state) bool {
	return now.ended || (f.query.pod != "" && len(f.begun) > 0)
}

// pause waits, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
