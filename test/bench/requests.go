package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

const (
	requestsName = "requests for the whole life of a job"
	restName     = "requests at rest"
	// unhurried is how many jobs begin or end at a time where requests are counted: so few
	// that none waits for another, however slow the machine.
	unhurried = 8
	// calm is how long nothing must have been written for the system to be at rest: the
	// counters of a connection are written 30 seconds after jobs have come or gone.
	calm = 35 * time.Second
	// look is the time between two looks whether it is.
	look = 2 * time.Second
)

// budget is promise P7: what the manager may ask of the servers for the whole life of one job,
// as the audit logs of local clusters have it. A Pod that takes more than a second to start
// costs a status more, a Job whose end is seen before that of its Pod a list of Pods, and a Job
// whose deletion is seen before that of its Pod another GET; in an unhurried system few do.
var budget = []struct {
	kind        string
	least, most float64
}{
	{"hub patch pooledjobs", 2, 2}, // intent, and finalizer off
	{"hub patch pooledjobs/status", 2, 2.25},
	{"target create jobs", 1, 1},
	{"target delete jobs", 1, 1},
	{"target get jobs", 1, 1.02},
	{"target list pods", 0, 0.1},
}

// otherRequests bounds everything that is in no line of the budget, such as the counters of
// connections.
const otherRequests = 0.05

// requests counts the manager's requests in the API servers' audit logs.
func requests(ctx context.Context, b *bench) error { return b.countRequests(ctx, 1000) }

// quick counts everything that can be counted in two minutes.
func quick(ctx context.Context, b *bench) error { return b.countRequests(ctx, 200) }

func (b *bench) countRequests(ctx context.Context, n int) error {
	return b.inWorld(ctx, plan{targets: 1, audit: true}, func(ctx context.Context, w *world) error {
		w.keepRunning()
		if err := w.startManager(ctx); err != nil {
			return err
		}
		before, err := w.countAudited(nil)
		if err != nil {
			return err
		}
		if err := b.liveUnhurried(ctx, w, newNames(n)); err != nil {
			return err
		}
		after, err := w.countAudited(before)
		if err != nil {
			return err
		}
		b.addRequests(after, n)
		return nil
	})
}

// liveUnhurried has jobs live their whole lives, with a rest while all of them run.
func (b *bench) liveUnhurried(ctx context.Context, w *world, names []string) error {
	if err := inParallel(ctx, names, unhurried, w.createOne); err != nil {
		return err
	}
	if err := b.countConnections(ctx, w, len(names)); err != nil {
		return err
	}
	if err := b.rest(ctx, w); err != nil {
		return err
	}
	if err := inParallel(ctx, names, unhurried, w.endOne); err != nil {
		return err
	}
	return w.remove(ctx, names)
}

// createOne returns when the job runs, and endOne when it has ended on the hub.
func (w *world) createOne(ctx context.Context, name string) error {
	if err := w.create(ctx, []string{name}, w.targets[0]); err != nil {
		return err
	}
	return w.ledger.await(ctx, []string{name}, "running", isRunning)
}

func (w *world) endOne(ctx context.Context, name string) error {
	if err := w.targets[0].sim.end(ctx, name); err != nil {
		return err
	}
	return w.ledger.await(ctx, []string{name}, "ended", isEnded)
}

// audited counts requests by what they are about, such as "hub patch pooledjobs".
type audited map[string]int

// countAudited counts the manager's requests that were answered since the count before.
func (w *world) countAudited(before audited) (audited, error) {
	counted := audited{}
	for name, server := range map[string]*localenv.Cluster{"hub": w.env.Hub, "target": w.targets[0].cluster} {
		events, err := server.AuditEvents()
		if err != nil {
			return nil, err
		}
		for i := range events {
			if user := events[i].User.Username; user == localenv.ManagerUser || user == localenv.TargetUser {
				counted[name+" "+kindOf(&events[i])]++
			}
		}
	}
	for kind, n := range before {
		counted[kind] -= n
	}
	return counted, nil
}

func kindOf(e *localcluster.AuditEvent) string {
	kind := e.Verb + " " + e.ObjectRef.Resource
	if e.ObjectRef.Subresource != "" {
		kind += "/" + e.ObjectRef.Subresource
	}
	return kind
}

// writes counts those requests that change something.
func (a audited) writes() (n int) {
	for kind, times := range a {
		if slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, strings.Fields(kind)[1]) {
			n += times
		}
	}
	return n
}

// rest waits until nothing was written for as long as calm, and fails the run if that does not
// come about.
func (b *bench) rest(ctx context.Context, w *world) error {
	deadline := time.Now().Add(4 * calm)
	var last audited
	for since := time.Now(); time.Since(since) < calm; pause(ctx, look) {
		now, err := w.countAudited(nil)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if last == nil || now.writes() != last.writes() {
			last, since = now, time.Now()
		}
		if time.Now().After(deadline) {
			b.results.violated("%s: something is written again and again: %v", restName, now)
			return nil
		}
	}
	b.results.mustBe(b.results.add(restName, fmt.Sprintf("writes in %s, with all jobs running", calm), variantManager, "writes", 0), 0)
	return nil
}

// addRequests compares what was counted with the budget.
func (b *bench) addRequests(counted audited, n int) {
	for _, kind := range slices.Sorted(maps.Keys(counted)) {
		if counted[kind] != 0 {
			b.progress("%6d  %s", counted[kind], kind)
		}
	}
	r, others := b.results, maps.Clone(counted)
	for _, line := range budget {
		f := r.add(requestsName, line.kind, variantManager, "for each job", float64(counted[line.kind])/float64(n))
		r.mustBeWithin(f, line.least, line.most)
		delete(others, line.kind)
	}
	sum := 0
	for _, times := range others {
		sum += times
	}
	r.mustBeWithin(r.add(requestsName, "all others", variantManager, "for each job", float64(sum)/float64(n)), 0, otherRequests)
}
