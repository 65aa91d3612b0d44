package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pooledjob/pooledjob/test/localcluster"
)

const (
	clustersName = "many connections"
	// clusterGroup has the rights that connections need.
	clusterGroup = "pooledjob-many"
	// outage is how long the targets' API server stands still after every connection is known
	// to be lost.
	outage = 20 * time.Second
)

// manyClusters measures what connections cost, without jobs: each has an identity of its
// own, so it is a connection of its own, although one API server stands behind all.
func manyClusters(ctx context.Context, b *bench) error {
	return b.inWorld(ctx, plan{targets: 1}, func(ctx context.Context, w *world) error {
		if err := w.allowGroup(ctx); err != nil {
			return err
		}
		if err := w.hub.delete(ctx, connections+"/"+w.targets[0].name); err != nil {
			return err
		}
		if err := w.startOnly(ctx); err != nil {
			return err
		}
		var heap, rss, goroutines [][2]float64
		had := 0
		for _, size := range []int{0, 1, 50, 100, 200} {
			took, err := w.connect(ctx, had, size)
			if err != nil {
				return err
			}
			had = size
			m, err := w.footprint(ctx)
			if err != nil {
				return err
			}
			x := float64(size)
			heap, rss, goroutines = append(heap, [2]float64{x, m.heap}), append(rss, [2]float64{x, m.rss}), append(goroutines, [2]float64{x, m.goroutines})
			b.addFootprint(size, took, m)
		}
		r := b.results
		r.add(clustersName, "goroutines for each connection, slope", variantManager, "goroutines", slope(goroutines)).atMost(15)
		r.add(clustersName, "live heap for each connection, slope", variantManager, "KiB", slope(heap)/1024).atMost(100)
		r.add(clustersName, "RSS for each connection, slope", variantManager, "KiB", slope(rss)/1024)
		return b.storm(ctx, w)
	})
}

// footprint is what the manager needs.
type footprint struct{ heap, rss, goroutines float64 } // bytes

func (w *world) footprint(ctx context.Context) (f footprint, err error) {
	pause(ctx, 5*time.Second) // handshakes' buffers are let go
	used, err := usageOf(w.env.Manager().PID())
	if err != nil {
		return f, err
	}
	if f.heap, err = w.liveHeap(ctx); err != nil {
		return f, err
	}
	figures, err := w.managerFigures(ctx)
	f.rss, f.goroutines = used.rss*1024, figures["go_goroutines"]
	return f, err
}

func (b *bench) addFootprint(size int, took time.Duration, f footprint) {
	name := fmt.Sprintf("%d connections: ", size)
	b.results.add(clustersName, name+"goroutines", variantManager, "goroutines", f.goroutines)
	b.results.add(clustersName, name+"live heap", variantManager, "MB", f.heap/1e6)
	if size > 0 {
		b.results.add(clustersName, name+"the new ones Ready after", variantManager, "s", took.Seconds())
	}
	curve := Curve{Title: "Memory of the manager over connections", XLabel: "connections", YLabel: "MB"}
	b.results.point(curve, "live heap", float64(size), f.heap/1e6)
	b.results.point(curve, "RSS", float64(size), f.rss/1e6)
	b.progress("%d connections: Ready after %.1f s, %.0f goroutines, %.1f MB of heap", size, took.Seconds(), f.goroutines, f.heap/1e6)
}

// allowGroup gives a group the rights of config/target.
func (w *world) allowGroup(ctx context.Context) error {
	return w.targets[0].api.post(ctx, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", encode(fields{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": fields{"name": clusterGroup},
		"roleRef":  fields{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "pooledjob-target"},
		"subjects": []fields{{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": clusterGroup}},
	}))
}

// connect makes the connections from one number to another, and returns how long it took
// until all are Ready.
func (w *world) connect(ctx context.Context, from, to int) (time.Duration, error) {
	var names []string
	for i := from; i < to; i++ {
		name := fmt.Sprintf("many-%d", i)
		kubeconfig, err := w.targets[0].cluster.KubeconfigFor(name, clusterGroup)
		if err != nil {
			return 0, err
		}
		if err := w.hub.post(ctx, secrets, kubeconfigSecret(name, kubeconfig)); err != nil {
			return 0, err
		}
		names = append(names, name)
	}
	begin := time.Now()
	err := inParallel(ctx, names, driverConcurrency, func(ctx context.Context, name string) error {
		return w.hub.post(ctx, connections, clusterConnection(name, name))
	})
	if err != nil {
		return 0, err
	}
	err = w.awaitReady(ctx, to)
	return time.Since(begin), err
}

// storm stops the API server behind all connections until every one of them is lost and has
// been tried again for a while, and measures how long it takes until the last is Ready again.
func (b *bench) storm(ctx context.Context, w *world) error {
	cluster := w.targets[0].cluster
	if err := cluster.PauseProgram(localcluster.APIServer); err != nil {
		return err
	}
	if err := w.awaitReady(ctx, 0); err != nil {
		return err
	}
	pause(ctx, outage)
	begin := time.Now()
	if err := cluster.ResumeProgram(localcluster.APIServer); err != nil {
		return err
	}
	if err := w.awaitReady(ctx, 200); err != nil {
		return err
	}
	took := time.Since(begin).Seconds()
	sockets, err := connectionsTo(w.env.Manager().PID(), w.targets[0].api.url)
	if err != nil {
		return err
	}
	b.results.add(clustersName, fmt.Sprintf("all 200 Ready again after an outage of %s", outage), variantManager, "s", took)
	b.results.mustBe(b.results.add(clustersName, "TCP connections after the outage", variantManager, "connections", float64(sockets)), 200)
	b.progress("all Ready again after %.1f s", took)
	return nil
}
