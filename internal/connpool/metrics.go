package connpool

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// figure is one metric of a connection.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func newFigure(name, help string, kind prometheus.ValueType, labels ...string) figure {
	return figure{
		desc: prometheus.NewDesc("pooledjob_connection_"+name, help, append([]string{"connection"}, labels...), nil),
		kind: kind,
	}
}

var (
	figureUp         = newFigure("up", "1 while Jobs can be sent and their status comes back, or could at once (Idle).", prometheus.GaugeValue)
	figureState      = newFigure("state", "1 for the state that the connection is in.", prometheus.GaugeValue, "state")
	figureSockets    = newFigure("sockets", "Open TCP connections to the target.", prometheus.GaugeValue)
	figureWatches    = newFigure("watches", "Open watches on the target.", prometheus.GaugeValue)
	figureInFlight   = newFigure("requests_in_flight", "Requests under way, without watches and probes.", prometheus.GaugeValue)
	figureQueued     = newFigure("requests_queued", "Runs that wait until there is room for their request.", prometheus.GaugeValue)
	figureReconnects = newFigure("reconnects_total", "Sessions that ended or could not be opened, by the state that followed.", prometheus.CounterValue, "cause")
	figureProbe      = newFigure("probe_duration_seconds", "How long the last probe took that was answered.", prometheus.GaugeValue)
	figureSilence    = newFigure("watch_silence_seconds", "Time since the last event or bookmark of the watch that has been silent longest.", prometheus.GaugeValue)
	figureExpiry     = newFigure("credential_expiry_timestamp_seconds", "When the credential in use ends, if it says so.", prometheus.GaugeValue)
	figureObjects    = newFigure("informer_objects", "Objects in the informers' view.", prometheus.GaugeValue, "resource")
)

// Describe implements prometheus.Collector.
func (p *Pool) Describe(descs chan<- *prometheus.Desc) {
	for _, f := range []figure{
		figureUp, figureState, figureSockets, figureWatches, figureInFlight, figureQueued,
		figureReconnects, figureProbe, figureSilence, figureExpiry, figureObjects,
	} {
		descs <- f.desc
	}
}

// Collect implements prometheus.Collector. Series are made as they are asked for, so
// that those of a connection end with it. Connections that share an identity show
// the same figures.
func (p *Pool) Collect(metrics chan<- prometheus.Metric) {
	now := time.Now()
	var collected []prometheus.Metric
	p.mu.Lock()
	for _, m := range p.members {
		collected = append(collected, m.metrics(now)...)
	}
	p.mu.Unlock()
	for _, metric := range collected {
		metrics <- metric
	}
}

// metrics are the figures of one connection. Pool.mu is held.
func (m *member) metrics(now time.Time) []prometheus.Metric {
	var metrics []prometheus.Metric
	add := func(f figure, value float64, labels ...string) {
		metrics = append(metrics, prometheus.MustNewConstMetric(f.desc, f.kind, value, append([]string{m.name}, labels...)...))
	}
	status, e := m.status(), m.current.entry
	up := 0.0
	if status.State == Ready || status.State == Idle {
		up = 1
	}
	add(figureUp, up)
	for _, state := range states {
		is := 0.0
		if state == status.State {
			is = 1
		}
		add(figureState, is, string(state))
	}
	add(figureSockets, float64(e.sockets.Load()))
	add(figureWatches, float64(e.watches.Load()))
	add(figureInFlight, float64(e.gate.inFlight))
	add(figureQueued, float64(len(e.gate.queue)))
	for state, times := range e.ended {
		add(figureReconnects, float64(times), string(state))
	}
	if took := e.probeTook.Load(); took > 0 {
		add(figureProbe, time.Duration(took).Seconds())
	}
	if !status.ExpiresAt.IsZero() {
		add(figureExpiry, float64(status.ExpiresAt.Unix()))
	}
	if views := m.current.views(); len(views) > 0 {
		jobs, pods, heard := 0, 0, now.UnixNano()
		for _, i := range views {
			jobs += len(i.jobs.GetIndexer().ListKeys())
			pods += len(i.pods.GetIndexer().ListKeys())
			heard = min(heard, i.lastWords())
		}
		add(figureObjects, float64(jobs), "jobs")
		add(figureObjects, float64(pods), "pods")
		add(figureSilence, now.Sub(time.Unix(0, heard)).Seconds())
	}
	return metrics
}
