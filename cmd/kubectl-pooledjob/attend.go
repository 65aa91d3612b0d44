package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/cli/logs"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
	"github.com/pooledjob/pooledjob/internal/cli/wait"
)

const (
	// logPatience is how long the log may stand still after the run has ended.
	logPatience = 30 * time.Second
	// noLogPatience is the same for a log of which nothing has come yet.
	noLogPatience = 10 * time.Second
	// onceMore is for how long a second SIGTERM is the first one again: timeout of GNU coreutils
	// sends it to the process and to its group.
	onceMore = 500 * time.Millisecond
	// cancelPatience is how long a second signal waits for what the first one asked.
	cancelPatience = 5 * time.Second
)

// errLeft is when a second signal has us leave the run.
var errLeft = errors.New("left by a second signal")

// attendant stays with a run until it has ended: it shows how the run goes and what it
// writes, and passes signals on.
type attendant struct {
	hub      *cluster.Client
	key      client.ObjectKey
	uid      types.UID // of the run; another run of its name is not ours
	progress *terminal.Progress
	out      io.Writer
	// allPods has the output of all Pods shown, each line with its Pod.
	allPods bool
	signals <-chan os.Signal

	mu        sync.Mutex
	interrupt os.Signal // the first signal, if one came

	stopping atomic.Bool // the hub has taken the request to stop it
	begun    atomic.Bool // some of the log has come
	last     atomic.Pointer[v1alpha1.PooledJob]
	logged   chan struct{} // closed when the log has been read
	writing  atomic.Bool   // what was read is being written
	reading  chan struct{} // something was read and written
	patience time.Duration // how long the log may stand still; logPatience unless set
}

// catchSignals has signals asked about instead of ending us. It must be called before
// the run is created, so that none leaves a run alone that nobody knows of.
func catchSignals() (signals <-chan os.Signal, release func()) {
	caught := make(chan os.Signal, 2)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM)
	return caught, func() { signal.Stop(caught) }
}

// attend returns nil when the run has succeeded, and its exit code otherwise.
func (a *attendant) attend(ctx context.Context) error {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	defer a.progress.Close()
	a.logged, a.reading = make(chan struct{}), make(chan struct{}, 1)
	go a.heedSignals(ctx, leave)
	logContext, stopLog := context.WithCancel(ctx)
	defer stopLog()
	go a.log(logContext)

	w := &wait.Watcher{Hub: a.hub, Run: a.key, UID: a.uid, OnSilence: func(err error) {
		a.progress.Notef("the hub does not answer (%v); the run goes on, still trying", err)
	}}
	if err := w.Follow(ctx, a.see); err != nil {
		return a.left(err)
	}
	if err := a.awaitLog(ctx, stopLog); err != nil {
		return a.left(err)
	}
	job := a.last.Load()
	a.progress.ShowState(state.Describe(job))
	a.mu.Lock()
	defer a.mu.Unlock()
	return failure.ExitOfInterrupted(job, a.interrupt)
}

func (a *attendant) see(job *v1alpha1.PooledJob) bool {
	a.last.Store(job)
	if state.HasEnded(job) {
		return true
	}
	a.progress.ShowState(state.Describe(job))
	return false
}

// left says how to come back, when we were told to go.
func (a *attendant) left(err error) error {
	if !errors.Is(err, errLeft) {
		return err
	}
	how := "left alone"
	if a.stopping.Load() {
		how = "left while it is being stopped"
	}
	a.progress.Notef("%s; `kubectl pooledjob wait %s -n %s` waits for its end", how, a.key.Name, a.key.Namespace)
	a.mu.Lock()
	defer a.mu.Unlock()
	if number, ok := a.interrupt.(syscall.Signal); ok {
		return failure.ExitOfSignal(number)
	}
	return err
}

// heedSignals asks the operator to cancel at the first signal, and has us leave at the
// second.
func (a *attendant) heedSignals(ctx context.Context, leave context.CancelCauseFunc) {
	var first os.Signal
	select {
	case <-ctx.Done():
		return
	case first = <-a.signals:
		a.mu.Lock()
		a.interrupt = first
		a.mu.Unlock()
	}
	came := time.Now()
	a.progress.Notef("stopping it; interrupt again to leave before it has ended")
	// What a first signal asks for is not taken back by a second.
	asking, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		a.cancel(asking)
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case again := <-a.signals:
			if again == syscall.SIGTERM && first == syscall.SIGTERM && time.Since(came) < onceMore {
				continue
			}
			a.awaitAsked(ctx, asked)
			leave(errLeft)
			return
		}
	}
}

