package connpool

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// byKey is the index of watched objects by their value of Options.KeyLabel.
const byKey = "key"

// informers are the two of a view.
type informers struct {
	options Options
	ctx     context.Context // done when they have been told to end
	jobs    cache.SharedIndexInformer
	pods    cache.SharedIndexInformer
	gone    *gonePods
	trouble atomic.Pointer[error] // that a watch had last
	// heardOfJobs and heardOfPods are when the two watches last told something,
	// Unix nanoseconds.
	heardOfJobs, heardOfPods atomic.Int64
}

// newInformers makes the informers of a view. A right that is missing ends them, by
// denied; any other trouble of a watch is the reflector's to mend and the probe's to
// judge.
func newInformers(ctx context.Context, v *view, denied context.CancelCauseFunc) (*informers, error) {
	client := v.session.transport.client
	i := &informers{options: v.session.options, ctx: ctx}
	i.jobs = i.informer(v, &batchv1.Job{}, client.BatchV1().RESTClient(), "jobs", &i.heardOfJobs)
	i.pods = i.informer(v, &corev1.Pod{}, client.CoreV1().RESTClient(), "pods", &i.heardOfPods)
	i.gone = newGonePods(i.hasJobs)
	handlers := []struct {
		informer cache.SharedIndexInformer
		onDelete func(key string, obj any)
	}{
		{i.jobs, func(key string, _ any) { i.gone.forget(key) }},
		{i.pods, i.gone.remember},
	}
	onError := func(_ context.Context, _ *cache.Reflector, err error) {
		v.session.unauthorized(err)
		i.trouble.Store(&err)
		if isForbidden(err) {
			denied(err)
		}
	}
	for _, h := range handlers {
		if err := h.informer.SetTransform(slim); err != nil {
			return nil, fmt.Errorf("informer: %w", err)
		}
		if err := h.informer.SetWatchErrorHandlerWithContext(onError); err != nil {
			return nil, fmt.Errorf("informer: %w", err)
		}
		if _, err := h.informer.AddEventHandler(i.handler(h.onDelete)); err != nil {
			return nil, fmt.Errorf("informer: %w", err)
		}
	}
	return i, nil
}

// run runs both informers until their context is done.
func (i *informers) run() {
	var running sync.WaitGroup
	running.Go(func() { i.jobs.RunWithContext(i.ctx) })
	running.Go(func() { i.pods.RunWithContext(i.ctx) })
	running.Wait()
}

// whyNotSynced is what is known of why the first list takes long.
func (i *informers) whyNotSynced() error {
	if trouble := i.trouble.Load(); trouble != nil {
		return fmt.Errorf("%w: %w", errSlowList, *trouble)
	}
	return errSlowList
}

// lastWords is when the more silent of the two watches told something.
func (i *informers) lastWords() int64 { return min(i.heardOfJobs.Load(), i.heardOfPods.Load()) }

func (i *informers) informer(v *view, example runtime.Object, client rest.Interface, resource string, heard *atomic.Int64) cache.SharedIndexInformer {
	plain := cache.NewFilteredListWatchFromClient(client, resource, v.scope,
		func(o *metav1.ListOptions) { o.LabelSelector = i.options.Selector })
	guarded := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			ctx, cancel := context.WithTimeout(ctx, i.options.SyncTimeout)
			defer cancel()
			list, err := plain.ListWithContext(ctx, o)
			if err == nil {
				heard.Store(time.Now().UnixNano())
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return i.open(ctx, plain, o, heard, &v.session.entry.watches)
		},
	}
	return cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(guarded, client), example, 0, cache.Indexers{byKey: i.indexByKey})
}

// open opens a watch. A request for one that is never answered would hold the
// reflector for ever.
func (i *informers) open(ctx context.Context, lw *cache.ListWatch, o metav1.ListOptions, heard, open *atomic.Int64) (watch.Interface, error) {
	ctx, cancel := context.WithCancel(ctx)
	impatient := time.AfterFunc(min(i.options.RequestTimeout, i.options.WatchRenewal), cancel)
	defer impatient.Stop()
	inner, err := lw.WatchWithContext(ctx, o)
	if err != nil {
		cancel()
		return nil, err
	}
	return guard(inner, cancel, heard, open, i.options.WatchRenewal), nil
}

func (i *informers) indexByKey(obj any) ([]string, error) {
	if key := i.key(obj); key != "" {
		return []string{key}, nil
	}
	return nil, nil
}

// key is an object's value of Options.KeyLabel.
func (i *informers) key(obj any) string {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return ""
	}
	return accessor.GetLabels()[i.options.KeyLabel]
}

func (i *informers) handler(onDelete func(key string, obj any)) cache.ResourceEventHandler {
	notify := i.options.OnChange
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { notify(i.key(obj)) },
		UpdateFunc: func(old, obj any) {
			key := i.key(obj)
			notify(key)
			if before := i.key(old); before != key {
				notify(before) // whose object it is no more
			}
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			key := i.key(obj)
			onDelete(key, obj)
			notify(key)
		},
	}
}

func (i *informers) hasJobs(key string) bool {
	jobs, err := i.jobs.GetIndexer().ByIndex(byKey, key)
	return err == nil && len(jobs) > 0
}
