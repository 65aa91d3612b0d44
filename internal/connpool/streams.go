package connpool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
)

const (
	// streamBuffer is how much of a log that nobody reads is taken in, for each that is
	// streamed. A hundred that stand still hold 13 MiB so, where the default of net/http
	// would be 400 MiB. It bounds what one gives to 128 KiB in a round trip.
	streamBuffer = 128 << 10
	// streamIdle is how long a connection for streams stays open after its last use.
	streamIdle = time.Minute
	// streamGrace is how long what is under way may take in a connection that its server
	// wants to end: a log may come for as long as its Pod runs.
	streamGrace = 30 * 24 * time.Hour
)

// Streams are connections for answers without an end, such as logs. They are apart
// from those of a Pool, so that who reads slowly, or much, delays nothing there.
type Streams struct {
	ctx     context.Context
	options Options
	idle    time.Duration

	mu   sync.Mutex
	open map[streamKey]*streamLine
}

// streamKey tells connections apart: what reaches one cluster is not used for another.
type streamKey struct{ hash, clusterUID string }

// streamLine is one connection; users counts who holds it.
type streamLine struct {
	transport *transport
	sockets   atomic.Int64
	redialled atomic.Int64
	cancel    context.CancelFunc
	users     int
	since     time.Time // without users
}

// NewStreams returns no connection yet; they live until ctx is done.
func NewStreams(ctx context.Context, options Options) *Streams {
	options = options.WithDefaults()
	options.streamBuffer = streamBuffer
	s := &Streams{ctx: unlogged(ctx), options: options, idle: streamIdle, open: map[streamKey]*streamLine{}}
	context.AfterFunc(ctx, s.closeAll)
	return s
}

// Stream is one user's share of a connection.
type Stream struct {
	owner *Streams
	key   streamKey
	*streamLine
	release sync.Once
}

// Open returns a share of the connection of an identity, for the cluster of that UID
// only: over a TCP connection that leads to another one nothing is asked. It does not
// dial. Close gives it back.
func (s *Streams) Open(identity Identity, clusterUID string) (*Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := streamKey{identity.hash(), clusterUID}
	if s.open[key] == nil {
		made, err := s.connect(identity, clusterUID)
		if err != nil {
			return nil, err
		}
		s.open[key] = made
	}
	s.open[key].users++
	return &Stream{owner: s, key: key, streamLine: s.open[key]}, nil
}

func (s *Streams) connect(identity Identity, clusterUID string) (*streamLine, error) {
	ctx, cancel := context.WithCancel(s.ctx)
	made := &streamLine{cancel: cancel}
	t, err := newTransport(ctx, identity, s.options, &made.sockets)
	if err != nil {
		cancel()
		return nil, err
	}
	t.wire.redialled = &made.redialled
	t.wire.prove = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, s.options.ProbeTimeout)
		defer cancel()
		uid, err := t.readClusterUID(ctx)
		if err != nil {
			return fmt.Errorf("reading namespace kube-system, which tells clusters apart: %w", err)
		}
		if uid != clusterUID {
			return errOtherCluster
		}
		return nil
	}
	made.transport = t
	return made, nil
}

// Close gives the share back. Requests that were made with it must have ended.
func (c *Stream) Close() {
	c.release.Do(func() {
		s := c.owner
		s.mu.Lock()
		defer s.mu.Unlock()
		c.users--
		if c.users == 0 {
			c.since = time.Now()
			time.AfterFunc(s.idle, s.closeIdle)
		}
		go c.transport.wire.tidy(streamGrace)
	})
}

// closeIdle closes connections that nobody has used for a while.
func (s *Streams) closeIdle() {
	var idle []*streamLine
	s.mu.Lock()
	for key, c := range s.open {
		if c.users == 0 && time.Since(c.since) >= s.idle {
			idle = append(idle, c)
			delete(s.open, key)
		}
	}
	s.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

func (c *streamLine) close() {
	c.cancel()
	c.transport.sockets.close()
}

// closeAll closes every connection, and so ends every stream.
func (s *Streams) closeAll() {
	s.mu.Lock()
	open := slices.Collect(maps.Values(s.open))
	clear(s.open)
	s.mu.Unlock()
	for _, c := range open {
		c.close()
	}
}

var streamSocketsMetric = prometheus.NewDesc("pooledjob_log_sockets", "Open TCP connections to targets for logs.", nil, nil)

// Describe implements prometheus.Collector.
func (*Streams) Describe(descs chan<- *prometheus.Desc) { descs <- streamSocketsMetric }

// Collect implements prometheus.Collector.
func (s *Streams) Collect(metrics chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	for _, c := range s.open {
		n += c.sockets.Load()
	}
	metrics <- prometheus.MustNewConstMetric(streamSocketsMetric, prometheus.GaugeValue, float64(n))
}

// Pods are the Pods of the run of that key, as the target has them now.
func (c *Stream) Pods(ctx context.Context, namespace, key string) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(unlogged(ctx), c.owner.options.RequestTimeout)
	defer cancel()
	list := &corev1.PodList{}
	err := c.transport.core.RESTClient().Get().MaxRetries(0).Namespace(namespace).Resource("pods").
		VersionedParams(c.owner.selected(key, metav1.ListOptions{}), scheme.ParameterCodec).Do(ctx).Into(list)
	if err != nil {
		return nil, c.clean(err)
	}
	pods := make([]*corev1.Pod, 0, len(list.Items))
	for i := range list.Items {
		pods = append(pods, podForLogs(&list.Items[i]))
	}
	return pods, nil
}

