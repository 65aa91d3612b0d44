package localcluster

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// capSysAdmin is the right to mount, which root lacks in most containers.
const capSysAdmin = 21

// RealNodeProblem says why this machine cannot run Options.RealNode, and what to do
// about it; it is nil when it can.
func RealNodeProblem() error {
	if os.Geteuid() != 0 {
		return errors.New("real nodes need root")
	}
	for _, problem := range []func() error{mayMount, cgroupProblem, missingPrograms} {
		if err := problem(); err != nil {
			return err
		}
	}
	return nil
}

// cgroupProblem is the lack of cgroups that limit memory and can be written to.
func cgroupProblem() error {
	const mounted = "/sys/fs/cgroup"
	var used syscall.Statfs_t
	if err := syscall.Statfs(mounted, &used); err != nil {
		return fmt.Errorf("real nodes need cgroups: %w", err)
	}
	if used.Flags&syscall.MS_RDONLY != 0 {
		return fmt.Errorf("real nodes need cgroups, and %s is read-only: in a container, run it privileged", mounted)
	}
	unified, err := os.ReadFile(mounted + "/cgroup.controllers")
	if err == nil && slices.Contains(strings.Fields(string(unified)), "memory") {
		return nil
	}
	if _, err := os.Stat(mounted + "/memory/cgroup.procs"); err == nil {
		return nil
	}
	return fmt.Errorf("real nodes need the memory cgroup, and there is none in %s", mounted)
}

func mayMount() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("finding out whether real nodes can run: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if digits, ok := strings.CutPrefix(line, "CapEff:"); ok {
			rights, err := strconv.ParseUint(strings.TrimSpace(digits), 16, 64)
			if err == nil && rights&(1<<capSysAdmin) != 0 {
				return nil
			}
		}
	}
	return errors.New("real nodes need the right to mount (CAP_SYS_ADMIN): in a container, run it privileged")
}

// ownNamespaces gives a process namespaces that end with it, and all that runs in
// them and is mounted there.
func ownNamespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
}
