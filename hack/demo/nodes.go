package main

import (
	"context"
	"fmt"
	"os"

	"github.com/pooledjob/pooledjob/test/localcluster"
)

// realNodes tells which nodes are wanted, and fails when this machine cannot have them.
func realNodes() (bool, error) {
	switch nodes := os.Getenv("NODES"); nodes {
	case "", "simulated":
		return false, nil
	case "real":
		if problem := localcluster.RealNodeProblem(); problem != nil {
			return false, fmt.Errorf("NODES=real: %w", problem)
		}
		if !localcluster.HasBusybox() {
			fmt.Println("No static busybox is here: the samples' image is pulled from its registry (on Debian, apt-get install busybox-static).")
		}
		return true, nil
	default:
		return false, fmt.Errorf("NODES=%s: give real or simulated", nodes)
	}
}

// describeNodes says in one line whether tests of real Pods run or are skipped.
func describeNodes(context.Context) error {
	if problem := localcluster.RealNodeProblem(); problem != nil {
		fmt.Printf("Tests of real Pods are SKIPPED: %v\n", problem)
		return nil
	}
	fmt.Println("Tests of real Pods run: root, containerd and runc are here.")
	return nil
}