// awaitAsked waits a little until the run was asked to stop, and says so if it was not.
func (a *attendant) awaitAsked(ctx context.Context, asked <-chan struct{}) {
	timer := time.NewTimer(cancelPatience)
	defer timer.Stop()
	select {
	case <-asked:
	case <-ctx.Done():
	case <-timer.C:
		a.progress.Notef("the hub does not answer, and it may run on; stop it with `kubectl pooledjob cancel %s -n %s`", a.key.Name, a.key.Namespace)
	}
}

func (a *attendant) cancel(ctx context.Context) {
	backoff := failure.NewBackoff()
	for attempt := 1; ; attempt++ {
		_, err := cancelRun(ctx, a.hub, a.key, a.uid, command.DryRunNone)
		if err == nil || ctx.Err() != nil {
			a.stopping.Store(err == nil)
			return
		}
		if !failure.MayPass(err) && (!failure.IsRefusal(err) || attempt >= failure.MaxRefusals) {
			a.progress.Notef("it cannot be stopped: %v", failure.Explain(err))
			return
		}
		if failure.Pause(ctx, &backoff) != nil {
			return
		}
	}
}

// log copies what the run writes. The run is followed without it, if need be.
func (a *attendant) log(ctx context.Context) {
	defer close(a.logged)
	open, err := logs.SourceOf(a.hub, a.key)
	if err == nil {
		f := &logs.Follower{
			Open: open, Options: logs.Options{Follow: true, Tail: -1, Limit: -1, AllPods: a.allPods}, Patient: true,
			HasEnded: func(context.Context) bool { return a.over() },
			OnTrouble: func(err error) {
				if !a.over() {
					a.progress.Notef("the log cannot be had at the moment (%v); still trying", logs.Explain(err))
				}
			},
			BeforeWrite: a.read, AfterWrite: a.written,
		}
		err = f.Follow(ctx, a.progress.OutputTo(a.out))
	}
	if err != nil && ctx.Err() == nil && !a.neverRan() {
		a.progress.Notef("the log cannot be shown: %v", logs.Explain(err))
	}
}

func (a *attendant) over() bool {
	job := a.last.Load()
	return job != nil && state.HasEnded(job)
}

// neverRan reports whether the run ended without a Job, so that nobody misses a log.
func (a *attendant) neverRan() bool {
	return a.over() && a.last.Load().Status.JobRef.UID == ""
}

// read is called before something is written, and written after it. As long as nobody
// reads what we write, the log does not stand still: we do.
func (a *attendant) read() {
	a.begun.Store(true)
	a.writing.Store(true)
}

func (a *attendant) written() {
	a.writing.Store(false)
	select {
	case a.reading <- struct{}{}:
	default:
	}
}

// awaitLog waits for the rest of the log, for as long as it comes.
func (a *attendant) awaitLog(ctx context.Context, stop func()) error {
	going := a.patience
	if going == 0 {
		going = logPatience
	}
	patience := min(noLogPatience, going)
	if a.begun.Load() {
		patience = going
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-a.logged:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-a.reading:
			timer.Reset(going)
		case <-timer.C:
			if a.writing.Load() {
				timer.Reset(going)
				continue
			}
			stop()
			a.progress.Notef("the end of the log cannot be shown: %v", a.whyNoLog(ctx))
			return nil
		}
	}
}

// whyNoLog asks for the log as it is: that is answered at once, if only with an error.
func (a *attendant) whyNoLog(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, noLogPatience)
	defer stop()
	open, err := logs.SourceOf(a.hub, a.key)
	if err == nil {
		err = logs.Read(ctx, open, &logs.Options{Tail: -1, Limit: 1}, io.Discard)
	}
	if err == nil {
		err = fmt.Errorf("it did not come in time; try `kubectl pooledjob logs %s -n %s`", a.key.Name, a.key.Namespace)
	}
	return logs.Explain(err)
}
