package hostile

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The memory of the containers in config/manager and config/logs.
const (
	managerLimit = 1 << 30
	logsLimit    = 512 << 20
)

// confine puts a process into a memory cgroup of its own with that limit in bytes, and returns what removes that once the
// process has ended.
func confine(pid, limit int) (remove func(), err error) {
	dir, file := fmt.Sprintf("/sys/fs/cgroup/pooledjob-%d", pid), "memory.max"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		dir, file = fmt.Sprintf("/sys/fs/cgroup/memory/pooledjob-%d", pid), "memory.limit_in_bytes"
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	remove = func() { _ = os.Remove(dir) }
	for name, value := range map[string]int{file: limit, "cgroup.procs": pid} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strconv.Itoa(value)), 0o600); err != nil {
			return remove, err
		}
	}
	return remove, nil
}

// resident returns how much memory a process has, in bytes.
func resident(pid int) (int64, error) {
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", pid)
}

// peak is the most memory that a process has had while it is looked at.
type peak struct {
	bytes atomic.Int64
	stop  chan struct{}
	ended chan struct{}
}

// watchPeak looks at a process every few milliseconds.
func watchPeak(pid int) *peak {
	p := &peak{stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		for {
			if now, err := resident(pid); err == nil {
				p.bytes.Store(max(p.bytes.Load(), now))
			}
			select {
			case <-p.stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return p
}

// MiB ends the look, and is the most that was seen.
func (p *peak) MiB() int64 {
	close(p.stop)
	<-p.ended
	return p.bytes.Load() >> 20
}
