package main

import (
	"context"

	"k8s.io/component-base/cli"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// Real nodes are for Linux only.
func init() {
	programs["kubelet"] = server(runKubelet)
	programs["realnode"] = runRealNode
}

func runKubelet() int { return cli.Run(kubelet.NewKubeletCommand(context.Background())) }
