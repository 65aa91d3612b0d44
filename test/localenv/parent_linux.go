package localenv

import (
	"os/exec"
	"syscall"
)

// tieToParent makes a process end when the one that starts it does.
func tieToParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
