// Package metrics has the metrics of the reconcilers.
package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/hubcache"
)

// Write is what a write of a PooledJob was for.
type Write string

// The writes of a PooledJob.
const (
	WriteIntent    Write = "intent"    // finalizer and intent, before the Job is asked for
	WriteTakeover  Write = "takeover"  // the creation of the Job, begun by another process
	WriteRestore   Write = "restore"   // finalizer and intent that somebody has taken off
	WriteStatus    Write = "status"    // any status but the next
	WriteTerminal  Write = "terminal"  // the status that ends the run
	WriteFinalizer Write = "finalizer" // the finalizer is off
	WriteExpiry    Write = "expiry"    // the deletion after the time to live
)

// Writes are all of them.
var Writes = []Write{WriteIntent, WriteTakeover, WriteRestore, WriteStatus, WriteTerminal, WriteFinalizer, WriteExpiry}

// latencyBuckets are in seconds: from a tenth of a second on, each is two or more times
// the one before, for a classic histogram costs a series for each and for each connection.
var latencyBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 300}

// Recorder has the figures of the reconcilers. Series of a ClusterConnection begin and end
// with it: a figure of one that does not exist is dropped.
type Recorder struct {
	orphaned         *prometheus.GaugeVec
	dispatch, lag    *prometheus.HistogramVec
	finished, writes *prometheus.CounterVec
	written          map[Write]prometheus.Counter // those of writes; never changed
	templates        prometheus.GaugeFunc

	mu          sync.RWMutex // held while a series of a connection is looked up
	connections map[string]bool
}

// New returns a Recorder; of the source of PooledJobs it shows how much it keeps.
func New(pooledJobs *hubcache.Reader) *Recorder {
	m := &Recorder{
		templates: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pooledjob_hub_template_bytes",
			Help: "Bytes of the templates that are kept of PooledJobs that wait for their Job, of 16 MiB that may be.",
		}, func() float64 { return float64(pooledJobs.TemplateBytes()) }),
		orphaned: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pooledjob_connection_orphaned_jobs",
			Help: "Jobs of this installation on the target that no PooledJob stands behind.",
		}, []string{"connection"}),
		dispatch: newLatency("pooledjob_dispatch_duration_seconds",
			"From the moment that the manager saw a new PooledJob until the target said that its Job exists."),
		lag: newLatency("pooledjob_status_lag_seconds",
			"From the moment that the manager learned of the end of a Job until the hub had its PooledJob's final status."),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pooledjob_runs_finished_total",
			Help: "PooledJobs whose final status the hub has acknowledged.",
		}, []string{"connection", "phase"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pooledjob_hub_writes_total",
			Help: "Writes of PooledJobs that the hub has acknowledged.",
		}, []string{"kind"}),
		written:     map[Write]prometheus.Counter{},
		connections: map[string]bool{},
	}
	for _, kind := range Writes {
		m.written[kind] = m.writes.WithLabelValues(string(kind))
	}
	return m
}

// newLatency returns a histogram for each connection, also a native one for a Prometheus that
// asks for those: at most 50 buckets, each a fifth wider than the one before.
func newLatency(name, help string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: latencyBuckets,
		NativeHistogramBucketFactor: 1.2, NativeHistogramMaxBucketNumber: 50, NativeHistogramMinResetDuration: time.Hour,
	}, []string{"connection"})
}

// Register registers all of them.
func (m *Recorder) Register(with prometheus.Registerer) error {
	for _, collector := range []prometheus.Collector{m.orphaned, m.dispatch, m.lag, m.finished, m.writes, m.templates} {
		if err := with.Register(collector); err != nil {
			return err
		}
	}
	return nil
}

// Begin begins the series of a connection that exists.
func (m *Recorder) Begin(connection string) {
	m.mu.RLock()
	begun := m.connections[connection]
	m.mu.RUnlock()
	if begun {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.connections[connection] = true
	m.dispatch.WithLabelValues(connection)
	m.lag.WithLabelValues(connection)
	for _, phase := range []v1alpha1.PooledJobPhase{v1alpha1.PooledJobSucceeded, v1alpha1.PooledJobFailed} {
		m.finished.WithLabelValues(connection, string(phase))
	}
}

// Forget ends the series of a connection that is gone.
func (m *Recorder) Forget(connection string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.connections, connection)
	labels := prometheus.Labels{"connection": connection}
	m.orphaned.DeletePartialMatch(labels)
	m.dispatch.DeletePartialMatch(labels)
	m.lag.DeletePartialMatch(labels)
	m.finished.DeletePartialMatch(labels)
}

// RunDispatched counts a run whose Job exists, so long after the PooledJob was seen.
func (m *Recorder) RunDispatched(connection string, took time.Duration) {
	m.observe(m.dispatch, connection, took)
}

// EndWritten counts a run whose end is on the hub, so long after it became known.
func (m *Recorder) EndWritten(connection string, took time.Duration) {
	m.observe(m.lag, connection, took)
}

// Orphaned says how many Jobs a connection has that no PooledJob stands behind.
func (m *Recorder) Orphaned(connection string, jobs int) {
	m.orphaned.WithLabelValues(connection).Set(float64(jobs))
}

func (m *Recorder) observe(histogram *prometheus.HistogramVec, connection string, took time.Duration) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.connections[connection] {
		histogram.WithLabelValues(connection).Observe(took.Seconds())
	}
}

// RunFinished counts a run that is over. One whose connection does not exist is counted
// without: any name can be asked for, and nobody would end its series.
func (m *Recorder) RunFinished(connection string, phase v1alpha1.PooledJobPhase) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.connections[connection] {
		connection = ""
	}
	m.finished.WithLabelValues(connection, string(phase)).Inc()
}

// Wrote counts a write of a PooledJob that the hub has acknowledged.
func (m *Recorder) Wrote(kind Write) { m.written[kind].Inc() }
