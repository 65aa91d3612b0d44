package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pooledjob/pooledjob/test/hostile"
)

const hostileName = "hostile targets"

// floods are the attacks that keep a manager busiest: targets that are Connected and have always
// something to tell.
var floods = []string{"a Job that changes again and again", "Jobs that come and go", "Pods that end and go"}

// attackerCPU is how much of a core the attackers may use, in percent: they run on the machine that
// is measured.
const attackerCPU = 50

// hostileTargets measures what targets that flood the manager do to the jobs of another tenant on
// another target, one at a time: how long each takes from the hub to the target, beside the same
// without the attack. (In production the attackers would have machines of their own.)
func hostileTargets(ctx context.Context, b *bench) error {
	return b.inWorld(ctx, plan{targets: 1}, func(ctx context.Context, w *world) error {
		if err := w.startManager(ctx); err != nil {
			return err
		}
		var quiet, attacked attackTimes
		for range b.repetitions {
			if err := quiet.measure(ctx, w); err != nil {
				return err
			}
			if err := b.underAttack(ctx, w, &attacked); err != nil {
				return err
			}
			b.progress("dispatched after p50 %.1f ms, p99 %.1f ms; under attack p50 %.1f ms, p99 %.1f ms",
				median(quiet.dispatches), quantile(quiet.dispatches, 0.99), median(attacked.dispatches), quantile(attacked.dispatches, 0.99))
		}
		for name, q := range map[string]float64{"p50": 0.5, "p99": 0.99} {
			without, with := quantile(quiet.dispatches, q), quantile(attacked.dispatches, q)
			b.results.add(hostileName, dispatch+", "+name, "no attack", "ms", without)
			b.results.add(hostileName, dispatch+", "+name, "attack", "ms", with)
			b.results.add(hostileName, dispatch+", "+name, variantManager, "times the same without", with/without).atMost(2)
		}
		b.results.add(hostileName, "CPU time of the manager", "no attack", "% of a core", quiet.cpu...)
		b.results.add(hostileName, "CPU time of the manager", "attack", "% of a core", attacked.cpu...).atLeast(2 * median(quiet.cpu)) // else there was none
		return nil
	})
}

// attackTimes are what a measurement with or without an attack has found.
type attackTimes struct {
	dispatches []float64 // ms
	cpu        []float64 // of the manager, % of a core
}

// measure runs jobs one by one.
func (t *attackTimes) measure(ctx context.Context, w *world) error {
	const cpuSeconds = "process_cpu_seconds_total"
	before, err := w.managerFigures(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	dispatches, _, err := w.oneByOne(ctx, w.targets[0], tailSamples)
	if err != nil {
		return err
	}
	after, err := w.managerFigures(ctx)
	t.dispatches = append(t.dispatches, dispatches...)
	t.cpu = append(t.cpu, 100*(after[cpuSeconds]-before[cpuSeconds])/time.Since(begin).Seconds())
	return err
}

// profilesUnderAttack are taken after the last job of a repetition.
var profilesUnderAttack = []profile{{"profile?seconds=5", "hostile-cpu.pprof"}, {"trace?seconds=1", "hostile.trace"}}

// underAttack measures while all floods are on, from the first job to the last.
func (b *bench) underAttack(ctx context.Context, w *world, found *attackTimes) (err error) {
	attackers, kubeconfigs, err := w.startAttackers(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, attackers.stop()) }()
	ready := len(w.targets) + len(kubeconfigs)
	names := newNames(len(kubeconfigs))
	defer func() {
		for _, name := range names {
			err = errors.Join(err, w.hub.delete(ctx, connections+"/"+name), w.hub.delete(ctx, secrets+"/"+name))
		}
	}()
	for i, name := range names {
		if err := w.hub.post(ctx, secrets, kubeconfigSecret(name, kubeconfigs[i])); err != nil {
			return err
		}
		if err := w.hub.post(ctx, connections, clusterConnection(name, name)); err != nil {
			return err
		}
	}
	if err := w.awaitReady(ctx, ready); err != nil {
		return err
	}
	if err := found.measure(ctx, w); err != nil {
		return err
	}
	figures, err := w.managerFigures(ctx)
	for name, times := range figures {
		if strings.HasPrefix(name, "pooledjob_connection_limits_exceeded_total{") && times > 0 {
			err = errors.Join(err, fmt.Errorf("an attack has ended by itself: %s is %g", name, times))
		}
	}
	return errors.Join(err, w.awaitReady(ctx, ready), b.keepProfiles(ctx, w, profilesUnderAttack))
}

