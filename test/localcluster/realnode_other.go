//go:build !linux

package localcluster

import (
	"errors"
	"syscall"
)

// RealNodeProblem says that this machine cannot run Options.RealNode.
func RealNodeProblem() error { return errors.New("real nodes need Linux") }

func ownNamespaces() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
