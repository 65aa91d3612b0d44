package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// retries is how long to wait between attempts while a server does not answer.
func retries() wait.Backoff {
	return wait.Backoff{Duration: 250 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 6, Cap: 5 * time.Second}
}

// pause waits between two attempts, or until the context ends.
func pause(ctx context.Context, backoff *wait.Backoff) error {
	timer := time.NewTimer(backoff.Step())
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// mayPass reports whether an error of a request may go away by itself.
func mayPass(err error) bool {
	var status apierrors.APIStatus
	var deleted errDeleted
	switch {
	case errors.As(err, &deleted):
		return false
	case !errors.As(err, &status):
		return true // no answer, or a broken one
	}
	code := status.Status().Code
	return code == 429 || code >= 500 || apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}

// isRefusal tells of an answer that a hub also gives for a moment: while a token is
// renewed, or an API server that has just started does not know the roles yet. To one who
// was let in before it is not the last word.
func isRefusal(err error) bool { return apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) }

// lastRefusals is how many refusals in a row are the last word.
const lastRefusals = 6

// unlessItPasses is an error that ends a wait; nil for one that may go away.
func unlessItPasses(err error) error {
	if err != nil && mayPass(err) {
		return nil
	}
	return err
}

// watcher follows one PooledJob, also while the hub's API server restarts: the run
// goes on meanwhile.
type watcher struct {
	hub *cluster
	key client.ObjectKey
	// lost, if not nil, is told once when the hub does not answer, with the error.
	lost func(error)
	// uid is that of the run; that of the first one seen, when it is left out.
	uid types.UID

	refused refusals
}

// follow calls see with each state until see returns true. Only the first request must
// succeed, and not even that when the UID is known.
func (w *watcher) follow(ctx context.Context, see func(*v1alpha1.PooledJob) bool) error {
	backoff := retries()
	told := false
	for {
		done, err := w.once(ctx, see)
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil: // the watch has expired
			backoff, told = retries(), false
		case w.uid == "" || !w.refused.bear(err):
			return err
		case w.lost != nil && !told:
			told = true
			w.lost(err)
		}
		if err := pause(ctx, &backoff); err != nil {
			return err
		}
	}
}

// refusals counts the refusals in a row of a hub that has let us in before.
type refusals int

// bear reports whether to try again after an error.
func (r *refusals) bear(err error) bool {
	if !isRefusal(err) {
		return mayPass(err)
	}
	*r++
	return *r < lastRefusals
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
	if apierrors.IsNotFound(err) && w.uid != "" && !isNoAPI(err) {
		return w.deleted()
	}
	return err
}

// errDeleted is when the run that is followed was deleted.
type errDeleted struct{ key client.ObjectKey }

func (e errDeleted) Error() string {
	return fmt.Sprintf("PooledJob %s was deleted before its end was seen; a new run is a new PooledJob", e.key)
}

func (w *watcher) deleted() error { return errDeleted{w.key} }
