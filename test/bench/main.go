package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// bench is one run of the benchmark.
type bench struct {
	results     *Results
	repetitions int
	quick       bool
	population  int
	real        bool   // the targets' own controllers run the Jobs, where that makes a difference
	manager     string // program; empty for that of make build
	profiles    string // folder for the manager's profiles; empty for none
	began       time.Time
	out         io.Writer
}

// scenario is one thing that is measured.
type scenario struct {
	name  string
	about string
	run   func(context.Context, *bench) error
}

func scenarios() []scenario {
	return []scenario{
		{"quick", "requests, connections and duplicates, counted", quick},
		{"throughput", "1,000 jobs at once to 1 target, beside the floor and a client for each task", throughput},
		{"blackhole", "1,000 jobs to 3 targets, 1 of them black-holed", blackHole},
		{"latency", "one job at a time in an idle system", latency},
		{"requests", "requests of the manager for 1,000 jobs", requests},
		{"apiserver", "what 1,000 running jobs cost the target's API server", apiServerCost},
		{"clients", "connections and watches of per-task clients", clients},
		{"population", "10,000 unfinished jobs: memory, connections, restart, status lag", population},
		{"clusters", "1, 50 and 200 connections", manyClusters},
		{"burst", "5,000 jobs of one tenant, then 1 of another", burst},
		{"hostile", "one job at a time, while other targets flood the manager", hostileTargets},
	}
}

// failed ends the run from a goroutine of an observer: what it has not seen cannot be
// measured.
var failed = make(chan error, 1)

func fail(err error) {
	select {
	case failed <- err:
	default:
	}
}

func main() {
	var (
		only        = flag.String("scenarios", "", "Run only these, separated by commas; without it all. "+scenarioNames())
		repetitions = flag.Int("repetitions", 5, "How often each variant is measured.")
		population  = flag.Int("population", 10000, "How many unfinished jobs the scenario population ends up with.")
		quick       = flag.Bool("quick", false, "Check the counted things only: requests, connections and duplicates; two minutes.")
		folder      = flag.String("out", "bench-results", "Folder for bench.json, bench.md and bench.html.")
		controllers = flag.String("controllers", "simulated", "Who runs the Jobs of the scenario throughput: simulated, or real for the targets' own Job controller and scheduler, with kwok as kubelet.")
		manager     = flag.String("manager", "", "Program of the manager to measure; without it bin/manager.")
		attacked    = flag.String("attack", "", "Serve hostile targets of the hub of that ID; for the scenario hostile.")
		profiles    = flag.String("profiles", "", "Folder for profiles and execution traces of the manager, of the scenarios throughput, latency, population and hostile.")
	)
	flag.Parse()
	if *attacked != "" {
		if err := attack(*attacked); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if *controllers != "simulated" && *controllers != "real" {
		fmt.Fprintf(os.Stderr, "bench: -controllers is %q; it must be simulated or real\n", *controllers)
		os.Exit(2)
	}
	log.SetLogger(logr.Discard()) // of the clients that start the clusters
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{results: &Results{}, repetitions: *repetitions, population: *population, quick: *quick, manager: *manager, real: *controllers == "real", profiles: *profiles, began: time.Now(), out: os.Stderr}
	context.AfterFunc(ctx, stop) // a second interrupt ends it at once
	if err := b.run(ctx, *only, *folder); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func scenarioNames() string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return "They are " + strings.Join(names, ", ") + "."
}

// run runs scenarios one after the other, and writes what was measured, also when one of
// them fails.
func (b *bench) run(ctx context.Context, only, folder string) error {
	if b.repetitions < 1 || b.population < 1000 {
		return fmt.Errorf("-repetitions is %d and -population %d; they must be at least 1 and 1000", b.repetitions, b.population)
	}
	chosen, err := choose(scenarios(), only, b.quick)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-failed:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	for _, s := range chosen {
		b.progress("== %s: %s", s.name, s.about)
		if err := b.runOne(ctx, s); err != nil {
			b.results.violated("%s: %v", s.name, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	b.results.Machine = describeMachine(b.began)
	if writeErr := b.report(folder); writeErr != nil {
		return writeErr
	}
	if len(b.results.Violations) > 0 {
		return errors.New("the run has failed; see above")
	}
	return err
}

// scenarioTime is how long one scenario may take.
const scenarioTime = time.Hour

func (b *bench) runOne(ctx context.Context, s scenario) error {
	ctx, cancel := context.WithTimeoutCause(ctx, scenarioTime, fmt.Errorf("it took longer than %s", scenarioTime))
	defer cancel()
	return s.run(ctx, b)
}

// choose finds the scenarios of these names, in the order of all.
func choose(all []scenario, only string, quick bool) ([]scenario, error) {
	if quick && only == "" {
		only = "quick"
	}
	if only == "" {
		return slices.DeleteFunc(all, func(s scenario) bool { return s.name == "quick" }), nil
	}
	var chosen []scenario
	wanted := strings.Split(only, ",")
	for _, s := range all {
		if slices.Contains(wanted, s.name) {
			chosen = append(chosen, s)
		}
	}
	if len(chosen) != len(wanted) {
		return nil, fmt.Errorf("-scenarios=%s: not all of them exist. %s", only, scenarioNames())
	}
	return chosen, nil
}

// report prints the table and writes the files.
func (b *bench) report(folder string) error {
	if b.quick {
		folder = filepath.Join(folder, "quick")
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	for name, write := range map[string]func(io.Writer, *Results) error{
		"bench.json": writeJSON, "bench.md": writeMarkdown, "bench.html": writePicture,
	} {
		file, err := os.Create(filepath.Join(folder, name))
		if err == nil {
			err = errors.Join(write(file, b.results), file.Close())
		}
		if err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return writeTable(os.Stdout, b.results)
}

// progress tells what is going on.
func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(b.out, "%6.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// inWorld runs something in a world of its own.
func (b *bench) inWorld(ctx context.Context, p plan, do func(context.Context, *world) error) error {
	p.manager = b.manager
	w, err := newWorld(ctx, p)
	if err != nil {
		return err
	}
	before := len(b.results.Violations)
	err = do(ctx, w)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	keep := err != nil || len(b.results.Violations) > before
	if keep {
		b.progress("the logs are kept in %s", w.dir)
	}
	return errors.Join(err, w.stop(keep))
}
