package connpool

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/internal/connpool/pause"
)

// allNamespaces is the scope of a view that shows every namespace.
const allNamespaces = metav1.NamespaceAll

// explainPatience is how long a denial may wait for the names of the missing rights
// before it is reported without them.
const explainPatience = 2 * time.Second

// view shows the Jobs and Pods of one scope: a namespace, or all. A view that is
// denied is tried again by itself, and does not disturb the others of its session.
type view struct {
	session *session
	scope   string
	ctx     context.Context
	cancel  context.CancelFunc
	settled chan struct{} // closed at the first result, synced or denied, or at the end

	// Guarded by Pool.mu.
	state   State // Connecting, Ready, Unreachable, Forbidden, LimitExceeded or Stale
	err     error // unless Ready or Connecting
	current *informers
}

func newView(s *session, scope string) *view {
	v := &view{
		session: s, scope: scope, state: Connecting,
		settled: make(chan struct{}),
	}
	v.ctx, v.cancel = context.WithCancel(s.ctx)
	return v
}

// run keeps informers running until the view or its session ends.
func (v *view) run() {
	settle := sync.OnceFunc(func() { close(v.settled) })
	defer settle()
	result := func(state State, err error, current *informers) {
		v.session.entry.pool.viewChanged(v, state, err, current)
		settle()
	}
	for failures := 0; v.ctx.Err() == nil; failures++ {
		denied := v.watch(result)
		if v.ctx.Err() != nil {
			return
		}
		if !pause.For(v.ctx, v.refuse(denied, failures, result)) {
			return
		}
	}
}

// refuse reports why a view shows nothing, and returns how long to wait before it is tried again.
func (v *view) refuse(why error, failures int, result func(State, error, *informers)) time.Duration {
	options := v.session.options
	switch {
	case ExceedsLimit(why):
		v.session.entry.exceeded.Add(1)
		result(LimitExceeded, why, nil)
		return pause.About(options.LimitPause)
	case v.deny(why, result):
		return pause.About(options.ReviewInterval)
	}
	return pause.Backoff(options.MinBackoff, options.MaxBackoff, failures) // an API server that has just started denies what it allows later
}

// deny reports that the view is denied, and which rights are missing. It does not
// wait for a target that is slow to name them.
func (v *view) deny(denied error, result func(State, error, *informers)) (lacking bool) {
	reviewing := v.session.reviewing
	told := make(chan struct{})
	early := time.AfterFunc(explainPatience, func() {
		defer close(told)
		result(Forbidden, denied, nil)
	})
	why := denied
	select {
	case reviewing <- struct{}{}: // many views may be denied at once
		lacking, why = v.session.explainDenial(v.ctx, []string{v.scope}, denied)
		<-reviewing
	case <-v.ctx.Done():
	}
	if !early.Stop() {
		<-told
	}
	result(Forbidden, why, nil)
	return lacking
}

// watch runs informers until they are denied, exceed a limit or the view ends, and returns
// the cause.
func (v *view) watch(result func(State, error, *informers)) error {
	ctx, cancel := context.WithCancelCause(v.ctx)
	defer cancel(nil)
	running := newInformers(ctx, v, cancel)
	var ended sync.WaitGroup
	ended.Go(running.run)
	defer ended.Wait()
	defer cancel(nil) // before the wait
	slow := time.NewTimer(v.session.options.SyncTimeout)
	defer slow.Stop()
	waiting := []*informer{running.jobs, running.pods}
	for len(waiting) > 0 {
		select {
		case <-waiting[0].synced:
			waiting = waiting[1:]
		case <-slow.C:
			result(Unreachable, running.whyNotSynced(), nil) // and go on waiting
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	result(Ready, nil, running)
	<-ctx.Done()
	return context.Cause(ctx)
}

// judge reports whether the watches of a view that was up to date still are.
func (v *view) judge(now time.Time) (State, error) {
	silence := now.Sub(time.Unix(0, v.current.lastWords()))
	if silence > v.session.options.WatchStaleness {
		return Stale, errStale
	}
	return Ready, nil
}
