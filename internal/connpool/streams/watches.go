package streams

import (
	"context"
	"maps"
	"slices"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/pooledjob/pooledjob/internal/connpool/pause"
	"github.com/pooledjob/pooledjob/internal/connpool/sanitize"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// podWatch watches the Pods of one run for all who follow it.
type podWatch struct {
	cancel context.CancelFunc
	// telling is held while the followers are notified, so that none gets an older state
	// after a newer one. It is taken before the mutex of the Streams, which guards what follows.
	telling   sync.Mutex
	followers map[*podFollower]struct{}

	source *podSource
}

type podWatchKey struct{ namespace, key string }

// podFollower is one who is notified.
type podFollower struct {
	changed func([]*corev1.Pod)
	failed  func(error)
}

// WatchPods calls changed with the Pods of the run of that key, at first and after each
// change, until ctx is done, and failed with whatever keeps it from that; it goes on then.
// Neither must block, nor change what it is given: all who watch the same run get the same.
func (c *Stream) WatchPods(ctx context.Context, namespace, key string, changed func([]*corev1.Pod), failed func(error)) {
	follower := &podFollower{changed, failed}
	which := podWatchKey{namespace, key}
	c.join(which, follower)
	<-ctx.Done()
	c.leave(which, follower)
}

func (c *Stream) join(which podWatchKey, follower *podFollower) {
	s := c.owner
	s.mu.Lock()
	defer s.mu.Unlock()
	w := c.watches[which]
	if w == nil {
		ctx, cancel := context.WithCancel(s.ctx)
		w = &podWatch{cancel: cancel, followers: map[*podFollower]struct{}{}}
		w.source = c.newSource(s, which, w)
		c.watches[which] = w
		go runSource(ctx, s.options, w.source)
	}
	w.followers[follower] = struct{}{}
	go w.tellPods(s, func(f *podFollower) bool { return f == follower })
}

// tellPods notifies followers of the Pods that there are at that time, if they are known.
func (w *podWatch) tellPods(s *Streams, which func(*podFollower) bool) {
	w.telling.Lock()
	defer w.telling.Unlock()
	pods, known := w.source.present()
	if !known {
		return
	}
	for _, follower := range w.all(s) {
		if which(follower) {
			follower.changed(pods)
		}
	}
}

// tellFailure notifies every follower of what keeps it from the Pods.
func (w *podWatch) tellFailure(s *Streams, err error) {
	w.telling.Lock()
	defer w.telling.Unlock()
	for _, follower := range w.all(s) {
		follower.failed(err)
	}
}

func (w *podWatch) all(s *Streams) []*podFollower {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(w.followers))
}

// leave ends the watch when nobody is left.
func (c *Stream) leave(which podWatchKey, follower *podFollower) {
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	w := c.watches[which]
	delete(w.followers, follower)
	if len(w.followers) == 0 {
		w.cancel()
		delete(c.watches, which)
	}
}

// newSource returns the source of Pods for the followers of a run.
func (c *connection) newSource(s *Streams, which podWatchKey, w *podWatch) *podSource {
	return &podSource{
		ask: func(options metav1.ListOptions) *rest.Request {
			return c.askForPods(which.namespace, s.options.ofRun(which.key, options))
		},
		budget: c.budget, pods: map[string]*sizedPod{},
		failed:  func(err error) { w.tellFailure(s, c.clean(err)) },
		changed: func() { w.tellPods(s, func(*podFollower) bool { return true }) },
	}
}

// runSource lists and watches until ctx is done.
func runSource(ctx context.Context, o Options, source *podSource) {
	attempts := pause.Attempts{Shortest: o.MinBackoff, Longest: o.MaxBackoff}
	for ctx.Err() == nil {
		attempts.Begin()
		if err := source.run(ctx); err != nil {
			source.failed(err)
		}
		pause.For(ctx, attempts.Pause())
	}
}

// logPodSchema has the fields of a Pod that show which of its containers have a log.
var logPodSchema = prune.NewSchema(&corev1.Pod{}, "Pod", sanitize.PodBounds, prune.Fields{
	"metadata": prune.Message(prune.Fields{
		"name": prune.Exact(prune.MaxName), "namespace": prune.Exact(prune.MaxName), "uid": prune.Text(sanitize.MaxUID + 1),
		"resourceVersion": prune.Exact(prune.MaxVersion), "creationTimestamp": prune.Time(),
		"annotations": prune.Map(sanitize.MaxOwnLabels, prune.MaxName, func(key string) bool {
			return key == batchv1.JobCompletionIndexAnnotation || key == defaultContainer || key == metav1.InitialEventsAnnotationKey
		}),
		"ownerReferences": prune.List(sanitize.MaxOwners, prune.Message(prune.Fields{
			"apiVersion": prune.Text(prune.MaxName), "kind": prune.Text(prune.MaxName), "name": prune.Text(prune.MaxName),
			"uid": prune.Text(sanitize.MaxUID + 1), "controller": prune.Number(),
		})),
	}),
	"spec": prune.Message(prune.Fields{
		"containers":     prune.List(sanitize.MaxContainers, prune.Message(prune.Fields{"name": prune.Text(prune.MaxName)})),
		"initContainers": prune.List(sanitize.MaxContainers, prune.Message(prune.Fields{"name": prune.Text(prune.MaxName)})),
		"ephemeralContainers": prune.List(sanitize.MaxContainers, prune.Message(prune.Fields{
			"EphemeralContainerCommon": prune.Message(prune.Fields{"name": prune.Text(prune.MaxName)}),
		})),
	}),
	"status": prune.Message(prune.Fields{
		"phase": prune.Text(prune.MaxLabel), "reason": prune.Text(prune.MaxName),
		"containerStatuses": logStatusFields, "initContainerStatuses": logStatusFields, "ephemeralContainerStatuses": logStatusFields,
	}),
})

var logStatusFields = prune.List(sanitize.MaxContainers, prune.Message(prune.Fields{
	"name": prune.Text(prune.MaxName), "restartCount": prune.Number(),
	"state": prune.Message(prune.Fields{
		"terminated": sanitize.TerminatedFields, "running": prune.Message(prune.Fields{"startedAt": prune.Time()}),
		"waiting": prune.Message(prune.Fields{"reason": prune.Text(prune.MaxName), "message": prune.Text(prune.MaxWords)}),
	}),
}))

// defaultContainer is the annotation that names the container of a Pod that is meant when none is
// named, as for kubectl.
const defaultContainer = "kubectl.kubernetes.io/default-container"
