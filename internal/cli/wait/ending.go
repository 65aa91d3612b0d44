package wait

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

// Ending is the end of a run, which may be still to come.
type Ending struct {
	known chan struct{} // closed when the fields below are those of the end
	run   *v1alpha1.PooledJob
	err   error
}

// Await waits until the run has ended, and returns it as it is then.
func (e *Ending) Await() (*v1alpha1.PooledJob, error) {
	<-e.known
	return e.run, e.err
}

// ForEndings waits for all runs at the same time, for one that has ended may be deleted
// before another has, and shows how they go. The timeout, if any, must be the one that the
// context has.
func ForEndings(ctx context.Context, env *command.Environment, hub *cluster.Client, runs []*v1alpha1.PooledJob, timeout time.Duration) []*Ending {
	var endings []*Ending
	for _, run := range runs {
		ending := &Ending{known: make(chan struct{}), run: run}
		endings = append(endings, ending)
		if state.HasEnded(run) {
			close(ending.known)
			continue
		}
		go func() {
			defer close(ending.known)
			key := client.ObjectKeyFromObject(run)
			progress := terminal.NewProgress(env.ErrOut, key.String())
			defer progress.Close()
			if len(runs) > 1 {
				progress.DisableSpinner()
			}
			ending.run, ending.err = forEnd(ctx, hub, key, run.UID, timeout, progress)
		}()
	}
	return endings
}

// forEnd shows how a run goes until it has ended. Without a UID it is the one that has the
// name now.
func forEnd(ctx context.Context, hub *cluster.Client, run types.NamespacedName, uid types.UID, timeout time.Duration, progress *terminal.Progress) (*v1alpha1.PooledJob, error) {
	var last *v1alpha1.PooledJob
	w := &Watcher{Hub: hub, Run: run, UID: uid, OnSilence: func(err error) {
		progress.Notef("the hub does not answer (%v); still trying", err)
	}}
	err := w.Follow(ctx, func(job *v1alpha1.PooledJob) bool {
		last = job
		if !state.HasEnded(job) {
			progress.ShowState(state.Describe(job))
		}
		return state.HasEnded(job)
	})
	if errors.Is(err, context.DeadlineExceeded) && last != nil {
		return nil, fmt.Errorf("PooledJob %s has not ended within %s: %s; wait again, or stop it with `kubectl pooledjob cancel %s -n %s`",
			run, timeout, state.Describe(last), run.Name, run.Namespace)
	}
	return last, err
}