// attackers are a process of this program that serves hostile targets.
type attackers struct {
	cmd   *exec.Cmd
	input io.Closer // it ends when this is closed
	group string    // its CPU cgroup; empty if it has none
}

// startAttackers starts them, in a CPU cgroup of their own where that is allowed.
func (w *world) startAttackers(ctx context.Context) (*attackers, [][]byte, error) {
	var hub struct{ Data struct{ ID string } }
	if err := w.hub.do(ctx, http.MethodGet, "/api/v1/namespaces/"+managerNamespace+"/configmaps/pooledjob-hub", "", nil, &hub); err != nil {
		return nil, nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, "-attack", hub.Data.ID)
	cmd.Stderr = os.Stderr
	input, err1 := cmd.StdinPipe()
	output, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return nil, nil, fmt.Errorf("starting the attackers: %w", err)
	}
	a := &attackers{cmd: cmd, input: input, group: slow(cmd.Process.Pid)}
	if a.group == "" {
		fmt.Fprintln(os.Stderr, "bench: the attackers have no CPU cgroup here, and take what they get")
	}
	var kubeconfigs [][]byte
	for lines := bufio.NewScanner(output); len(kubeconfigs) < len(floods) && lines.Scan(); {
		kubeconfig, err := base64.StdEncoding.DecodeString(lines.Text())
		if err != nil {
			return nil, nil, errors.Join(err, a.stop())
		}
		kubeconfigs = append(kubeconfigs, kubeconfig)
	}
	if len(kubeconfigs) < len(floods) {
		return nil, nil, errors.Join(errors.New("the attackers have ended"), a.stop())
	}
	return a, kubeconfigs, nil
}

func (a *attackers) stop() error {
	err := a.input.Close()
	_ = a.cmd.Wait()
	if a.group != "" {
		err = errors.Join(err, os.Remove(a.group))
	}
	return err
}

// slow puts a process into a CPU cgroup of its own, and returns that; it is empty where that is
// not allowed.
func slow(pid int) (group string) {
	const period = 10_000 // microseconds: in a longer one they would take a whole core and more for part of it
	quota := strconv.Itoa(period * attackerCPU / 100)
	group, limits := fmt.Sprintf("/sys/fs/cgroup/pooledjob-bench-%d", pid), map[string]string{"cpu.max": quota + " " + strconv.Itoa(period)}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		group, limits = fmt.Sprintf("/sys/fs/cgroup/cpu/pooledjob-bench-%d", pid), map[string]string{"cpu.cfs_period_us": strconv.Itoa(period), "cpu.cfs_quota_us": quota}
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		return ""
	}
	limits["cgroup.procs"] = strconv.Itoa(pid) // it may be limited before or after
	for name, value := range limits {
		if err := os.WriteFile(filepath.Join(group, name), []byte(value), 0o600); err != nil {
			_ = os.Remove(group)
			return ""
		}
	}
	return group
}

// attack serves the hostile targets of a hub, prints their kubeconfigs, and ends with its input.
func attack(hubID string) error {
	kubeconfigs, stop, err := hostile.Serve(hubID, floods...)
	if err != nil {
		return err
	}
	defer stop()
	var lines strings.Builder
	for _, kubeconfig := range kubeconfigs {
		lines.WriteString(base64.StdEncoding.EncodeToString(kubeconfig) + "\n")
	}
	if _, err := os.Stdout.WriteString(lines.String()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
