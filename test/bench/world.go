package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pooledjob/pooledjob/test/faultproxy"
	"github.com/pooledjob/pooledjob/test/localenv"
)

const (
	// driverConcurrency is how many requests the driver has under way at once, for the
	// floor and for whoever else is measured.
	driverConcurrency = 64
	// patience is how long anything may take before the benchmark gives up. It is no
	// bound of what is measured.
	patience = 10 * time.Minute
)

// plan says what world a scenario needs.
type plan struct {
	targets int
	// audit has the API servers count requests by their users.
	audit bool
	// proxied has a proxy stand before the last target, for faults.
	proxied bool
	// real has the targets' own controllers run the Jobs.
	real bool
	// manager is the manager's program; empty for that of make build.
	manager string
}

// world is a hub, its targets and the manager, with what observes them.
type world struct {
	env     *localenv.Env
	hub     *endpoint
	targets []*targetWorld
	ledger  *ledger
	real    bool // the targets' own controllers run the Jobs

	wanted atomic.Pointer[localenv.Manager] // the one that must not end

	cancel context.CancelFunc
	dir    string
}

// targetWorld is one target.
type targetWorld struct {
	name    string
	cluster *localenv.Cluster
	api     *endpoint
	sim     *simulator
	proxy   *faultproxy.Proxy // nil if there is none
	watches float64           // of Jobs and Pods, before a manager is there
}

// newWorld starts everything but the manager.
func newWorld(ctx context.Context, p plan) (_ *world, err error) {
	dir, err := os.MkdirTemp("", "pooledjob-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	w := &world{ledger: newLedger(), dir: dir, real: p.real}
	ctx, w.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, w.stop(false))
		}
	}()
	proxies := map[string]*faultproxy.Proxy{}
	w.env, err = localenv.Start(ctx, localenv.Options{
		Targets: p.targets, Dir: dir, NoManager: true, Simulated: !p.real, Audit: p.audit, Progress: io.Discard,
		ManagerProgram: p.manager, Profiles: true,
		Kubeconfig: func(ctx context.Context, cluster *localenv.Cluster, user string) ([]byte, error) {
			if !p.proxied || cluster.Name() != fmt.Sprintf("target-%d", p.targets) {
				return cluster.KubeconfigFor(user)
			}
			proxy, err := faultproxy.Start(context.WithoutCancel(ctx), cluster.Name(), cluster.Config(), "token")
			if err != nil {
				return nil, err
			}
			proxies[cluster.Name()] = proxy
			return proxy.Kubeconfig("token")
		},
	})
	if err != nil {
		return nil, err
	}
	for _, cluster := range w.env.Targets {
		w.targets = append(w.targets, &targetWorld{name: cluster.Name(), cluster: cluster, proxy: proxies[cluster.Name()]})
	}
	err = w.prepare(ctx)
	return w, err
}

// prepare makes the namespaces and connections, and begins to observe.
func (w *world) prepare(ctx context.Context) error {
	var err error
	if w.hub, err = newEndpoint(w.env.Hub.Config()); err != nil {
		return err
	}
	if err := makeNamespaces(ctx, w.hub); err != nil {
		return err
	}
	if err := w.ledger.observeHub(ctx, w.hub); err != nil {
		return err
	}
	for _, t := range w.targets {
		if t.api, err = newEndpoint(t.cluster.Config()); err != nil {
			return err
		}
		if err := makeNamespaces(ctx, t.api); err != nil {
			return err
		}
		if t.sim, err = newSimulator(ctx, t.api, w.ledger, w.real); err != nil {
			return err
		}
		if t.watches, err = t.api.watchesOfRuns(ctx); err != nil {
			return err
		}
		if err := w.hub.post(ctx, connections, clusterConnection(t.name, t.name)); err != nil {
			return err
		}
	}
	return nil
}

func makeNamespaces(ctx context.Context, e *endpoint) error {
	for _, name := range []string{namespace, otherTenant} {
		space := encode(fields{"apiVersion": "v1", "kind": "Namespace", "metadata": fields{"name": name}})
		if err := e.post(ctx, "/api/v1/namespaces", space); err != nil {
			return err
		}
	}
	return nil
}

// startManager starts the manager, and returns when it has every connection. Should it end
// before stopManager or killManager, the run fails.
func (w *world) startManager(ctx context.Context) error {
	if err := w.startOnly(ctx); err != nil {
		return err
	}
	return w.awaitReady(ctx, len(w.targets))
}

