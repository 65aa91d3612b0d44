package main

import (
	"context"
	"slices"
)

const burstName = "burst of one tenant"

// burst measures how long the job of a tenant takes that comes right after 5,000 of another
// one, to the same target, as a multiple of what it takes in an idle system.
func burst(ctx context.Context, b *bench) error {
	const n = 5000
	return b.inWorld(ctx, plan{targets: 1}, func(ctx context.Context, w *world) error {
		idle, err := w.idle(ctx, idleSamples)
		if err != nil {
			return err
		}
		if err := w.startManager(ctx); err != nil {
			return err
		}
		for range min(b.repetitions, 3) {
			if err := b.oneAfterMany(ctx, w, n, median(idle.dispatch)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) oneAfterMany(ctx context.Context, w *world, n int, idle float64) error {
	many, one := newNames(n), newNames(1)
	if err := w.create(ctx, many, w.targets[0]); err != nil {
		return err
	}
	if err := w.createAt(ctx, othersJobs, one, w.targets[0]); err != nil {
		return err
	}
	if err := w.ledger.await(ctx, one, "dispatched", isDispatched); err != nil {
		return err
	}
	waited := w.ledger.since(one, created, dispatched)[0]
	b.results.add(burstName, dispatch+", of the other tenant", variantManager, "ms", waited)
	b.results.add(burstName, dispatch+", of the other tenant", variantManager, "times idle", waited/idle)
	b.progress("the job after %d others was dispatched after %.0f ms", n, waited)
	if err := w.ledger.await(ctx, slices.Concat(many, one), "ended", isEnded); err != nil {
		return err
	}
	if err := w.removeAt(ctx, othersJobs, one); err != nil {
		return err
	}
	return w.remove(ctx, many)
}
