package follow

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pause is the time between two tries to reach the API server: clusters are restarted
// within seconds here, and what happens meanwhile must not go by unseen.
const pause = 100 * time.Millisecond

// Told is whom a watch tells. It is called by one goroutine, one call after the other, and
// must not change the objects.
type Told[T client.Object] struct {
	// Is is called with every object that is there and with each change, and at last with
	// the object as it was before it was gone.
	Is func(T)
	// Gone, if not nil, is called after that.
	Gone func(T)
}

// Objects tells of the objects of a kind that the options select, until the spec or suite that
// calls it ends. It returns when all that is there has been told. Of example and list only the
// types count.
func Objects[T client.Object](ctx context.Context, c client.WithWatch, example T, list client.ObjectList, told Told[T], options ...client.ListOption) {
	recorder := &recorder[T]{told: told, began: make(chan struct{})}
	reflector := cache.NewReflectorWithOptions(source(c, list, options), example, recorder, cache.ReflectorOptions{
		Backoff: &wait.Backoff{Duration: pause, Factor: 1, Steps: 1},
	})
	// The context of whoever calls ends before what he set up does.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { reflector.RunWithContext(ctx) })
	ginkgo.DeferCleanup(func() {
		cancel()
		running.Wait()
	})
	gomega.EventuallyWithOffset(1, recorder.began).Should(gomega.BeClosed())
}

// source lists and watches by a client.
func source(c client.WithWatch, list client.ObjectList, options []client.ListOption) *cache.ListWatch {
	with := func(raw metav1.ListOptions) []client.ListOption {
		return append([]client.ListOption{&client.ListOptions{Raw: &raw}}, options...)
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, raw metav1.ListOptions) (runtime.Object, error) {
			found, ok := list.DeepCopyObject().(client.ObjectList)
			if !ok {
				return nil, fmt.Errorf("%T is no list", list)
			}
			err := c.List(ctx, found, with(raw)...)
			return found, err
		},
		WatchFuncWithContext: func(ctx context.Context, raw metav1.ListOptions) (watch.Interface, error) {
			return c.Watch(ctx, list, with(raw)...)
		},
	}
}

// recorder is what a reflector fills: it hands on what it is told and keeps nothing.
type recorder[T client.Object] struct {
	told  Told[T]
	once  sync.Once
	began chan struct{} // closed after the first list
}

// Add implements cache.ReflectorStore.
func (r *recorder[T]) Add(obj any) error {
	_, err := r.is(obj)
	return err
}

// Update implements cache.ReflectorStore.
func (r *recorder[T]) Update(obj any) error { return r.Add(obj) }

// Delete implements cache.ReflectorStore.
func (r *recorder[T]) Delete(obj any) error {
	typed, err := r.is(obj)
	if err == nil && r.told.Gone != nil {
		r.told.Gone(typed)
	}
	return err
}

// Replace implements cache.ReflectorStore.
func (r *recorder[T]) Replace(objects []any, _ string) error {
	defer r.once.Do(func() { close(r.began) })
	for _, obj := range objects {
		if err := r.Add(obj); err != nil {
			return err
		}
	}
	return nil
}

// Resync implements cache.ReflectorStore.
func (r *recorder[T]) Resync() error { return nil }

func (r *recorder[T]) is(obj any) (T, error) {
	typed, ok := obj.(T)
	if !ok {
		return typed, fmt.Errorf("a %T", obj)
	}
	r.told.Is(typed)
	return typed, nil
}
