package main

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

// watcher follows one PooledJob, also while the hub's API server restarts: the run
// goes on meanwhile.
type watcher struct {
	hub *cluster.Client
	key client.ObjectKey
	// lost, if not nil, is told once when the hub does not answer, with the error.
	lost func(error)
	// uid is that of the run; that of the first one seen, when it is left out.
	uid types.UID

	refused failure.Refusals
}

// follow calls see with each state until see returns true. Only the first request must
// succeed, and not even that when the UID is known.
func (w *watcher) follow(ctx context.Context, see func(*v1alpha1.PooledJob) bool) error {
	backoff := failure.NewBackoff()
	told := false
	for {
		done, err := w.once(ctx, see)
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil: // the watch has expired
			backoff, told = failure.NewBackoff(), false
		case w.uid == "" || !w.refused.MayTryAgain(err):
			return err
		case w.lost != nil && !told:
			told = true
			w.lost(err)
		}
		if err := failure.Pause(ctx, &backoff); err != nil {
			return err
		}
	}
}

// once reads the PooledJob and watches it for as long as the server lets us.
func (w *watcher) once(ctx context.Context, see func(*v1alpha1.PooledJob) bool) (done bool, err error) {
	one := []client.ListOption{client.InNamespace(w.key.Namespace), client.MatchingFields{"metadata.name": w.key.Name}}
	// The version of the list, for the object's own may be too old to watch from.
	list := &v1alpha1.PooledJobList{}
	if err := w.hub.List(ctx, list, one...); err != nil {
		return false, w.gone(err)
	}
	if len(list.Items) == 0 {
		return false, w.gone(apierrors.NewNotFound(schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "pooledjobs"}, w.key.Name))
	}
	if done, err := w.seen(&list.Items[0], see); done || err != nil {
		return done, err
	}
	events, err := w.hub.Watch(ctx, &v1alpha1.PooledJobList{},
		append(one, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})...)
	if err != nil {
		return false, err
	}
	defer events.Stop()
	w.refused = 0
	for event := range events.ResultChan() {
		if event.Type == watch.Error {
			return false, apierrors.FromObject(event.Object)
		}
		job, ok := event.Object.(*v1alpha1.PooledJob)
		if !ok {
			continue
		}
		if done, err := w.seen(job, see); done || err != nil {
			return done, err
		}
		if event.Type == watch.Deleted {
			return false, w.deleted()
		}
	}
	return false, nil
}

// seen hands a state on, if it is one of our run.
func (w *watcher) seen(job *v1alpha1.PooledJob, see func(*v1alpha1.PooledJob) bool) (done bool, err error) {
	if w.uid == "" {
		w.uid = job.UID
	}
	if job.UID != w.uid {
		return false, w.deleted()
	}
	return see(job), nil
}

func (w *watcher) gone(err error) error {
	if apierrors.IsNotFound(err) && w.uid != "" && !failure.IsMissingAPI(err) {
		return w.deleted()
	}
	return err
}

func (w *watcher) deleted() error { return failure.DeletedError{Run: w.key} }
