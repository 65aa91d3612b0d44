package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// record is what became of one job, by the clock of this process. What the driver or the
// simulator did themselves happened when the answer came or when their own watch told of it,
// whichever was first: what follows from it cannot come before that.
type record struct {
	created       time.Time // its PooledJob
	dispatched    time.Time // its Job, as the target's watch tells
	runningRemote time.Time // its Job, by the simulator
	endedRemote   time.Time
	running       time.Time // on the hub, as its watch tells
	ended         time.Time
	gone          time.Time // from the hub
	remoteGone    time.Time // from the target

	path string // of the Job on the target
	jobs int    // that were ever made of it
}

// ledger has the records of all jobs of a world by their names, which are never used
// twice.
type ledger struct {
	mu      sync.Mutex
	records map[string]*record
	changed chan struct{} // closed and replaced at each change
}

func newLedger() *ledger {
	return &ledger{records: map[string]*record{}, changed: make(chan struct{})}
}

// note changes the record of a job.
func (l *ledger) note(name string, change func(*record)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.records[name]
	if r == nil {
		r = &record{}
		l.records[name] = r
	}
	change(r)
	close(l.changed)
	l.changed = make(chan struct{})
}

// of returns a copy of the record of a job.
func (l *ledger) of(name string) record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.records[name]; r != nil {
		return *r
	}
	return record{}
}

// forget drops the records of jobs.
func (l *ledger) forget(names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		delete(l.records, name)
	}
}

// await waits until something is true of all these jobs, and says how many it is not
// true of when it takes longer than patience.
func (l *ledger) await(ctx context.Context, names []string, what string, is func(*record) bool) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	done := 0 // of the first so many it is true
	for {
		l.mu.Lock()
		for done < len(names) {
			r := l.records[names[done]]
			if r == nil || !is(r) {
				break
			}
			done++
		}
		changed := l.changed
		l.mu.Unlock()
		if done == len(names) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timeout.C:
			return fmt.Errorf("waiting for %d jobs to be %s: after %s, %s is not", len(names), what, patience, names[done])
		}
	}
}

// since returns the times from one event to another of each of these jobs, in milliseconds. Two
// watches have no common order: what seems to come before its cause counts as 0, and fails the
// run if it is more than one in a hundred.
func (l *ledger) since(names []string, from, to func(*record) time.Time) []float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	values, early := make([]float64, 0, len(names)), 0
	for _, name := range names {
		r := l.records[name]
		took := to(r).Sub(from(r))
		if from(r).IsZero() || to(r).IsZero() {
			fail(fmt.Errorf("%s: a time has no beginning or no end", name))
		}
		if took < 0 {
			early++
		}
		values = append(values, milliseconds(max(took, 0)))
	}
	if early > len(names)/100 {
		fail(fmt.Errorf("of %d jobs %d seem to have gone on before their cause", len(names), early))
	}
	return values
}

// onlyOne fails unless there was exactly one Job of each of these.
func (l *ledger) onlyOne(names []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		if n := l.records[name].jobs; n != 1 {
			return fmt.Errorf("%d Jobs were made of %s", n, name)
		}
	}
	return nil
}

// The moments of a record.
func created(r *record) time.Time     { return r.created }
func dispatched(r *record) time.Time  { return r.dispatched }
func endedRemote(r *record) time.Time { return r.endedRemote }
func ended(r *record) time.Time       { return r.ended }

func isDispatched(r *record) bool { return !r.dispatched.IsZero() }
func hasStarted(r *record) bool   { return !r.runningRemote.IsZero() }
func isRunning(r *record) bool    { return !r.running.IsZero() }
func isEnded(r *record) bool      { return !r.ended.IsZero() && !r.endedRemote.IsZero() }
func isGone(r *record) bool       { return !r.gone.IsZero() && !r.remoteGone.IsZero() }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// observeHub notes what the hub's watch tells of PooledJobs.
func (l *ledger) observeHub(ctx context.Context, hub *endpoint) error {
	return hub.watch(ctx, allPooledJobs, func(e event) {
		now := time.Now()
		l.note(e.Object.Metadata.Name, func(r *record) {
			switch {
			case e.Type == "DELETED":
				r.gone = now
			case e.Type == "ADDED":
				r.created = first(r.created, now)
			case e.Object.Status.Phase == "Running":
				r.running = first(r.running, now)
			case e.Object.Status.Phase == "Succeeded":
				r.ended = first(r.ended, now)
			case e.Object.Status.Phase == "Failed":
				fail(fmt.Errorf("%s is Failed on the hub; every Job succeeds", e.Object.Metadata.Name))
			}
		})
	})
}

// sourceOf returns the name of the job that a Job is made of. Names are unique over all
// namespaces.
func sourceOf(o *object) string {
	_, name, _ := strings.Cut(o.Metadata.Annotations[sourceAnnotation], "/")
	return name
}

func first(before, now time.Time) time.Time {
	if before.IsZero() {
		return now
	}
	return before
}
