package connpool

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/pooledjob/pooledjob/internal/connpool/budget"
	"github.com/pooledjob/pooledjob/internal/connpool/sanitize"
	"github.com/pooledjob/pooledjob/internal/connpool/store"
	"github.com/pooledjob/pooledjob/internal/connpool/transport"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// This file has the requests of a run to the target itself.

// NewJob is a Job to be created, in JSON.
type NewJob struct {
	Namespace, Name string
	JSON            []byte
}

// CreateJob creates a Job. A field that the target does not know is refused by it. The
// warnings are what its API server says of a Job that it takes.
func (l *Lease) CreateJob(ctx context.Context, job NewJob) (created *batchv1.Job, warnings []string, err error) {
	created, err = l.postJob(ctx, job, &metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}, &warnings)
	return created, warnings, err
}

// TryJob asks what CreateJob would create, with all that the target's admission does to it.
// Nothing is created, and no answer that is lost can have done anything.
func (l *Lease) TryJob(ctx context.Context, job NewJob) (*batchv1.Job, error) {
	return l.postJob(ctx, job, &metav1.CreateOptions{
		FieldValidation: metav1.FieldValidationStrict, DryRun: []string{metav1.DryRunAll},
	}, new([]string))
}

// maxWarnings is how many warnings of one answer are passed on, and maxWarning how much of each,
// in bytes.
const (
	maxWarnings = 4
	maxWarning  = 512
)

// warningList takes the warnings of an answer.
type warningList []string

// HandleWarningHeader implements rest.WarningHandler.
func (w *warningList) HandleWarningHeader(_ int, _, text string) {
	if len(*w) < maxWarnings {
		*w = append(*w, text[:min(len(text), maxWarning)])
	}
}

func (l *Lease) postJob(ctx context.Context, job NewJob, options *metav1.CreateOptions, warnings *[]string) (*batchv1.Job, error) {
	return call(ctx, l, func(ctx context.Context) (*batchv1.Job, error) {
		request := l.session.transport.Batch.RESTClient().Post().
			Namespace(job.Namespace).Resource("jobs").VersionedParams(options, scheme.ParameterCodec).
			WarningHandler((*warningList)(warnings)).
			SetHeader("Content-Type", runtime.ContentTypeJSON).Body(job.JSON)
		return l.readJob(ctx, request, job.Namespace, job.Name)
	})
}

// GetJob reads a Job from the target itself, whatever its labels.
func (l *Lease) GetJob(ctx context.Context, namespace, name string) (*batchv1.Job, error) {
	return call(ctx, l, func(ctx context.Context) (*batchv1.Job, error) {
		return l.readJob(ctx, l.session.transport.Batch.RESTClient().Get().
			Namespace(namespace).Resource("jobs").Name(name), namespace, name)
	})
}

// readJob makes sure that the answer to a request is the Job that was asked for: any other would
// be taken for a Job of somebody else.
func (l *Lease) readJob(ctx context.Context, request *rest.Request, namespace, name string) (*batchv1.Job, error) {
	job := &batchv1.Job{}
	if err := transport.Read(ctx, request, l.session.schemas[store.KindJob], job); err != nil {
		return nil, err
	}
	if err := checkJob(job, namespace, name); err != nil {
		return nil, err
	}
	sanitize.Job(job)
	return job, nil
}

func checkJob(job *batchv1.Job, namespace, name string) error {
	if job.UID == "" || job.Namespace != namespace || job.Name != name {
		return transport.ErrNotKube
	}
	return sanitize.CheckUID(job.UID)
}

// PatchJob applies a JSON merge patch to a Job, and returns what became of it.
func (l *Lease) PatchJob(ctx context.Context, namespace, name string, patch []byte) (*batchv1.Job, error) {
	return call(ctx, l, func(ctx context.Context) (*batchv1.Job, error) {
		return l.readJob(ctx, l.session.transport.Batch.RESTClient().Patch(types.MergePatchType).
			Namespace(namespace).Resource("jobs").Name(name).Body(patch), namespace, name)
	})
}

// DeleteJob deletes the Job of that UID and, unless it is empty, of that resource version
// in the foreground: it is gone when its Pods are.
func (l *Lease) DeleteJob(ctx context.Context, namespace, name string, uid types.UID, resourceVersion string) error {
	preconditions := &metav1.Preconditions{UID: &uid}
	if resourceVersion != "" {
		preconditions.ResourceVersion = &resourceVersion
	}
	foreground := metav1.DeletePropagationForeground
	_, err := call(ctx, l, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, transport.Send(ctx, l.session.transport.Batch.RESTClient().Delete().Namespace(namespace).Resource("jobs").Name(name).
			Body(&metav1.DeleteOptions{PropagationPolicy: &foreground, Preconditions: preconditions}))
	})
	return err
}

// DeletePod deletes the Pod of that UID, with the grace period that it has.
func (l *Lease) DeletePod(ctx context.Context, namespace, name string, uid types.UID) error {
	_, err := call(ctx, l, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, transport.Send(ctx, l.session.transport.Core.RESTClient().Delete().Namespace(namespace).Resource("pods").Name(name).
			Body(&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}))
	})
	return err
}