// startOnly is startManager without the wait.
func (w *world) startOnly(ctx context.Context) error {
	if err := w.env.StartManager(ctx); err != nil {
		return err
	}
	manager := w.env.Manager()
	w.wanted.Store(manager)
	go func() {
		<-manager.Ended()
		if w.wanted.Load() == manager && ctx.Err() == nil {
			fail(errors.New("the manager has ended by itself"))
		}
	}()
	return nil
}

func (w *world) stopManager() error {
	w.wanted.Store(nil)
	return w.env.StopManager()
}

func (w *world) killManager() error {
	w.wanted.Store(nil)
	return w.env.KillManager()
}

// awaitReady waits until the manager itself has so many connections Ready. What the hub says
// of them may be older.
func (w *world) awaitReady(ctx context.Context, want int) error {
	deadline := time.Now().Add(patience)
	for {
		ready, err := w.readyConnections(ctx)
		if err != nil || ready == want {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d connections are Ready after %s", ready, want, patience)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

func (w *world) readyConnections(ctx context.Context) (ready int, err error) {
	figures, err := w.managerFigures(ctx)
	for name, value := range figures {
		if strings.HasPrefix(name, "pooledjob_connection_state{") && strings.Contains(name, `state="Ready"`) {
			ready += int(value)
		}
	}
	return ready, err
}

// stop ends everything. It leaves the folder with the logs if they are to be kept.
func (w *world) stop(keep bool) error {
	w.cancel()
	w.wanted.Store(nil)
	var err error
	if w.env != nil {
		err = w.env.Stop()
	}
	for _, t := range w.targets {
		if t.api != nil {
			t.api.close()
		}
		if t.proxy != nil {
			t.proxy.Stop()
		}
	}
	if w.hub != nil {
		w.hub.close()
	}
	if keep {
		return err
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// keepRunning leaves Jobs running on every target until end is called.
func (w *world) keepRunning() {
	for _, t := range w.targets {
		t.sim.hold.Store(true)
	}
}

// create creates a PooledJob for each name, to one target after the other.
func (w *world) create(ctx context.Context, names []string, targets ...*targetWorld) error {
	return w.createAt(ctx, pooledJobs, names, targets...)
}

// createAt is create in the namespace of a path.
func (w *world) createAt(ctx context.Context, path string, names []string, targets ...*targetWorld) error {
	next := make(map[string]*targetWorld, len(names))
	for i, name := range names {
		next[name] = targets[i%len(targets)]
	}
	return inParallel(ctx, names, driverConcurrency, func(ctx context.Context, name string) error {
		if err := w.hub.post(ctx, path, pooledJob(name, next[name].name)); err != nil {
			return err
		}
		answered := time.Now()
		w.ledger.note(name, func(r *record) { r.created = first(r.created, answered) })
		return nil
	})
}

// remove deletes PooledJobs, and waits until they and their Jobs are gone.
func (w *world) remove(ctx context.Context, names []string) error {
	return w.removeAt(ctx, pooledJobs, names)
}

func (w *world) removeAt(ctx context.Context, path string, names []string) error {
	err := inParallel(ctx, names, driverConcurrency, func(ctx context.Context, name string) error {
		return w.hub.delete(ctx, path+"/"+name)
	})
	if err != nil {
		return err
	}
	return w.awaitGone(ctx, names)
}

func (w *world) awaitGone(ctx context.Context, names []string) error {
	if err := w.ledger.await(ctx, names, "gone", isGone); err != nil {
		return err
	}
	defer w.ledger.forget(names)
	return w.ledger.onlyOne(names)
}

// end lets the Jobs of these names end.
func (w *world) end(ctx context.Context, t *targetWorld, names []string) error {
	return inParallel(ctx, names, simulatorWorkers, t.sim.end)
}

// series numbers the series of names, which are never used twice.
var series int

// newNames returns names for so many jobs.
func newNames(n int) []string {
	series++
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("run-%d-%d", series, i)
	}
	return names
}

// inParallel does something for each name, so many at a time, in their order. It stops at
// the first error.
func inParallel(ctx context.Context, names []string, atOnce int, do func(context.Context, string) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan string)
	var workers sync.WaitGroup
	for range min(atOnce, len(names)) {
		workers.Go(func() {
			for name := range next {
				if err := do(ctx, name); err != nil {
					cancel(fmt.Errorf("%s: %w", name, err))
					return
				}
			}
		})
	}
	func() {
		defer close(next)
		for _, name := range names {
			select {
			case next <- name:
			case <-ctx.Done():
				return
			}
		}
	}()
	workers.Wait()
	return context.Cause(ctx)
}

// pause waits, without a need to end in time.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
