package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

const (
	memoryName     = "memory of the manager"
	connectionName = "connections and watches of one target"
	restartName    = "restart"
	lagName        = "status lag among many"

	// lagWindow is for how long Jobs end while the lag is measured, in each repetition.
	lagWindow = 10 * time.Second
	// endedWhileDown is how many Jobs end while the manager is down.
	endedWhileDown = 100
	// allWritten is how long no write must come for all to be written: counters wait for ten
	// seconds.
	allWritten = 12 * time.Second
)

// finishing are how many Jobs a second end while the lag is measured: as many as are asked
// for, and a rate that two cores carry with everything that is on them.
var finishing = []int{100, 25}

// population measures what depends on how many jobs there are that have not finished: memory,
// connections, the restart of the manager, and how long the news of an end takes.
func population(ctx context.Context, b *bench) error {
	return b.inWorld(ctx, plan{targets: 1}, func(ctx context.Context, w *world) error {
		idle, err := w.idle(ctx, tailSamples)
		if err != nil {
			return err
		}
		b.results.add(idleName+", where many follow", statusLag+", p50", variantManager, "ms", median(idle.lag))
		b.results.add(idleName+", where many follow", statusLag+", p99", variantManager, "ms", quantile(idle.lag, 0.99))
		if err := w.startManager(ctx); err != nil {
			return err
		}
		names, err := b.grow(ctx, w)
		if err != nil {
			return err
		}
		for range b.repetitions {
			if names, err = b.restart(ctx, w, names); err != nil {
				return err
			}
		}
		b.results.spread("Status lag: "+statusLag, "ms", "idle", idle.lag)
		for range b.repetitions {
			for _, rate := range finishing {
				if names, err = b.lag(ctx, w, names, &idle, rate); err != nil {
					return err
				}
			}
		}
		return w.ledger.onlyOne(names)
	})
}

// sizes returns how many jobs there are when something is measured.
func (b *bench) sizes() []int {
	sizes := []int{0, 1, 10, 100, 1000}
	for quarter := 1; quarter <= 4; quarter++ {
		sizes = append(sizes, max(1000, b.population*quarter/4))
	}
	return slices.Compact(sizes)
}

// grow makes ever more jobs that do not end.
func (b *bench) grow(ctx context.Context, w *world) (names []string, err error) {
	w.keepRunning()
	var heap, rss [][2]float64
	for _, size := range b.sizes() {
		more := newNames(size - len(names))
		if err := w.create(ctx, more, w.targets[0]); err != nil {
			return nil, err
		}
		if err := w.ledger.await(ctx, more, "running", isRunning); err != nil {
			return nil, err
		}
		names = append(names, more...)
		if err := b.countConnections(ctx, w, size); err != nil {
			return nil, err
		}
		point, err := b.memory(ctx, w, size)
		if err != nil {
			return nil, err
		}
		heap, rss = append(heap, [2]float64{float64(size), point[0]}), append(rss, [2]float64{float64(size), point[1]})
	}
	b.results.add(memoryName, "live heap for each job, slope", variantManager, "KB", slope(heap)).atMost(8)
	b.results.add(memoryName, "RSS for each job, slope", variantManager, "KB", slope(rss)).atMost(16)
	last := len(heap) - 1
	b.results.add(memoryName, "live heap for each job, over the empty manager", variantManager, "KB", (heap[last][1]-heap[0][1])/heap[last][0]).atMost(8)
	b.results.add(memoryName, "RSS for each job, over the empty manager", variantManager, "KB", (rss[last][1]-rss[0][1])/rss[last][0]).atMost(16)
	if err := b.sizeOf(ctx, w, names[0]); err != nil {
		return nil, err
	}
	return names, b.keepProfiles(ctx, w, []profile{{"heap?gc=1", "population-heap.pprof"}})
}

