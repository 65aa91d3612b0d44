package main

import (
	"context"
	"time"
)

// runFloor runs jobs with the fewest requests that any system must make which keeps an
// object on a hub and a Job on a target: create both, and tell the hub when it runs and
// when it has ended. Nobody watches, decides or waits; the manager must not run.
func (w *world) runFloor(ctx context.Context, target *targetWorld, names []string) error {
	return inParallel(ctx, names, driverConcurrency, func(ctx context.Context, name string) error {
		_, err := w.floorWrites(ctx, target, name)
		return err
	})
}

// floorWrites makes the requests of one job, and returns how long each took.
func (w *world) floorWrites(ctx context.Context, target *targetWorld, name string) ([]float64, error) {
	at, path := stamp(), pooledJobs+"/"+name
	var took []float64
	for _, request := range []func() error{
		func() error { return w.hub.post(ctx, pooledJobs, pooledJob(name, target.name)) },
		func() error { return target.api.post(ctx, jobs, remoteJob(name)) },
		func() error { return w.hub.patch(ctx, path+"/status", hubRunning(at)) },
		func() error { return w.hub.patch(ctx, path+"/status", hubEnded(at)) },
	} {
		begin := time.Now()
		if err := request(); err != nil {
			return nil, err
		}
		took = append(took, milliseconds(time.Since(begin)))
	}
	return took, nil
}

// removeFloor deletes what runFloor has left.
func (w *world) removeFloor(ctx context.Context, target *targetWorld, names []string) error {
	err := inParallel(ctx, names, driverConcurrency, func(ctx context.Context, name string) error {
		if err := target.api.delete(ctx, jobs+"/"+name+"?propagationPolicy=Foreground"); err != nil {
			return err
		}
		return w.hub.delete(ctx, pooledJobs+"/"+name)
	})
	if err != nil {
		return err
	}
	return w.awaitGone(ctx, names)
}
