package main

import (
	"context"
	"time"
)

const blackHoleName = "1,000 jobs, 3 targets, 1 black-holed"

// blackHole measures what a target that falls silent does to the jobs of the others: 999 jobs
// go to three targets in turn, while all are sound, and while the last of them has become a
// black hole right before the first was created. It is not known to be one for the first
// fifteen seconds. What is measured are the two thirds that go to the others; beside it, what they
// take when nobody sends anything to the third, which leaves more of the hub to them.
func blackHole(ctx context.Context, b *bench) error {
	const third = 333
	return b.inWorld(ctx, plan{targets: 3, proxied: true}, func(ctx context.Context, w *world) error {
		if err := w.startManager(ctx); err != nil {
			return err
		}
		for range b.repetitions {
			alone, err := w.soundRate(ctx, 2*third, 0)
			if err != nil {
				return err
			}
			all, err := w.soundRate(ctx, 2*third, third)
			if err != nil {
				return err
			}
			w.targets[2].proxy.BlackHole()
			beside, err := w.soundRate(ctx, 2*third, third)
			if err != nil {
				return err
			}
			b.progress("the other targets: %.0f jobs/s, beside a black hole %.0f jobs/s", all, beside)
			b.results.add(blackHoleName, "jobs of the other two", "nothing for the third", "jobs/s", alone)
			b.results.add(blackHoleName, "jobs of the other two", "no black hole", "jobs/s", all)
			b.results.add(blackHoleName, "jobs of the other two", "black hole", "jobs/s", beside)
			b.results.add(blackHoleName, "share of the run without", variantManager, "%", 100*beside/all).atLeast(90)
			b.results.add(blackHoleName, "share of the run with nothing for the third", variantManager, "%", 100*beside/alone)
		}
		return nil
	})
}

// soundRate returns how many jobs a second end on the first two targets, while others are
// created for the third, which is healed and waited for after that.
func (w *world) soundRate(ctx context.Context, sound, others int) (float64, error) {
	names, lost := newNames(sound), newNames(others)
	begin := time.Now()
	creating := make(chan error, 1)
	go func() { creating <- w.create(ctx, lost, w.targets[2]) }()
	if err := w.create(ctx, names, w.targets[:2]...); err != nil {
		return 0, err
	}
	if err := w.ledger.await(ctx, names, "ended", isEnded); err != nil {
		return 0, err
	}
	rate := float64(sound) / time.Since(begin).Seconds()
	if err := <-creating; err != nil {
		return 0, err
	}
	w.targets[2].proxy.Heal()
	if err := w.ledger.await(ctx, lost, "ended", isEnded); err != nil {
		return 0, err
	}
	if err := w.remove(ctx, append(names, lost...)); err != nil {
		return 0, err
	}
	return rate, w.awaitReady(ctx, len(w.targets))
}