// sizeOf notes how large a running PooledJob is on the hub, whose etcd keeps it as JSON.
func (b *bench) sizeOf(ctx context.Context, w *world, name string) error {
	body, err := w.hub.send(ctx, w.hub.requests, http.MethodGet, pooledJobs+"/"+name, "", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	size, err := io.Copy(io.Discard, body)
	b.results.add("size of a running PooledJob", "in the hub's etcd, as JSON", variantManager, "KB", float64(size)/1000)
	return err
}

// memory measures the manager's heap and RSS, in KB.
func (b *bench) memory(ctx context.Context, w *world, size int) (point [2]float64, err error) {
	pause(ctx, 3*time.Second) // statuses that wait for their second are written
	used, err := usageOf(w.env.Manager().PID())
	if err != nil {
		return point, err
	}
	live, err := w.liveHeap(ctx)
	if err != nil {
		return point, err
	}
	point = [2]float64{live / 1000, used.rss * 1.024}
	if size == 0 || size >= 1000 {
		name := fmt.Sprintf("with %d jobs: ", size)
		b.results.add(memoryName, name+"live heap", variantManager, "MB", point[0]/1000)
		b.results.add(memoryName, name+"RSS, garbage included", variantManager, "MB", point[1]/1000)
	}
	curve := Curve{Title: "Memory of the manager over unfinished jobs", XLabel: "jobs", YLabel: "MB"}
	b.results.point(curve, "live heap", float64(size), point[0]/1000)
	b.results.point(curve, "RSS", float64(size), point[1]/1000)
	b.progress("%d jobs: live heap %.1f MB, RSS %.1f MB", size, point[0]/1000, point[1]/1000)
	return point, nil
}

// countConnections counts the manager's connections to the target, and its watches.
func (b *bench) countConnections(ctx context.Context, w *world, size int) error {
	target := w.targets[0]
	sockets, err := connectionsTo(w.env.Manager().PID(), target.api.url)
	if err != nil {
		return err
	}
	watches, err := w.newWatches(ctx, target)
	if err != nil {
		return err
	}
	b.results.mustBe(b.results.add(connectionName, "TCP connections, 1 to all jobs", variantManager, "connections", float64(sockets)), 1)
	b.results.mustBe(b.results.add(connectionName, "watches, 1 to all jobs", variantManager, "watches", watches), 2)
	b.drawConnections(variantManager, size, float64(sockets))
	return nil
}

func (b *bench) drawConnections(variant string, size int, sockets float64) {
	b.results.point(Curve{Title: "TCP connections to one target over running jobs", XLabel: "jobs", YLabel: "connections"}, variant, float64(size), sockets)
}

// newWatches returns the watches of Jobs and Pods at a target that there were not before.
func (w *world) newWatches(ctx context.Context, target *targetWorld) (float64, error) {
	all, err := target.api.watchesOfRuns(ctx)
	return all - target.watches, err
}

// awaitWrites waits until the manager has written all that it knows.
func (w *world) awaitWrites(ctx context.Context) error {
	for before := -1.0; ctx.Err() == nil; {
		now, err := w.patches(ctx)
		if err != nil || now == before {
			return err
		}
		before = now
		pause(ctx, allWritten)
	}
	return ctx.Err()
}

// restart kills the manager, lets some Jobs end, and measures how long the next one takes
// to tell of them.
func (b *bench) restart(ctx context.Context, w *world, names []string) (left []string, err error) {
	target := w.targets[0]
	plain, err := w.listAll(ctx, target)
	if err != nil {
		return nil, err
	}
	if err := w.awaitWrites(ctx); err != nil { // what is left is the next manager's
		return nil, err
	}
	if err := w.killManager(); err != nil {
		return nil, err
	}
	done, left := names[:endedWhileDown], names[endedWhileDown:]
	if err := w.end(ctx, target, done); err != nil {
		return nil, err
	}
	before, err := w.patches(ctx)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := w.startOnly(ctx); err != nil {
		return nil, err
	}
	if err := w.ledger.await(ctx, done, "ended", isEnded); err != nil {
		return nil, err
	}
	pause(ctx, allWritten) // for writes that should not be
	after, err := w.patches(ctx)
	if err != nil {
		return nil, err
	}
	times := make([]float64, 0, len(done))
	for _, name := range done {
		r := w.ledger.of(name)
		times = append(times, milliseconds(r.ended.Sub(begin)))
	}
	r, first, last := b.results, quantile(times, 0), quantile(times, 1)
	r.add(restartName, "listing all PooledJobs, Jobs and Pods", variantPlain, "ms", plain)
	r.add(restartName, "start to first correct status", variantManager, "ms", first)
	r.add(restartName, "start to last correct status", variantManager, "ms", last)
	r.add(restartName, "start to last correct status", variantManager, "plain lists", last/plain)
	r.mustBe(r.add(restartName, "writes for each status that changed", variantManager, "writes", (after-before)/endedWhileDown), 1)
	b.progress("restart: first status after %.0f ms, last after %.0f ms; plain lists take %.0f ms; %.0f writes", first, last, plain, after-before)
	return w.replace(ctx, done, left)
}

// listAll returns how long a plain typed client needs to list what there is on both sides, in
// milliseconds.
func (w *world) listAll(ctx context.Context, target *targetWorld) (float64, error) {
	begin := time.Now()
	err := errors.Join(
		w.env.Hub.Client.List(ctx, &v1alpha1.PooledJobList{}),
		target.cluster.Client.List(ctx, &batchv1.JobList{}),
		target.cluster.Client.List(ctx, &corev1.PodList{}),
	)
	return milliseconds(time.Since(begin)), err
}

// replace makes as many new jobs as have ended, which are left to the world's end.
func (w *world) replace(ctx context.Context, done, left []string) ([]string, error) {
	if err := w.ledger.onlyOne(done); err != nil {
		return nil, err
	}
	more := newNames(len(done))
	if err := w.create(ctx, more, w.targets[0]); err != nil {
		return nil, err
	}
	return append(left, more...), w.ledger.await(ctx, more, "running", isRunning)
}

// patches returns how often PooledJobs were patched on the hub. The driver never does.
func (w *world) patches(ctx context.Context) (n float64, err error) {
	values, err := w.hub.metrics(ctx)
	for name, value := range values {
		if strings.HasPrefix(name, "apiserver_request_total{") && strings.Contains(name, `resource="pooledjobs"`) &&
			(strings.Contains(name, `verb="PATCH"`) || strings.Contains(name, `verb="PUT"`) || strings.Contains(name, `verb="APPLY"`)) {
			n += value
		}
	}
	return n, err
}

// lag lets Jobs end at a steady rate, and measures when the hub knows.
func (b *bench) lag(ctx context.Context, w *world, names []string, idle *idleLatencies, rate int) (left []string, err error) {
	n := rate * int(lagWindow.Seconds())
	if n > len(names) {
		return nil, fmt.Errorf("%d jobs are too few", len(names))
	}
	ending, left := names[:n], names[n:]
	before, err := w.cpuTimes()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := w.endSteadily(ctx, ending, rate); err != nil {
		return nil, err
	}
	reached := float64(n) / time.Since(begin).Seconds()
	if err := w.ledger.await(ctx, ending, "ended", isEnded); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s, %d ending a second", lagName, rate)
	if err := b.addCPU(w, name, variantManager, "end", before, n); err != nil {
		return nil, err
	}
	lags := w.ledger.since(ending, endedRemote, ended)
	r, p50, p99 := b.results, median(lags), quantile(lags, 0.99)
	r.add(name, "jobs that the simulator ended", "driver", "in a second", reached)
	r.add(name, statusLag+", p50", variantManager, "ms", p50)
	r.add(name, statusLag+", p99", variantManager, "ms", p99)
	r.add(name, statusLag+", p50", variantManager, "times idle", p50/median(idle.lag)).atMost(2)
	r.add(name, statusLag+", p99", variantManager, "times idle", p99/quantile(idle.lag, 0.99)).atMost(2)
	r.spread("Status lag: "+statusLag, "ms", fmt.Sprintf("%d unfinished, %d ending a second", b.population, rate), lags)
	b.progress("%d ending a second (%.0f reached): lag p50 %.1f ms, p99 %.1f ms", rate, reached, p50, p99)
	left, err = w.replace(ctx, ending, left)
	pause(ctx, settle)
	return left, err
}

// endSteadily lets Jobs end, so many in a second.
func (w *world) endSteadily(ctx context.Context, names []string, rate int) error {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	return inParallel(ctx, names, simulatorWorkers, func(ctx context.Context, name string) error {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		return w.targets[0].sim.end(ctx, name)
	})
}
