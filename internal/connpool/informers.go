package connpool

import (
	"context"
	"fmt"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
)

// byKey is the index of watched objects by their value of Options.KeyLabel.
const byKey = "key"

// startInformers starts the two informers of a session. A right that is missing,
// or credentials that are rejected, end the session; any other trouble of a watch
// is the reflector's to mend and the probe's to judge.
func (s *session) startInformers(connection string) error {
	client := s.transport.client
	selector := func(o *metav1.ListOptions) { o.LabelSelector = s.options.Selector }
	s.jobs = s.informer(&batchv1.Job{}, cache.NewFilteredListWatchFromClient(
		client.BatchV1().RESTClient(), "jobs", metav1.NamespaceAll, selector))
	s.pods = s.informer(&corev1.Pod{}, cache.NewFilteredListWatchFromClient(
		client.CoreV1().RESTClient(), "pods", metav1.NamespaceAll, selector))
	s.gone = newGonePods(s.hasJobs)

	notify := func(key string) { s.options.OnChange(connection, key) }
	handlers := []struct {
		informer cache.SharedIndexInformer
		onDelete func(key string, obj any)
	}{
		{s.jobs, func(key string, _ any) { s.gone.forget(key) }},
		{s.pods, s.gone.remember},
	}
	for _, h := range handlers {
		if err := h.informer.SetTransform(slim); err != nil {
			return fmt.Errorf("informer: %w", err)
		}
		if err := h.informer.SetWatchErrorHandlerWithContext(s.watchError); err != nil {
			return fmt.Errorf("informer: %w", err)
		}
		if _, err := h.informer.AddEventHandler(s.handler(notify, h.onDelete)); err != nil {
			return fmt.Errorf("informer: %w", err)
		}
	}
	var running sync.WaitGroup
	running.Go(func() { s.jobs.RunWithContext(s.ctx) })
	running.Go(func() { s.pods.RunWithContext(s.ctx) })
	go func() {
		defer close(s.done)
		running.Wait()
	}()
	return nil
}

func (s *session) informer(example runtime.Object, lw cache.ListerWatcher) cache.SharedIndexInformer {
	return cache.NewSharedIndexInformer(lw, example, 0, cache.Indexers{byKey: s.indexByKey})
}

func (s *session) indexByKey(obj any) ([]string, error) {
	if key := s.key(obj); key != "" {
		return []string{key}, nil
	}
	return nil, nil
}

// key is an object's value of Options.KeyLabel.
func (s *session) key(obj any) string {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return ""
	}
	return accessor.GetLabels()[s.options.KeyLabel]
}

func (s *session) handler(notify func(key string), onDelete func(key string, obj any)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { notify(s.key(obj)) },
		UpdateFunc: func(old, obj any) {
			key := s.key(obj)
			notify(key)
			if before := s.key(old); before != key {
				notify(before) // whose object it is no more
			}
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			key := s.key(obj)
			onDelete(key, obj)
			notify(key)
		},
	}
}

func (s *session) hasJobs(key string) bool {
	jobs, err := s.jobs.GetIndexer().ByIndex(byKey, key)
	return err == nil && len(jobs) > 0
}

// watchError ends the session when no retry of the same watch can succeed.
func (s *session) watchError(_ context.Context, _ *cache.Reflector, err error) {
	if apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) {
		s.cancel(err)
	}
}
