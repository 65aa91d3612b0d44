package run

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
)

const (
	// repeatedSignal is for how long a second SIGTERM is the first one again: timeout of
	// GNU coreutils sends it to the process and to its group.
	repeatedSignal = 500 * time.Millisecond
	// cancelPatience is how long a second signal waits for what the first one asked.
	cancelPatience = 5 * time.Second
)

// errLeft is the error when a second signal has us leave the run.
var errLeft = errors.New("left by a second signal")

// catchSignals has signals asked about instead of ending us. It must be called before
// the run is created, so that none leaves a run alone that nobody knows of.
func catchSignals() (signals <-chan os.Signal, release func()) {
	caught := make(chan os.Signal, 2)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM)
	return caught, func() { signal.Stop(caught) }
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
	firstAt := time.Now()
	a.progress.Notef("stopping it; interrupt again to leave before it has ended")
	// What a first signal asks for is not taken back by a second.
	asking, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		a.askToCancel(asking)
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case again := <-a.signals:
			if again == syscall.SIGTERM && first == syscall.SIGTERM && time.Since(firstAt) < repeatedSignal {
				continue
			}
			a.awaitAnswer(ctx, asked)
			leave(errLeft)
			return
		}
	}
}

// awaitAnswer waits a little until the run was asked to stop, and says so if it was not.
func (a *attendant) awaitAnswer(ctx context.Context, asked <-chan struct{}) {
	timer := time.NewTimer(cancelPatience)
	defer timer.Stop()
	select {
	case <-asked:
	case <-ctx.Done():
	case <-timer.C:
		a.progress.Notef("the hub does not answer, and it may run on; stop it with `kubectl pooledjob cancel %s -n %s`", a.run.Name, a.run.Namespace)
	}
}

// askToCancel asks the operator to cancel the run until the hub has taken that, or has
// refused it for good.
func (a *attendant) askToCancel(ctx context.Context) {
	backoff := failure.NewBackoff()
	for attempt := 1; ; attempt++ {
		_, err := cancelRun(ctx, a.hub, a.run, a.uid, command.DryRunNone)
		if err == nil || ctx.Err() != nil {
			a.cancelling.Store(err == nil)
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
