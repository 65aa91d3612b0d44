package wait

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
)

// Watcher follows the states of one run, also while the hub's API server restarts: the
// run goes on meanwhile.
type Watcher struct {
	// Hub is asked.
	Hub *cluster.Client
	// Run is the namespace and the name of the run.
	Run types.NamespacedName
	// UID is that of the run; when it is empty, that of the first run seen.
	UID types.UID
	// OnSilence, if not nil, is called once when the hub does not answer, with the error.
	OnSilence func(error)

	refusals failure.Refusals
}

// Follow calls onState with each state of the run until that returns true. Only the
// first request must succeed, and not even that when the UID is known.
func (w *Watcher) Follow(ctx context.Context, onState func(*v1alpha1.PooledJob) (done bool)) error {
	backoff := failure.NewBackoff()
	silenceTold := false
	for {
		done, err := w.listAndWatch(ctx, onState)
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil: // the watch has expired
			backoff, silenceTold = failure.NewBackoff(), false
		case w.UID == "" || !w.refusals.MayTryAgain(err):
			return err
		case w.OnSilence != nil && !silenceTold:
			silenceTold = true
			w.OnSilence(err)
		}
		if err := failure.Pause(ctx, &backoff); err != nil {
			return err
		}
	}
}

// listAndWatch reads the run and watches it for as long as the server lets us.
func (w *Watcher) listAndWatch(ctx context.Context, onState func(*v1alpha1.PooledJob) bool) (done bool, err error) {
	byName := []client.ListOption{client.InNamespace(w.Run.Namespace), client.MatchingFields{"metadata.name": w.Run.Name}}
	// The version of the list, for the object's own may be too old to watch from.
	list := &v1alpha1.PooledJobList{}
	if err := w.Hub.List(ctx, list, byName...); err != nil {
		return false, w.orDeleted(err)
	}
	if len(list.Items) == 0 {
		return false, w.orDeleted(apierrors.NewNotFound(schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "pooledjobs"}, w.Run.Name))
	}
	if done, err := w.handOn(&list.Items[0], onState); done || err != nil {
		return done, err
	}
	events, err := w.Hub.Watch(ctx, &v1alpha1.PooledJobList{},
		append(byName, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})...)
	if err != nil {
		return false, err
	}
	defer events.Stop()
	w.refusals = 0
	for event := range events.ResultChan() {
		if event.Type == watch.Error {
			return false, apierrors.FromObject(event.Object)
		}
		job, ok := event.Object.(*v1alpha1.PooledJob)
		if !ok {
			continue
		}
		if done, err := w.handOn(job, onState); done || err != nil {
			return done, err
		}
		if event.Type == watch.Deleted {
			return false, failure.DeletedError{Run: w.Run}
		}
	}
	return false, nil
}

// handOn hands a state on, if it is one of our run.
func (w *Watcher) handOn(job *v1alpha1.PooledJob, onState func(*v1alpha1.PooledJob) bool) (done bool, err error) {
	if w.UID == "" {
		w.UID = job.UID
	}
	if job.UID != w.UID {
		return false, failure.DeletedError{Run: w.Run}
	}
	return onState(job), nil
}

// orDeleted returns the error, or that the run was deleted when it was there before.
func (w *Watcher) orDeleted(err error) error {
	if apierrors.IsNotFound(err) && w.UID != "" && !failure.IsMissingAPI(err) {
		return failure.DeletedError{Run: w.Run}
	}
	return err
}
