package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// follow tells of every object of a kind that is there and of each change, by a watch of
// the suite's own, until the suite ends. A watch that is cut is made again where it
// ended, or after a list of all that is there.
func follow[T client.Object](ctx context.Context, c client.WithWatch, example T, list client.ObjectList, on told[T], options ...client.ListOption) {
	with := func(raw metav1.ListOptions) []client.ListOption {
		return append([]client.ListOption{&client.ListOptions{Raw: &raw}}, options...)
	}
	source := &cache.ListWatch{
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
	seen := &recorder[T]{told: on, began: make(chan struct{})}
	reflector := cache.NewReflectorWithOptions(source, example, seen, cache.ReflectorOptions{
		Backoff: &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 1, Steps: 1},
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { reflector.RunWithContext(ctx) })
	DeferCleanup(func() {
		cancel()
		running.Wait()
	})
	Eventually(seen.began).Should(BeClosed())
}

// told is whom a watch tells.
type told[T client.Object] struct {
	is   func(T)
	gone func(T) // may be nil
}

// recorder is what a reflector fills: it hands on what it is told and keeps nothing.
type recorder[T client.Object] struct {
	told  told[T]
	once  sync.Once
	began chan struct{} // closed after the first list
}

func (r *recorder[T]) Add(obj any) error {
	typed, ok := obj.(T)
	if !ok {
		return fmt.Errorf("a %T", obj)
	}
	r.told.is(typed)
	return nil
}

func (r *recorder[T]) Update(obj any) error { return r.Add(obj) }

func (r *recorder[T]) Delete(obj any) error {
	if err := r.Add(obj); err != nil || r.told.gone == nil {
		return err
	}
	r.told.gone(obj.(T))
	return nil
}

func (r *recorder[T]) Replace(objects []any, _ string) error {
	defer r.once.Do(func() { close(r.began) })
	for _, obj := range objects {
		if err := r.Add(obj); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder[T]) Resync() error { return nil }
