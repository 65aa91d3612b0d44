// Command demo shows PooledJob at work on clusters that it starts on this machine.
//
//	demo run     runs every sample, checks the outcomes, cleans up
//	demo up      leaves the clusters and the manager running
//	demo down    stops them
//	demo nodes   says whether this machine can have real nodes, and if not, why
//
// Pods run on simulated nodes, unless the environment variable NODES is "real".
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	commands := map[string]func(context.Context) error{
		"run": run, "up": up, "down": down, "nodes": describeNodes, serveCommand: serve,
	}
	var command func(context.Context) error
	if len(os.Args) == 2 {
		command = commands[os.Args[1]]
	}
	if command == nil {
		fmt.Fprintln(os.Stderr, "usage: [NODES=real] demo run | up | down | nodes")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nfailed:", err)
		os.Exit(1)
	}
}
