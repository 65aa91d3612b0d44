package connpool

import (
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pooledjob/pooledjob/internal/connpool/store"
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
	figureUp         = newFigure("up", "1 while Jobs can be sent and their status comes back, or could at once (Idle), as far as is known.", prometheus.GaugeValue)
	figureState      = newFigure("state", "1 for the state that the connection is in.", prometheus.GaugeValue, "state")
	figureSockets    = newFigure("sockets", "Open TCP connections to the target, with those of a new kubeconfig that is being tried.", prometheus.GaugeValue)
	figureWatches    = newFigure("watches", "Open watches on the target.", prometheus.GaugeValue)
	figureInFlight   = newFigure("requests_in_flight", "Requests under way, without watches and probes.", prometheus.GaugeValue)
	figureQueued     = newFigure("requests_queued", "Runs that wait until there is room for their request.", prometheus.GaugeValue)
	figureReconnects = newFigure("reconnects_total", "Sessions that ended or could not be opened, by the state that followed; changes of the identity (Rotated); TCP connections that were replaced within a session (Redialled).", prometheus.CounterValue, "cause")
	figureProbe      = newFigure("probe_duration_seconds", "How long the last probe took that was answered.", prometheus.GaugeValue)
	figureSilence    = newFigure("watch_silence_seconds", "Time since the last event or bookmark of the watch that has been silent longest.", prometheus.GaugeValue)
	figureExpiry     = newFigure("credential_expiry_timestamp_seconds", "When the credential in use ends, if it says so.", prometheus.GaugeValue)
	figureObjects    = newFigure("informer_objects", "Objects in the informers' view.", prometheus.GaugeValue, "resource")
	figureMemory     = newFigure("memory_bytes", "About how much memory the Jobs and Pods in view take, with those that lists bring and those that are remembered.", prometheus.GaugeValue)
	figureMost       = newFigure("memory_limit_bytes", "How much they may take.", prometheus.GaugeValue)
	figureExceeded   = newFigure("limits_exceeded_total", "How often the connection, or one of its views, was given up because the target went past a limit.", prometheus.CounterValue)
)

// Describe implements prometheus.Collector.
func (p *Pool) Describe(descs chan<- *prometheus.Desc) {
	for _, f := range []figure{
		figureUp, figureState, figureSockets, figureWatches, figureInFlight, figureQueued,
		figureReconnects, figureProbe, figureSilence, figureExpiry, figureObjects,
		figureMemory, figureMost, figureExceeded,
	} {
		descs <- f.desc
	}
}

// Collect implements prometheus.Collector. Series are made as they are asked for, so
// that those of a connection end with it. Connections that share an identity show
// the same figures, but for reconnects, which each counts from its own beginning.
func (p *Pool) Collect(metrics chan<- prometheus.Metric) {
	now := time.Now()
	var collected []memberFigures
	p.mu.Lock()
	for _, m := range p.members {
		collected = append(collected, m.figures(now))
	}
	p.mu.Unlock()
	for _, figures := range collected {
		figures.addViews(now) // counting takes time
		for _, metric := range figures.metrics {
			metrics <- metric
		}
	}
}

// memberFigures are the figures of one connection.
type memberFigures struct {
	name    string
	views   map[string]*informers
	metrics []prometheus.Metric
}

func (f *memberFigures) add(what figure, value float64, labels ...string) {
	f.metrics = append(f.metrics, prometheus.MustNewConstMetric(what.desc, what.kind, value, append([]string{f.name}, labels...)...))
}

// addViews adds what the informers hold.
func (f *memberFigures) addViews(now time.Time) {
	if len(f.views) == 0 {
		return
	}
	jobs, pods, heard := 0, 0, now.UnixNano()
	for _, i := range f.views {
		jobs += i.store.Count(store.KindJob)
		pods += i.store.Count(store.KindPod)
		heard = min(heard, i.lastWords())
	}
	f.add(figureObjects, float64(jobs), "jobs")
	f.add(figureObjects, float64(pods), "pods")
	f.add(figureSilence, now.Sub(time.Unix(0, heard)).Seconds())
}

// figures returns those of one connection that need no counting. Pool.mu is held.
func (m *member) figures(now time.Time) memberFigures {
	f := memberFigures{name: m.name, views: m.current.views()}
	status, e := m.status(), m.current.entry
	expired := !status.ExpiresAt.IsZero() && !now.Before(status.ExpiresAt)
	f.add(figureUp, oneIf((status.State == Ready || status.State == Idle) && !expired))
	for _, state := range states {
		f.add(figureState, oneIf(state == status.State), string(state))
	}
	sockets := e.sockets.Load()
	if m.next != nil {
		sockets += m.next.entry.sockets.Load()
	}
	f.add(figureSockets, float64(sockets))
	f.add(figureWatches, float64(e.watches.Load()))
	f.add(figureInFlight, float64(e.gate.inFlight))
	f.add(figureQueued, float64(len(e.gate.queue)))
	f.add(figureMemory, float64(e.budget.Held()))
	f.add(figureMost, float64(e.budget.Limit()))
	f.add(figureExceeded, float64(e.exceeded.Load()))
	for cause, times := range m.allReconnects() {
		f.add(figureReconnects, float64(times), cause)
	}
	if took := e.probeTook.Load(); took > 0 {
		f.add(figureProbe, time.Duration(took).Seconds())
	}
	if !status.ExpiresAt.IsZero() {
		f.add(figureExpiry, float64(status.ExpiresAt.Unix()))
	}
	return f
}

// Causes of a reconnect that are no states.
const (
	causeRotated   = "Rotated"
	causeRedialled = "Redialled"
)

// reconnects returns those of an entry, by their cause. Pool.mu is held.
func (e *entry) reconnects() map[string]int64 {
	counted := map[string]int64{}
	for state, times := range e.ended {
		counted[string(state)] = times
	}
	if redialled := e.redialled.Load(); redialled > 0 {
		counted[causeRedialled] = redialled
	}
	return counted
}

// countReplaced counts the reconnects of an identity that was replaced, and the replacement itself. Pool.mu is held.
func (m *member) countReplaced(h *hold) {
	m.reconnects = m.addReconnects(h)
	m.reconnects[causeRotated]++
}

// allReconnects returns those under all identities that the member used. Pool.mu is held.
func (m *member) allReconnects() map[string]int64 { return m.addReconnects(m.current) }

func (m *member) addReconnects(h *hold) map[string]int64 {
	sum := maps.Clone(m.reconnects)
	if sum == nil {
		sum = map[string]int64{}
	}
	for cause, times := range h.entry.reconnects() {
		if since := times - h.before[cause]; since > 0 {
			sum[cause] += since
		}
	}
	return sum
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
