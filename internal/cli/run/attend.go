package run

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
	"github.com/pooledjob/pooledjob/internal/cli/wait"
)

// attendant stays with a run until it has ended: it shows how the run goes and what it
// writes, and passes signals on.
type attendant struct {
	hub      *cluster.Client
	run      types.NamespacedName
	uid      types.UID // of the run; another run of its name is not ours
	progress *terminal.Progress
	out      io.Writer
	// allPods has the output of all Pods shown, each line with its Pod.
	allPods bool
	signals <-chan os.Signal

	mu        sync.Mutex
	interrupt os.Signal // the first signal, if one came

	cancelling  atomic.Bool // the hub has taken the request to stop it
	logBegun    atomic.Bool // some of the log has come
	lastSeen    atomic.Pointer[v1alpha1.PooledJob]
	logDone     chan struct{} // closed when the log has been read
	writing     atomic.Bool   // what was read is being written
	written     chan struct{} // something was read and written
	logPatience time.Duration // how long the log may stand still; defaultLogPatience unless set
}

// attend returns nil when the run has succeeded, and its exit code otherwise.
func (a *attendant) attend(ctx context.Context) error {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	defer a.progress.Close()
	a.logDone, a.written = make(chan struct{}), make(chan struct{}, 1)
	go a.heedSignals(ctx, leave)
	logContext, stopLog := context.WithCancel(ctx)
	defer stopLog()
	go a.copyLog(logContext)

	w := &wait.Watcher{Hub: a.hub, Run: a.run, UID: a.uid, OnSilence: func(err error) {
		a.progress.Notef("the hub does not answer (%v); the run goes on, still trying", err)
	}}
	if err := w.Follow(ctx, a.showState); err != nil {
		return a.noteLeaving(err)
	}
	if err := a.awaitLog(ctx, stopLog); err != nil {
		return a.noteLeaving(err)
	}
	job := a.lastSeen.Load()
	a.progress.ShowState(state.Describe(job))
	a.mu.Lock()
	defer a.mu.Unlock()
	return failure.ExitOfInterrupted(job, a.interrupt)
}

// showState shows what the run is doing, and reports whether it has ended.
func (a *attendant) showState(job *v1alpha1.PooledJob) bool {
	a.lastSeen.Store(job)
	if state.HasEnded(job) {
		return true
	}
	a.progress.ShowState(state.Describe(job))
	return false
}

// noteLeaving prints how to come back after a signal.
func (a *attendant) noteLeaving(err error) error {
	if !errors.Is(err, errLeft) {
		return err
	}
	how := "left alone"
	if a.cancelling.Load() {
		how = "left while it is being stopped"
	}
	a.progress.Notef("%s; `kubectl pooledjob wait %s -n %s` waits for its end", how, a.run.Name, a.run.Namespace)
	a.mu.Lock()
	defer a.mu.Unlock()
	if number, ok := a.interrupt.(syscall.Signal); ok {
		return failure.ExitOfSignal(number)
	}
	return err
}
