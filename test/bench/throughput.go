package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/pooledjob/pooledjob/test/localcluster"
)

const throughputName = "1,000 jobs at once, 1 target"

// settle is the pause between two variants, for what the one before has left to do.
const settle = 2 * time.Second

// profilesUnderLoad are taken one after the other while the last 1,000 jobs run.
var profilesUnderLoad = []profile{
	{"profile?seconds=8", "throughput-cpu.pprof"},
	{"trace?seconds=2", "throughput.trace"},
	{"allocs", "throughput-allocs.pprof"},
	{"block", "throughput-block.pprof"},
	{"mutex", "throughput-mutex.pprof"},
}

// throughput measures how many jobs a second go from their creation to their end on the
// hub: of the floor and of the manager, in turn and in changing order, and then of a client
// for each task, which leaves thousands of connections behind.
func throughput(ctx context.Context, b *bench) error {
	const n = 1000
	err := b.inWorld(ctx, plan{targets: 1, real: b.real}, func(ctx context.Context, w *world) error {
		if err := w.warmFloor(ctx, n/10); err != nil {
			return err
		}
		for i := range b.repetitions {
			if err := b.compareRates(ctx, w, n, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.inWorld(ctx, plan{targets: 1, real: b.real}, func(ctx context.Context, w *world) error {
		for range min(b.repetitions, 3) {
			rate, err := b.perTaskRate(ctx, w, n)
			if err != nil {
				return err
			}
			b.progress("per-task clients %.0f jobs/s", rate)
			b.results.add(throughputName, "jobs from creation to end", variantPerTask+", which keeps nothing on the hub", "jobs/s", rate)
		}
		return nil
	})
}

// compareRates measures the floor and the manager once each.
func (b *bench) compareRates(ctx context.Context, w *world, n, repetition int) (err error) {
	var floor, manager float64
	variants := []func() error{
		func() error { floor, err = b.floorRate(ctx, w, n); return err },
		func() error { manager, err = b.managerRate(ctx, w, n, repetition == b.repetitions-1); return err },
	}
	if repetition%2 == 1 {
		slices.Reverse(variants)
	}
	for _, measure := range variants {
		if err := measure(); err != nil {
			return err
		}
		pause(ctx, settle)
	}
	b.progress("repetition %d: floor %.0f jobs/s, manager %.0f jobs/s", repetition+1, floor, manager)
	b.results.add(throughputName, "jobs from creation to end", variantFloor, "jobs/s", floor)
	b.results.add(throughputName, "jobs from creation to end", variantManager, "jobs/s", manager)
	b.results.add(throughputName, "share of floor", variantManager, "%", 100*manager/floor).atLeast(60)
	return nil
}

// warmFloor runs jobs of the floor that nobody counts: the first requests are slower.
func (w *world) warmFloor(ctx context.Context, n int) error {
	names, target := newNames(n), w.targets[0]
	if err := w.runFloor(ctx, target, names); err != nil {
		return err
	}
	if err := w.ledger.await(ctx, names, "ended", isEnded); err != nil {
		return err
	}
	return w.removeFloor(ctx, target, names)
}

// floorRate returns how many jobs a second the floor brings to their end.
func (b *bench) floorRate(ctx context.Context, w *world, n int) (float64, error) {
	names, target := newNames(n), w.targets[0]
	rate, err := b.rate(ctx, w, variantFloor, names, func() error { return w.runFloor(ctx, target, names) })
	if err != nil {
		return 0, err
	}
	return rate, w.removeFloor(ctx, target, names)
}

// managerRate returns how many the manager does, which is started for it.
func (b *bench) managerRate(ctx context.Context, w *world, n int, profiling bool) (float64, error) {
	if err := w.startManager(ctx); err != nil {
		return 0, err
	}
	names := newNames(n)
	profiled := make(chan error, 1)
	go func() {
		if !profiling {
			profiled <- nil
			return
		}
		profiled <- b.keepProfiles(ctx, w, profilesUnderLoad)
	}()
	before, err := w.patches(ctx)
	if err != nil {
		return 0, err
	}
	connections := mostConnections(ctx, w.env.Manager().PID(), w.targets[0].api.url)
	rate, err := b.rate(ctx, w, variantManager, names, func() error { return w.create(ctx, names, w.targets[0]) })
	most, countErr := connections()
	if err := errors.Join(err, countErr); err != nil {
		return 0, err
	}
	b.results.mustBe(b.results.add(throughputName, "TCP connections to the target, at most", variantManager, "connections", float64(most)), 1)
	after, err := w.patches(ctx)
	if err != nil {
		return 0, err
	}
	b.results.add(throughputName, "writes of the manager on the hub, from creation to end", variantManager, "for each job", (after-before)/float64(n))
	if err := <-profiled; err != nil {
		return 0, err
	}
	if err := w.remove(ctx, names); err != nil {
		return 0, err
	}
	return rate, w.stopManager()
}

// perTaskRate returns how many clients for each task do. They keep nothing on the hub, so they
// have three writes less to make.
func (b *bench) perTaskRate(ctx context.Context, w *world, n int) (float64, error) {
	names, target := newNames(n), w.targets[0]
	var tasks *perTask
	rate, err := b.rate(ctx, w, variantPerTask, names, func() (err error) {
		tasks, err = w.startPerTask(ctx, target, names)
		return err
	})
	if tasks != nil {
		tasks.stop()
	}
	if err != nil {
		return 0, err
	}
	return rate, w.removeJobs(ctx, target, names)
}

// rate returns how many of these jobs a second end, from the beginning of run. It notes what each
// process needed for one.
func (b *bench) rate(ctx context.Context, w *world, variant string, names []string, run func() error) (float64, error) {
	before, err := w.cpuTimes()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := run(); err != nil {
		return 0, err
	}
	if err := w.ledger.await(ctx, names, "ended", isEnded); err != nil {
		return 0, err
	}
	rate := float64(len(names)) / time.Since(begin).Seconds()
	return rate, b.addCPU(w, throughputName, variant, "job", before, len(names))
}

// addCPU notes what each process has needed since before, for each of so many.
func (b *bench) addCPU(w *world, scenario, variant, each string, before map[string]float64, n int) error {
	after, err := w.cpuTimes()
	for _, process := range slices.Sorted(maps.Keys(after)) {
		used := 1000 * (after[process] - before[process]) / float64(n)
		b.results.add(scenario, "CPU time of the "+process+" for each "+each, variant, "ms", used)
	}
	return err
}

// cpuTimes returns the CPU times of the processes, in seconds.
func (w *world) cpuTimes() (map[string]float64, error) {
	times := map[string]float64{}
	add := func(name string, pid int, err error) error {
		if err != nil {
			return err
		}
		used, err := usageOf(pid)
		times[name] = used.cpu
		return err
	}
	hub, err1 := w.env.Hub.PID(localcluster.APIServer)
	target, err2 := w.targets[0].cluster.PID(localcluster.APIServer)
	err := errors.Join(
		add("hub's API server", hub, err1),
		add("target's API server", target, err2),
		add("driver and observers", os.Getpid(), nil),
	)
	if manager := w.env.Manager(); manager != nil {
		err = errors.Join(err, add("manager", manager.PID(), nil))
	}
	return times, err
}