// podForLogs is what of a Pod tells whether there is a log: each follower holds its own.
func podForLogs(pod *corev1.Pod) *corev1.Pod {
	slim := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			CreationTimestamp: pod.CreationTimestamp, OwnerReferences: pod.OwnerReferences, Annotations: pod.Annotations,
		},
		Spec: corev1.PodSpec{Containers: namesOf(pod.Spec.Containers), InitContainers: namesOf(pod.Spec.InitContainers)},
		Status: corev1.PodStatus{
			Phase: pod.Status.Phase, Reason: pod.Status.Reason, ContainerStatuses: statesOf(pod.Status.ContainerStatuses),
			InitContainerStatuses:      statesOf(pod.Status.InitContainerStatuses),
			EphemeralContainerStatuses: statesOf(pod.Status.EphemeralContainerStatuses),
		},
	}
	for i := range pod.Spec.EphemeralContainers {
		common := corev1.EphemeralContainerCommon{Name: pod.Spec.EphemeralContainers[i].Name}
		slim.Spec.EphemeralContainers = append(slim.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: common})
	}
	return slim
}

func namesOf(containers []corev1.Container) []corev1.Container {
	names := make([]corev1.Container, 0, len(containers))
	for i := range containers {
		names = append(names, corev1.Container{Name: containers[i].Name})
	}
	return names
}

func statesOf(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	states := make([]corev1.ContainerStatus, 0, len(statuses))
	for i := range statuses {
		states = append(states, corev1.ContainerStatus{
			Name: statuses[i].Name, State: statuses[i].State, RestartCount: statuses[i].RestartCount,
		})
	}
	return states
}

// WatchPods calls changed with the Pods of the run of that key, at first and after each
// change, until ctx is done, and failed with whatever keeps it from that; it goes on then.
// Neither must block.
func (c *Stream) WatchPods(ctx context.Context, namespace, key string, changed func([]*corev1.Pod), failed func(error)) {
	ctx = unlogged(ctx)
	pods := c.transport.core.Pods(namespace)
	listWatch := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return pods.List(ctx, *c.owner.selected(key, options))
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return pods.Watch(ctx, *c.owner.selected(key, options))
		},
	}
	informer := cache.NewSharedIndexInformer(listWatch, &corev1.Pod{}, 0, cache.Indexers{})
	slim := func(obj any) (any, error) {
		if pod, ok := obj.(*corev1.Pod); ok {
			return podForLogs(pod), nil
		}
		return obj, nil
	}
	told := func() {
		if !informer.HasSynced() {
			return
		}
		objects := informer.GetStore().List()
		list := make([]*corev1.Pod, 0, len(objects))
		for _, obj := range objects {
			if pod, ok := obj.(*corev1.Pod); ok {
				list = append(list, pod)
			}
		}
		changed(list)
	}
	err := errors.Join(
		informer.SetTransform(slim),
		informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { failed(c.clean(err)) }),
		second(informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { told() },
			UpdateFunc: func(any, any) { told() },
			DeleteFunc: func(any) { told() },
		})),
	)
	if err != nil {
		failed(err)
		return
	}
	go func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			told()
		}
	}()
	informer.RunWithContext(ctx)
}

func second[T any](_ T, err error) error { return err }

// Log opens the log of a Pod. Reading it can wait for as long as the Pod writes
// nothing; ctx ends that.
func (c *Stream) Log(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error) {
	body, err := c.transport.core.RESTClient().Get().MaxRetries(0).Namespace(namespace).Resource("pods").Name(pod).
		SubResource("log").VersionedParams(options, scheme.ParameterCodec).Stream(unlogged(ctx))
	return body, c.clean(err)
}

// clean is what may be told of an error.
func (c *Stream) clean(err error) error {
	return redact(uncover(err), c.transport.token)
}

func (s *Streams) selected(key string, options metav1.ListOptions) *metav1.ListOptions {
	options.LabelSelector = s.options.Selector + "," + s.options.KeyLabel + "=" + key
	return &options
}
