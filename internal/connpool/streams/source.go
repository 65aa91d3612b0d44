package streams

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/pooledjob/pooledjob/internal/connpool/budget"
	"github.com/pooledjob/pooledjob/internal/connpool/pause"
	"github.com/pooledjob/pooledjob/internal/connpool/store"
	"github.com/pooledjob/pooledjob/internal/connpool/transport"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// podSource lists and watches the Pods of one run, and is the store of its reflector.
type podSource struct {
	ask     func(metav1.ListOptions) *rest.Request
	changed func() // is called when present has changed
	failed  func(error)

	budget *budget.Budget
	cancel context.CancelFunc // of the present run

	mu      sync.Mutex
	known   bool                 // which Pods there are
	pods    map[string]*sizedPod // by name
	held    int                  // bytes that they take
	pending int                  // bytes of what a list has brought that is not in pods yet
	waiting *time.Timer          // after which the followers are notified; nil if that happens at once
}

// followPause bounds the pause between two notifications of those who follow a run: they
// wait for its log.
const followPause = time.Second

// sizedPod is a Pod that knows how much memory it takes.
type sizedPod struct {
	*corev1.Pod
	size int
}

// DeepCopyObject implements runtime.Object. Nobody changes what would be copied.
func (p *sizedPod) DeepCopyObject() runtime.Object { return p }

// run lists and watches until ctx is done, or there is too much.
func (s *podSource) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.cancel = cancel
	reflector := cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: s.list, WatchFuncWithContext: s.watch,
	}, &sizedPod{}, s, cache.ReflectorOptions{Name: "connpool"})
	return reflector.ListAndWatchWithContext(ctx)
}

func (s *podSource) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	s.expectNothing()
	listed := &metav1.List{}
	meta, err := transport.ReadList(ctx, s.ask(options), logPodSchema, func(kept prune.Kept) error {
		obj, err := s.decode(kept)
		if err != nil {
			return err
		}
		listed.Items = append(listed.Items, runtime.RawExtension{Object: obj})
		return s.expect(obj)
	})
	listed.ListMeta = meta
	return listed, err
}

func (s *podSource) watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	options.Watch = true
	s.expectNothing()
	return transport.ReadWatch(ctx, s.ask(options), &transport.Events{Schema: logPodSchema, Unpack: s.decode, Failed: s.failed})
}

func (s *podSource) decode(kept prune.Kept) (runtime.Object, error) {
	pod := &corev1.Pod{}
	if err := s.budget.Take(pod, kept.Size, s.together(kept.Size)); err != nil {
		return nil, err
	}
	return &sizedPod{Pod: pod, size: kept.Size}, pod.Unmarshal(kept.Message)
}

// together returns how much memory the Pods take with one more.
func (s *podSource) together(size int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held + s.pending + size
}

// expect counts a Pod of a list that is still coming.
func (s *podSource) expect(obj any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pod, ok := obj.(*sizedPod); ok {
		s.pending += pod.size
	}
	if s.pending > maxLogList {
		return errTooManyForLogs
	}
	return nil
}

// expectNothing forgets what a list has brought that did not come to its end.
func (s *podSource) expectNothing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = 0
}

// Transformer implements cache.TransformingStore: what a reflector gathers before it has all
// counts as well.
func (s *podSource) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		err := s.expect(obj)
		if err != nil {
			s.failed(err)
			s.cancel() // the reflector would go on without it
		}
		return obj, err
	}
}

// Add implements cache.ReflectorStore.
func (s *podSource) Add(obj any) error {
	if pod, ok := obj.(*sizedPod); ok {
		s.change(func() { s.put(pod) })
	}
	return nil
}

// Update implements cache.ReflectorStore.
func (s *podSource) Update(obj any) error { return s.Add(obj) }

// Delete implements cache.ReflectorStore.
func (s *podSource) Delete(obj any) error {
	if pod, ok := obj.(*sizedPod); ok {
		s.change(func() { s.drop(pod.Name) })
	}
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *podSource) Replace(list []any, _ string) error {
	s.change(func() {
		s.forget()
		s.known = true
		for _, obj := range list {
			if pod, ok := obj.(*sizedPod); ok {
				s.put(pod)
			}
		}
	})
	return nil
}

// Resync implements cache.ReflectorStore. It is never called for.
func (*podSource) Resync() error { return nil }

func (s *podSource) put(pod *sizedPod) {
	s.drop(pod.Name)
	s.pods[pod.Name] = pod
	s.held += pod.size
}

func (s *podSource) drop(name string) {
	if before := s.pods[name]; before != nil {
		s.held -= before.size
		delete(s.pods, name)
	}
}

func (s *podSource) forget() {
	s.held, s.pending = 0, 0
	clear(s.pods)
}

// change changes the Pods, and notifies the followers or, when the Pods take too much, gives them up.
func (s *podSource) change(how func()) {
	s.mu.Lock()
	how()
	tooMany := s.held > maxLogList
	if tooMany {
		s.forget()
		s.known = false
	}
	wait := min(pause.Look(len(s.pods)), followPause)
	switch {
	case s.waiting != nil && (tooMany || wait == 0):
		s.waiting.Stop()
		s.waiting = nil
	case s.waiting == nil && wait > 0:
		s.waiting = time.AfterFunc(wait, s.tellLate)
	}
	s.mu.Unlock()
	switch {
	case tooMany:
		s.failed(errTooManyForLogs)
		s.cancel()
	case wait == 0:
		s.changed()
	}
}

// tellLate notifies the followers of all Pods after the pause, unless that was done meanwhile or the Pods were
// given up.
func (s *podSource) tellLate() {
	s.mu.Lock()
	due := s.waiting != nil
	s.waiting = nil
	s.mu.Unlock()
	if due {
		s.changed()
	}
}

// present returns all Pods as they are now, if that is known.
func (s *podSource) present() (pods []*corev1.Pod, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pods = make([]*corev1.Pod, 0, len(s.pods))
	for _, pod := range s.pods {
		pods = append(pods, pod.Pod)
	}
	return pods, s.known
}

// maxLogList is how much memory all Pods of a run may take for those who read logs, in bytes. Logs can be
// read in a process of their own.
const maxLogList = 16 << 20

var errTooManyForLogs = fmt.Errorf("%w for their logs to be read: they take more than %d MiB", store.ErrTooManyPods, maxLogList>>20)

// readAllPods reads all Pods that a request asks for. They count in the budget as long as anybody
// has them.
func readAllPods(ctx context.Context, request *rest.Request, counted *budget.Budget) ([]*corev1.Pod, error) {
	var pods []*corev1.Pod
	size := 0
	_, err := transport.ReadList(ctx, request, logPodSchema, func(kept prune.Kept) error {
		if size += kept.Size; size > maxLogList {
			return errTooManyForLogs
		}
		pod := &corev1.Pod{}
		pods = append(pods, pod)
		if err := counted.Take(pod, kept.Size, size); err != nil {
			return err
		}
		return pod.Unmarshal(kept.Message)
	})
	return pods, err
}
