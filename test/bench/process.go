package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// clockTicks is the unit of CPU times in /proc; it is 100 on every Linux.
const clockTicks = 100

// usage is what a process has used and uses.
type usage struct {
	cpu float64 // seconds
	rss float64 // KiB
}

// usageOf reads a process from /proc.
func usageOf(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, fmt.Errorf("reading a process: %w", err)
	}
	// The name, in parentheses, may have spaces.
	parts := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, err1 := strconv.ParseFloat(parts[11], 64)
	system, err2 := strconv.ParseFloat(parts[12], 64)
	u := usage{cpu: (user + system) / clockTicks}
	status, err3 := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if fields[0] == "VmRSS:" {
			u.rss, _ = strconv.ParseFloat(fields[1], 64)
		}
	}
	if u.rss == 0 && err3 == nil {
		err3 = fmt.Errorf("process %d has no memory: it has ended", pid)
	}
	return u, errors.Join(err1, err2, err3)
}

// connectionsTo counts the TCP connections that a process has made to a server, and
// connectionsOf those that it has accepted as that server.
func connectionsTo(pid int, server string) (int, error) {
	return countSockets(pid, server, remoteAddress)
}

func connectionsOf(pid int, server string) (int, error) {
	return countSockets(pid, server, localAddress)
}

// Columns of /proc/net/tcp.
const (
	localAddress  = 1
	remoteAddress = 2
	socketState   = 3
	socketInode   = 9
)

// mostConnections looks at how many connections a process has to a server, from now until the
// result is called, which is the most that there were.
func mostConnections(ctx context.Context, pid int, server string) func() (int, error) {
	ctx, stop := context.WithCancel(ctx)
	type result struct {
		most int
		err  error
	}
	done := make(chan result)
	go func() {
		var r result
		for r.err == nil && ctx.Err() == nil {
			n := 0
			n, r.err = connectionsTo(pid, server)
			r.most = max(r.most, n)
			pause(ctx, 200*time.Millisecond)
		}
		done <- r
	}()
	return func() (int, error) {
		stop()
		r := <-done
		return r.most, r.err
	}
}

func countSockets(pid int, server string, column int) (int, error) {
	u, err := url.Parse(server)
	if err != nil {
		return 0, err
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return 0, err
	}
	inodes, err := socketsAt(port, column)
	if err != nil {
		return 0, err
	}
	open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, file := range open {
		if link, err := os.Readlink(file); err == nil && inodes[strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]")] {
			n++
		}
	}
	return n, nil
}

// socketsAt returns the established connections with a port at one of their ends.
func socketsAt(port, column int) (map[string]bool, error) {
	const established = "01"
	found := map[string]bool{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) > socketInode && f[socketState] == established && strings.HasSuffix(f[column], fmt.Sprintf(":%04X", port)) {
				found[f[socketInode]] = true
			}
		}
	}
	return found, nil
}

// managerFigures returns those of the metrics of a manager.
func (w *world) managerFigures(ctx context.Context) (map[string]float64, error) {
	text, err := w.env.Manager().Metrics(ctx)
	if err != nil {
		return nil, err
	}
	return parseMetrics(text), nil
}

// parseMetrics reads the text format; names are with their labels.
func parseMetrics(text string) map[string]float64 {
	values := map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, ok := cutLast(strings.TrimSpace(line), ' ')
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && !strings.HasPrefix(line, "#") {
			values[name] = v
		}
	}
	return values
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// liveHeap has the manager collect garbage, and returns the bytes that are in use then.
func (w *world) liveHeap(ctx context.Context) (float64, error) {
	for range 2 { // finalizers of the first free more
		if _, err := w.env.Manager().Profile(ctx, "heap?gc=1"); err != nil {
			return 0, err
		}
	}
	figures, err := w.managerFigures(ctx)
	return figures["go_memstats_heap_alloc_bytes"], err
}

// profile is one of net/http/pprof, and the file that it is kept in.
type profile struct{ name, file string }

// keepProfiles writes profiles of the manager, which take as long as their names say, into
// the folder for them, if there is one.
func (b *bench) keepProfiles(ctx context.Context, w *world, profiles []profile) error {
	if b.profiles == "" {
		return nil
	}
	if err := os.MkdirAll(b.profiles, 0o755); err != nil {
		return err
	}
	for _, p := range profiles {
		data, err := w.env.Manager().Profile(ctx, p.name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.profiles, p.file), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// watchesOfRuns counts the watches of Jobs and Pods that an API server has open.
func (e *endpoint) watchesOfRuns(ctx context.Context) (n float64, err error) {
	values, err := e.metrics(ctx)
	for name, value := range values {
		if strings.HasPrefix(name, "apiserver_longrunning_requests{") && strings.Contains(name, `verb="WATCH"`) &&
			(strings.Contains(name, `resource="jobs"`) || strings.Contains(name, `resource="pods"`)) {
			n += value
		}
	}
	return n, err
}

func (e *endpoint) metrics(ctx context.Context) (map[string]float64, error) {
	body, err := e.send(ctx, e.requests, http.MethodGet, "/metrics", "", nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	return parseMetrics(string(text)), err
}

func describeMachine(began time.Time) Machine {
	m := Machine{
		CPUs: runtime.NumCPU(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Date: began.UTC().Format(time.DateOnly), Duration: time.Since(began).Round(time.Second).String(),
	}
	if memory, err := os.ReadFile("/proc/meminfo"); err == nil {
		if fields := strings.Fields(string(memory)); len(fields) > 1 { // MemTotal: 123456 kB
			kib, _ := strconv.Atoi(fields[1])
			m.MemoryMiB = kib >> 10
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += ", Linux " + strings.TrimSpace(string(release))
	}
	if version, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		m.Version = strings.TrimSpace(string(version))
	}
	return m
}
