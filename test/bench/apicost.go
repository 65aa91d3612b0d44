package main

import (
	"context"
	"time"

	"github.com/pooledjob/pooledjob/test/localcluster"
)

const (
	costName = "cost of 1,000 running jobs for the target's API server"
	// costHold is how long the jobs run after the last of them has begun.
	costHold = 20 * time.Second
	costJobs = 1000
)

// apiServerCost measures the CPU time and memory of a target's API server from before the
// first of 1,000 jobs until all have been running for a while: of the manager, and of a
// client for each task. Each is measured with an API server of its own.
func apiServerCost(ctx context.Context, b *bench) error {
	for range min(b.repetitions, 3) {
		cost := map[string]usage{}
		for _, variant := range []string{variantPerTask, variantManager} {
			err := b.inWorld(ctx, plan{targets: 1}, func(ctx context.Context, w *world) (err error) {
				cost[variant], err = w.costOf(ctx, variant)
				return err
			})
			if err != nil {
				return err
			}
			b.results.add(costName, "CPU time", variant, "s", cost[variant].cpu)
			b.results.add(costName, "growth of RSS", variant, "MB", cost[variant].rss*1.024/1000)
			b.progress("%s: %.1f s of CPU time, %.0f MB more", variant, cost[variant].cpu, cost[variant].rss*1.024/1000)
		}
		b.results.add(costName, "CPU time, times PooledJob's", variantPerTask, "times", cost[variantPerTask].cpu/cost[variantManager].cpu)
		b.results.add(costName, "growth of RSS, times PooledJob's", variantPerTask, "times", cost[variantPerTask].rss/cost[variantManager].rss)
	}
	return nil
}

// costOf returns what the API server of the first target has used more at the end.
func (w *world) costOf(ctx context.Context, variant string) (usage, error) {
	target := w.targets[0]
	w.keepRunning()
	names := newNames(costJobs)
	if variant == variantManager {
		if err := w.startManager(ctx); err != nil {
			return usage{}, err
		}
	}
	pid, err := target.cluster.PID(localcluster.APIServer)
	if err != nil {
		return usage{}, err
	}
	before, err := usageOf(pid)
	if err != nil {
		return usage{}, err
	}
	if variant == variantManager {
		err = w.create(ctx, names, target)
	} else {
		var tasks *perTask
		tasks, err = w.startPerTask(ctx, target, names)
		defer tasks.stop()
	}
	if err != nil {
		return usage{}, err
	}
	if err := w.ledger.await(ctx, names, "started", hasStarted); err != nil {
		return usage{}, err
	}
	pause(ctx, costHold)
	after, err := usageOf(pid)
	return usage{cpu: after.cpu - before.cpu, rss: after.rss - before.rss}, err
}

// clients counts the connections and watches that clients for each task have, as population
// does of the manager.
func clients(ctx context.Context, b *bench) error {
	return b.inWorld(ctx, plan{targets: 1}, func(ctx context.Context, w *world) error {
		w.keepRunning()
		pid, err := w.targets[0].cluster.PID(localcluster.APIServer)
		if err != nil {
			return err
		}
		before, err := connectionsOf(pid, w.targets[0].api.url)
		if err != nil {
			return err
		}
		var running []*perTask
		defer func() {
			for _, tasks := range running {
				tasks.stop()
			}
		}()
		had := 0
		for _, size := range []int{1, 10, 100, 1000} {
			names := newNames(size - had)
			tasks, err := w.startPerTask(ctx, w.targets[0], names)
			running = append(running, tasks)
			if err != nil {
				return err
			}
			if err := w.ledger.await(ctx, names, "started", hasStarted); err != nil {
				return err
			}
			had = size
			if err := b.countClients(ctx, w, size, pid, before); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) countClients(ctx context.Context, w *world, size, pid, before int) error {
	pause(ctx, 2*podPoll)
	now, err := connectionsOf(pid, w.targets[0].api.url)
	if err != nil {
		return err
	}
	watches, err := w.newWatches(ctx, w.targets[0])
	if err != nil {
		return err
	}
	sockets := float64(now - before)
	b.drawConnections(variantPerTask, size, sockets)
	if size == 1000 {
		b.results.add(connectionName, "TCP connections, 1,000 jobs", variantPerTask, "connections", sockets)
		b.results.add(connectionName, "watches, 1,000 jobs", variantPerTask, "watches", watches)
	}
	b.progress("%d tasks: %.0f connections, %.0f watches", size, sockets, watches)
	return nil
}
