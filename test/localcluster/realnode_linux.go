package localcluster

import (
	"errors"
	"fmt"
	"os"
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
	if err := mayMount(); err != nil {
		return err
	}
	return missingPrograms()
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
