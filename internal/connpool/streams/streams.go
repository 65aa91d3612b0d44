package streams

import (
	"context"
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
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/pooledjob/pooledjob/internal/connpool/budget"
	"github.com/pooledjob/pooledjob/internal/connpool/transport"
)

const (
	// answerBuffer is how much of a log that nobody reads is taken in, for each that is
	// streamed. A hundred that stand still hold 13 MiB so, where the default of net/http
	// would be 400 MiB. It bounds what one gives to 128 KiB in a round trip.
	answerBuffer = 128 << 10
	// idleTime is how long a connection for streams stays open after its last use.
	idleTime = time.Minute
	// drainGrace is how long what is under way may take in a connection that its server
	// wants to end: a log may come for as long as its Pod runs.
	drainGrace = 30 * 24 * time.Hour
)

const (
	// memoryOfAll is what all Pods may take that the users of Streams have read or watch, in bytes,
	// and memoryOfOne those of one connection.
	memoryOfAll = 128 << 20
	memoryOfOne = 64 << 20
)

// Options say how Streams work. None may be left out.
type Options struct {
	// Selector is the label selector of the objects of all runs, and KeyLabel the label whose value is the
	// key of one.
	Selector, KeyLabel string
	// Transport says how requests are sent.
	Transport transport.Options
	// ProbeTimeout bounds the proof of a new TCP connection, and RequestTimeout a list.
	ProbeTimeout, RequestTimeout time.Duration
	// MinBackoff and MaxBackoff shape the wait before Pods are watched again.
	MinBackoff, MaxBackoff time.Duration
}

// ofRun returns the options of a request for the Pods of a run.
func (o *Options) ofRun(key string, options metav1.ListOptions) *metav1.ListOptions {
	options.LabelSelector = o.Selector + "," + o.KeyLabel + "=" + key
	return &options
}

// Streams are connections for answers without an end, such as logs. They are apart
// from those of a Pool, so that who reads slowly, or much, delays nothing there.
type Streams struct {
	ctx     context.Context
	options Options
	idle    time.Duration
	budget  *budget.Pool // of the Pods that are read and watched

	mu   sync.Mutex
	open map[connectionKey]*connection
}

// connectionKey identifies a connection: what reaches one cluster is not used for another.
type connectionKey struct{ hash, clusterUID string }

// connection is one connection; users counts who holds it.
type connection struct {
	transport *transport.Transport
	sockets   atomic.Int64
	redialled atomic.Int64
	ctx       context.Context // done when it is closed
	cancel    context.CancelFunc
	token     string // must not get into a message or a log
	users     int
	since     time.Time      // without users
	budget    *budget.Budget // of its Pods
	watches   map[podWatchKey]*podWatch
	lists     map[podWatchKey]*sharedLists
}

// New returns no connection yet; they live until ctx is done.
func New(ctx context.Context, options Options) *Streams {
	options.Transport.StreamBuffer = answerBuffer
	s := &Streams{ctx: transport.Unlogged(ctx), options: options, idle: idleTime, budget: budget.NewPoolForLogs(memoryOfAll), open: map[connectionKey]*connection{}}
	context.AfterFunc(ctx, s.closeAll)
	return s
}

// Stream is one user's share of a connection.
type Stream struct {
	owner *Streams
	key   connectionKey
	*connection
	release sync.Once
}

// Open returns a share of the connection of an identity, for the cluster of that UID
// only: over a TCP connection that leads to another one nothing is asked. It does not
// dial. Close gives it back.
func (s *Streams) Open(identity transport.Identity, clusterUID string) (*Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := connectionKey{identity.Hash(), clusterUID}
	if s.open[key] == nil {
		made, err := s.connect(identity, clusterUID)
		if err != nil {
			return nil, err
		}
		s.open[key] = made
	}
	s.open[key].users++
	return &Stream{owner: s, key: key, connection: s.open[key]}, nil
}

func (s *Streams) connect(identity transport.Identity, clusterUID string) (*connection, error) {
	ctx, cancel := context.WithCancel(s.ctx)
	made := &connection{
		ctx: ctx, cancel: cancel, budget: budget.NewForLogs(memoryOfOne, s.budget), watches: map[podWatchKey]*podWatch{}, lists: map[podWatchKey]*sharedLists{},
	}
	t, err := transport.New(ctx, identity, s.options.Transport, &made.sockets, transport.NewPacing(transport.DefaultPace))
	if err != nil {
		cancel()
		made.budget.Leave()
		return nil, err
	}
	t.ProveBy(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, s.options.ProbeTimeout)
		defer cancel()
		uid, err := t.ReadClusterUID(ctx)
		if err != nil {
			return fmt.Errorf("reading namespace kube-system, which identifies the cluster: %w", err)
		}
		if uid != clusterUID {
			return transport.ErrOtherCluster
		}
		return nil
	}, &made.redialled)
	made.transport, made.token = t, identity.Token
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
		go c.transport.Tidy(drainGrace)
	})
}

// closeIdle closes connections that nobody has used for a while.
func (s *Streams) closeIdle() {
	var idle []*connection
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

func (c *connection) close() {
	c.cancel()
	c.budget.Leave()
	c.transport.Close()
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

var (
	streamSocketsMetric = prometheus.NewDesc("pooledjob_log_sockets", "Open TCP connections to targets for logs.", nil, nil)
	streamMemoryMetric  = prometheus.NewDesc("pooledjob_log_memory_bytes", "About how much memory the Pods take whose logs are read or followed, of 128 MiB that they may.", nil, nil)
)

// Describe implements prometheus.Collector.
func (*Streams) Describe(descs chan<- *prometheus.Desc) {
	descs <- streamSocketsMetric
	descs <- streamMemoryMetric
}

// Collect implements prometheus.Collector.
func (s *Streams) Collect(metrics chan<- prometheus.Metric) {
	metrics <- prometheus.MustNewConstMetric(streamMemoryMetric, prometheus.GaugeValue, float64(s.budget.Held()))
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	for _, c := range s.open {
		n += c.sockets.Load()
	}
	metrics <- prometheus.MustNewConstMetric(streamSocketsMetric, prometheus.GaugeValue, float64(n))
}

func (c *connection) askForPods(namespace string, options *metav1.ListOptions) *rest.Request {
	return c.transport.Core.RESTClient().Get().Namespace(namespace).Resource("pods").VersionedParams(options, scheme.ParameterCodec)
}

// Log opens the log of a Pod. Reading it can wait for as long as the Pod writes
// nothing; ctx ends that.
func (c *Stream) Log(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error) {
	body, err := c.transport.Core.RESTClient().Get().MaxRetries(0).Namespace(namespace).Resource("pods").Name(pod).
		SubResource("log").VersionedParams(options, scheme.ParameterCodec).Stream(transport.UnpacedRead(transport.Unlogged(ctx)))
	return body, c.clean(err)
}

// clean returns an error without secrets.
func (c *connection) clean(err error) error {
	return transport.Redact(transport.Uncover(err), c.token)
}
