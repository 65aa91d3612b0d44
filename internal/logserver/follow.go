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
// wait for their turn, the oldest first.
const podsAtOnce = 20

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
	for {
		run, err := r.backend.Run(ctx, r.namespace, r.name)
		if err != nil {
			return run, err
		}
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

// followJob follows one Job of the run; moved tells that the run has another one now.
func (r *reading) followJob(ctx context.Context, run Run, changed <-chan struct{}) (moved bool, err error) {
	target, err := r.backend.Open(ctx, run)
	if err != nil {
		return false, err
	}
	defer target.Close()
	pods, err := target.Pods(ctx, run.Namespace, run.UID) // whose error can still be told
	if err != nil {
		return false, targetError(run, err)
	}
	if err := r.checkChoice(run, podsOf(run, pods)); err != nil {
		return false, err
	}
	if err := r.out.begin(); err != nil {
		return false, err
	}
	v := newView(run, r.timing)
	v.setPods(pods)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { target.WatchPods(ctx, run.Namespace, run.UID, v.setPods, v.failed) })
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

// checkChoice refuses what cannot be right, as long as an error can be told.
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

// watchRun tells the view when the run has ended, and returns when it has or when it has
// another Job.
func (r *reading) watchRun(ctx context.Context, followed Run, target Target, v *view, changed <-chan struct{}) (moved bool) {
	for ctx.Err() == nil {
		run, err := r.backend.Run(ctx, r.namespace, r.name)
		gone := apierrors.IsNotFound(err) || (err == nil && run.UID != followed.UID)
		switch {
		case err != nil && !gone:
			v.failed(err)
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
			v.failed(err)
			pause(ctx, r.timing.pause)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return false
}

// followPods reads every Pod that is to be read, until there is none more to come.
func (r *reading) followPods(ctx context.Context, target Target, v *view) error {
	begun, active := map[types.UID]bool{}, 0
	ended := make(chan error)
	atOnce := 1
	if r.query.allPods {
		atOnce = podsAtOnce
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for ; active > 0; active-- {
			<-ended
		}
	}()
	for first := true; ; {
		now := v.now()
		if now.err != nil {
			return now.err
		}
		if first && len(now.pods) > 0 {
			first = false
			for _, older := range now.pods[:len(now.pods)-1] {
				begun[older.UID] = !r.query.allPods && r.query.pod == ""
			}
		}
		left := 0
		for _, pod := range now.pods {
			switch {
			case begun[pod.UID] || (r.query.pod != "" && pod.Name != r.query.pod):
			case active == atOnce:
				left++
			default:
				begun[pod.UID] = true
				active++
				go func() { ended <- r.followPod(ctx, target, v, pod) }()
			}
		}
		if active == 0 && left == 0 && (now.ended || (r.query.pod != "" && len(begun) > 0)) {
			return nil
		}
		select {
		case err := <-ended:
			active--
			if err != nil {
				return err
			}
		case <-now.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
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
