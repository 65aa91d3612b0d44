package main

import (
	"context"
	"errors"
	"time"
)

const (
	idleName  = "one job, idle system"
	dispatch  = "created on the hub to created on the target"
	statusLag = "ended on the target to ended on the hub"
)

// idleSamples is how many jobs are measured in a repetition, and warmUp how many before. Where the p99 of
// one repetition counts they are tailSamples: of fewer it says little.
const (
	idleSamples = 40
	tailSamples = 4 * idleSamples
	warmUp      = 5
)

// idleLatencies are what an idle system needs, in milliseconds. Those of the floor are of its
// four writes in turn.
type idleLatencies struct{ floor, dispatch, lag []float64 }

// floorKinds are the writes of the floor in their order.
var floorKinds = []string{"create on the hub", "create on the target", "status on the hub", "status on the hub"}

// latency measures one job at a time, in an otherwise idle system, beside the writes of the
// floor in the same system without the manager.
func latency(ctx context.Context, b *bench) error {
	return b.inWorld(ctx, plan{targets: 1}, func(ctx context.Context, w *world) error {
		var all idleLatencies
		for range b.repetitions {
			l, err := w.idle(ctx, idleSamples)
			if err != nil {
				return err
			}
			b.addIdle(&l)
			all.floor = append(all.floor, l.floor...)
			all.dispatch, all.lag = append(all.dispatch, l.dispatch...), append(all.lag, l.lag...)
		}
		b.addTails(&all)
		return b.traceIdle(ctx, w)
	})
}

// traceIdle keeps an execution trace of jobs that nobody measures, if traces are asked for.
func (b *bench) traceIdle(ctx context.Context, w *world) error {
	if b.profiles == "" {
		return nil
	}
	if err := w.startManager(ctx); err != nil {
		return err
	}
	traced := make(chan error, 1)
	go func() { traced <- b.keepProfiles(ctx, w, []profile{{"trace?seconds=5", "latency.trace"}}) }()
	if _, _, err := w.oneByOne(ctx, w.targets[0], idleSamples); err != nil {
		return err
	}
	return errors.Join(<-traced, w.stopManager())
}

// addIdle adds the medians of a repetition.
func (b *bench) addIdle(l *idleLatencies) {
	r, floor := b.results, median(l.floor)
	r.add(idleName, "one write, p50", variantFloor, "ms", floor)
	for i, kind := range floorKinds[:3] {
		var values []float64
		for j := i; j < len(l.floor); j += len(floorKinds) {
			values = append(values, l.floor[j])
		}
		r.add(idleName, kind+", p50", variantFloor, "ms", median(values))
	}
	for name, values := range map[string][]float64{dispatch: l.dispatch, statusLag: l.lag} {
		p50 := median(values)
		r.add(idleName, name+", p50", variantManager, "ms", p50)
		r.add(idleName, name+", p50", variantManager, "floor writes", p50/floor).atMost(4)
		b.progress("%s: p50 %.1f ms, p99 %.1f ms; floor write %.1f ms", name, p50, quantile(values, 0.99), floor)
	}
}

// addTails adds what needs the samples of all repetitions: of 40 the 99th percentile would be
// the longest.
func (b *bench) addTails(all *idleLatencies) {
	r, floor := b.results, median(all.floor)
	r.add(idleName, "one write, p99 of all", variantFloor, "ms", quantile(all.floor, 0.99))
	for name, values := range map[string][]float64{dispatch: all.dispatch, statusLag: all.lag} {
		p99 := quantile(values, 0.99)
		r.add(idleName, name+", p99 of all", variantManager, "ms", p99)
		r.add(idleName, name+", p99 of all", variantManager, "floor writes", p99/floor).atMost(15)
		r.spread("Latency of one job in an idle system: "+name, "ms", variantManager, values)
		r.spread("Latency of one job in an idle system: "+name, "ms", "one floor write", all.floor)
	}
}

// idle measures n jobs of the floor, then n of the manager, one after the other.
func (w *world) idle(ctx context.Context, n int) (l idleLatencies, err error) {
	target := w.targets[0]
	names := newNames(warmUp + n)
	for i, name := range names {
		took, err := w.floorWrites(ctx, target, name)
		if err != nil {
			return l, err
		}
		if i >= warmUp {
			l.floor = append(l.floor, took...)
		}
		pause(ctx, 20*time.Millisecond)
	}
	if err := w.ledger.await(ctx, names, "ended", isEnded); err != nil {
		return l, err
	}
	if err := w.removeFloor(ctx, target, names); err != nil {
		return l, err
	}
	if err := w.startManager(ctx); err != nil {
		return l, err
	}
	pause(ctx, 2*time.Second) // what a start has to do is over
	l.dispatch, l.lag, err = w.oneByOne(ctx, target, n)
	if err != nil {
		return l, err
	}
	return l, w.stopManager()
}

// oneByOne runs jobs that end some time after they began, one after the other, and removes
// them.
func (w *world) oneByOne(ctx context.Context, target *targetWorld, n int) (dispatches, lags []float64, err error) {
	held := target.sim.hold.Swap(true)
	defer target.sim.hold.Store(held)
	names := newNames(warmUp + n)
	for _, name := range names {
		one := []string{name}
		if err := w.create(ctx, one, target); err != nil {
			return nil, nil, err
		}
		if err := w.ledger.await(ctx, one, "started", hasStarted); err != nil {
			return nil, nil, err
		}
		pause(ctx, 100*time.Millisecond)
		if err := w.end(ctx, target, one); err != nil {
			return nil, nil, err
		}
		if err := w.ledger.await(ctx, one, "ended", isEnded); err != nil {
			return nil, nil, err
		}
		pause(ctx, 50*time.Millisecond)
	}
	dispatches = w.ledger.since(names[warmUp:], created, dispatched)
	lags = w.ledger.since(names[warmUp:], endedRemote, ended)
	return dispatches, lags, w.remove(ctx, names)
}
