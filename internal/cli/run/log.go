package run

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/pooledjob/pooledjob/internal/cli/logs"
	"github.com/pooledjob/pooledjob/internal/cli/state"
)

const (
	// defaultLogPatience is how long the log may stand still after the run has ended.
	defaultLogPatience = 30 * time.Second
	// noLogPatience is the same for a log of which nothing has come yet.
	noLogPatience = 10 * time.Second
)

// copyLog copies what the run writes. The run is followed without it, if need be.
func (a *attendant) copyLog(ctx context.Context) {
	defer close(a.logDone)
	open, err := logs.SourceOf(a.hub, a.run)
	if err == nil {
		f := &logs.Follower{
			Open: open, Options: logs.Options{Follow: true, Tail: -1, Limit: -1, AllPods: a.allPods}, Patient: true,
			HasEnded: func(context.Context) bool { return a.hasEnded() },
			OnTrouble: func(err error) {
				if !a.hasEnded() {
					a.progress.Notef("the log cannot be had at the moment (%v); still trying", logs.Explain(err))
				}
			},
			BeforeWrite: a.beforeOutput, AfterWrite: a.afterOutput,
		}
		err = f.Follow(ctx, a.progress.OutputTo(a.out))
	}
	if err != nil && ctx.Err() == nil && !a.neverRan() {
		a.progress.Notef("the log cannot be shown: %v", logs.Explain(err))
	}
}

func (a *attendant) hasEnded() bool {
	job := a.lastSeen.Load()
	return job != nil && state.HasEnded(job)
}

// neverRan reports whether the run ended without a Job, so that nobody misses a log.
func (a *attendant) neverRan() bool {
	return a.hasEnded() && a.lastSeen.Load().Status.JobRef.UID == ""
}

// beforeOutput is called before something is written, and afterOutput after it. As long as
// nobody reads what we write, the log does not stand still: we do.
func (a *attendant) beforeOutput() {
	a.logBegun.Store(true)
	a.writing.Store(true)
}

func (a *attendant) afterOutput() {
	a.writing.Store(false)
	select {
	case a.written <- struct{}{}:
	default:
	}
}

// awaitLog waits for the rest of the log, for as long as it comes.
func (a *attendant) awaitLog(ctx context.Context, stop func()) error {
	going := a.logPatience
	if going == 0 {
		going = defaultLogPatience
	}
	patience := min(noLogPatience, going)
	if a.logBegun.Load() {
		patience = going
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-a.logDone:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-a.written:
			timer.Reset(going)
		case <-timer.C:
			if a.writing.Load() {
				timer.Reset(going)
				continue
			}
			stop()
			a.progress.Notef("the end of the log cannot be shown: %v", a.explainMissingLog(ctx))
			return nil
		}
	}
}

// explainMissingLog asks for the log as it is: that is answered at once, if only with an error.
func (a *attendant) explainMissingLog(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, noLogPatience)
	defer stop()
	open, err := logs.SourceOf(a.hub, a.run)
	if err == nil {
		err = logs.Read(ctx, open, &logs.Options{Tail: -1, Limit: 1}, io.Discard)
	}
	if err == nil {
		err = fmt.Errorf("it did not come in time; try `kubectl pooledjob logs %s -n %s`", a.run.Name, a.run.Namespace)
	}
	return logs.Explain(err)
}