// ListPods reads from the target itself the Pods of the run that Options.Selector picks. Those that
// the view shows as they are come as Pods has them, the others without what only events show. The
// error is ErrTooManyPods if there are many that the view does not show so. Any other is worth another try,
// also that there is no room for many now. A view that is only late shows them soon, so that the next list
// is a short one.
func (l *Lease) ListPods(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	return call(ctx, l, func(ctx context.Context) ([]*corev1.Pod, error) {
		pods, err := l.listPods(ctx, namespace, nil)
		if !errors.Is(err, store.ErrLongList) {
			return pods, err
		}
		entry := l.session.entry
		// Nothing is read meanwhile: an answer that nobody reads would hold up all others over its TCP
		// connection.
		if err := entry.longLists.Acquire(ctx, 1); err != nil {
			return nil, fmt.Errorf("waiting until other lists of many Pods are read: %w", err)
		}
		defer entry.longLists.Release(1)
		return l.listManyPods(ctx, namespace, entry.budget)
	})
}

// listManyPods reads a long list, which counts in a budget, and is given up when that is to be.
func (l *Lease) listManyPods(ctx context.Context, namespace string, counted *budget.Budget) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	long := budget.NewPending(counted)
	counted.Hold(long, func(why error) { cancel(fmt.Errorf("%w: %s", store.ErrNoRoom, why.Error())) })
	defer counted.Release(long)
	defer long.Close()
	pods, err := l.listPods(ctx, namespace, long)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, store.ErrNoRoom) {
		err = cause
	}
	return pods, err
}

// maxLongLists is how many long lists of Pods of one connection are read at a time.
const maxLongLists = 2

func (l *Lease) listPods(ctx context.Context, namespace string, long *budget.Pending) ([]*corev1.Pod, error) {
	request := l.session.transport.Core.RESTClient().Get().Namespace(namespace).Resource("pods").
		VersionedParams(&metav1.ListOptions{LabelSelector: l.session.options.Selector + "," + l.session.options.KeyLabel + "=" + l.key}, scheme.ParameterCodec)
	var shown *store.Store
	if view, err := l.view(namespace); err == nil {
		shown = view.store
	}
	list := store.NewPodList(shown, l.session.entry.pool.labels, l.key, namespace, long)
	if _, err := transport.ReadList(ctx, request, l.session.schemas[store.KindPod], list.Add); err != nil {
		return nil, err
	}
	return list.Pods(l.made), nil
}

// maxEvents is how many Events of one object are read: API servers keep those of the last hour,
// and count what repeats itself.
const maxEvents = 50

// Warnings reads from the target itself the Events of type Warning about an object, at most 50
// and in no order. The right to do so is one that a connection may lack.
func (l *Lease) Warnings(ctx context.Context, namespace, kind, name string, uid types.UID) ([]corev1.Event, error) {
	return call(ctx, l, func(ctx context.Context) (found []corev1.Event, err error) {
		selected := &metav1.ListOptions{Limit: maxEvents, FieldSelector: fields.Set{
			"involvedObject.kind": kind, "involvedObject.name": name, "involvedObject.uid": string(uid), "type": corev1.EventTypeWarning,
		}.String()}
		request := l.session.transport.Core.RESTClient().Get().
			Namespace(namespace).Resource("events").VersionedParams(selected, scheme.ParameterCodec)
		_, err = transport.ReadList(ctx, request, eventSchema, func(kept prune.Kept) error {
			event := corev1.Event{}
			if err := event.Unmarshal(kept.Message); err != nil || len(found) == maxEvents {
				return err
			}
			found = append(found, event)
			return nil
		})
		return found, err
	})
}

// ReadClusterUID asks the target, over the same transport as every other call,
// which cluster it is.
func (l *Lease) ReadClusterUID(ctx context.Context) (string, error) {
	return call(ctx, l, l.session.readClusterUID)
}

// call makes one bounded request, if the session lives and there is room for it.
func call[T any](ctx context.Context, l *Lease, request func(context.Context) (T, error)) (answer T, err error) {
	pool := l.session.entry.pool
	if err := pool.begin(l.session, l.key); err != nil {
		return answer, err
	}
	defer pool.end(l.session)
	if waiting, ok := ctx.Value(waitingKey{}).(*atomic.Bool); ok {
		waiting.Store(true)
		defer waiting.Store(false)
	}
	ctx, cancel := context.WithTimeout(transport.Unlogged(ctx), l.session.options.RequestTimeout)
	defer cancel()
	defer context.AfterFunc(l.session.ctx, cancel)()
	answer, err = request(ctx)
	if err != nil && l.session.ctx.Err() != nil {
		err = fmt.Errorf("the connection was lost before the target answered: %w", err)
	}
	l.session.doubted(err)
	return answer, transport.Redact(err, l.session.entry.identity.Token)
}

// waitingKey is the context key of WithWaiting.
type waitingKey struct{}

// WithWaiting has waiting be true while a call with the context waits for a target.
func WithWaiting(ctx context.Context, waiting *atomic.Bool) context.Context {
	return context.WithValue(ctx, waitingKey{}, waiting)
}

// eventSchema is what is kept of an Event.
var eventSchema = prune.NewSchema(&corev1.Event{}, "Event", sanitize.SmallBounds, prune.Fields{
	"metadata": prune.Message(prune.Fields{"name": prune.Exact(prune.MaxName), "creationTimestamp": prune.Time()}),
	"reason":   prune.Text(prune.MaxName), "message": prune.Text(prune.MaxWords), "type": prune.Text(prune.MaxLabel),
	"lastTimestamp": prune.Time(), "eventTime": prune.Time(), "series": prune.Message(prune.Fields{"lastObservedTime": prune.Time()}),
})
