package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// podPoll is how often a per-task client asks for a Pod that is Pending.
const podPoll = 500 * time.Millisecond

// perTask runs Jobs on a target as Apache DolphinScheduler 3.x does, as far as its releases
// show: for every task a client of its own, with which it creates the Job and watches it,
// and a second one, with which it asks twice a second for the task's Pod until that is not
// Pending any more, and which stays for the log. Each client makes TLS connections of its
// own, and the watch, a WebSocket there, has one for itself.
//
// Left out, in favour of this client, are the fourth connection, which follows the log,
// and everything that happens to the task in the scheduler's own database.
type perTask struct {
	target  *targetWorld
	running sync.WaitGroup
	cancel  context.CancelFunc
}

// startPerTask creates the Jobs. The tasks go on until theirs have ended; stop ends them
// earlier. Observers note in the ledger when a task knows that its Job has ended.
func (w *world) startPerTask(ctx context.Context, target *targetWorld, names []string) (*perTask, error) {
	p := &perTask{target: target}
	ctx, p.cancel = context.WithCancel(ctx)
	err := inParallel(ctx, names, driverConcurrency, func(_ context.Context, name string) error {
		return p.startTask(ctx, w.ledger, name) // its watch outlives this
	})
	return p, err
}

func (p *perTask) stop() {
	p.cancel()
	p.running.Wait()
}

func (p *perTask) startTask(ctx context.Context, l *ledger, name string) error {
	control, err := newEndpoint(p.target.cluster.Config())
	if err != nil {
		return err
	}
	if err := control.post(ctx, jobs, remoteJob(name)); err != nil {
		return err
	}
	body, err := control.openWatch(ctx, jobs, url.Values{"fieldSelector": {"metadata.name=" + name}})
	if err != nil {
		return err
	}
	done := make(chan struct{}) // when the task knows that its Job has ended
	know := sync.OnceFunc(func() {
		now := time.Now()
		l.note(name, func(r *record) { r.ended = now })
		close(done)
	})
	p.running.Go(func() {
		defer control.close()
		err := readWatch(body, func(e event) {
			if hasSucceeded(e.Object) {
				know()
			}
		})
		if err != nil && ctx.Err() == nil {
			fail(fmt.Errorf("the watch of task %s: %w", name, err))
		}
	})
	p.running.Go(func() {
		if err := p.followPod(ctx, name, done); err != nil && ctx.Err() == nil {
			fail(fmt.Errorf("the Pod of task %s: %w", name, err))
		}
	})
	return nil
}

// followPod asks for the Pod until it runs, and keeps the client until the Job has ended.
func (p *perTask) followPod(ctx context.Context, name string, done <-chan struct{}) error {
	logs, err := newEndpoint(p.target.cluster.Config())
	if err != nil {
		return err
	}
	defer logs.close()
	tick := time.NewTicker(podPoll)
	defer tick.Stop()
	for runs := false; !runs; {
		var list struct {
			Items []object `json:"items"`
		}
		path := pods + "?" + url.Values{"labelSelector": {"job-name=" + name}}.Encode()
		if err := logs.do(ctx, http.MethodGet, path, "", nil, &list); err != nil {
			return err
		}
		runs = len(list.Items) > 0 && list.Items[0].Status.Phase != "Pending"
		select {
		case <-tick.C:
		case <-done:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
	return nil
}

// hasSucceeded is how such a client tells that a Job has ended.
func hasSucceeded(o object) bool { return o.Status.Succeeded > 0 || o.Status.CompletionTime != "" }

// removeJobs deletes Jobs that have no PooledJob.
func (w *world) removeJobs(ctx context.Context, target *targetWorld, names []string) error {
	err := inParallel(ctx, names, driverConcurrency, func(ctx context.Context, name string) error {
		return target.api.delete(ctx, jobs+"/"+name+"?propagationPolicy=Foreground")
	})
	if err != nil {
		return err
	}
	if err := w.ledger.await(ctx, names, "gone from the target", func(r *record) bool { return !r.remoteGone.IsZero() }); err != nil {
		return err
	}
	defer w.ledger.forget(names)
	return w.ledger.onlyOne(names)
}
