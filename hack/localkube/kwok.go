package main

import (
	"github.com/spf13/pflag"
	"sigs.k8s.io/kwok/pkg/config"
	"sigs.k8s.io/kwok/pkg/kwok/cmd"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/signals"
)

// runKwok reads kwok's logging and --config flags before its command exists:
// the command takes both from the context.
func runKwok() int {
	// The Kubernetes programs register global flags, and every cobra command takes
	// those in: their --version is not of the kind that kwok's command expects.
	pflag.CommandLine = pflag.NewFlagSet("kwok", pflag.ContinueOnError)

	early := pflag.NewFlagSet("early", pflag.ContinueOnError)
	early.ParseErrorsAllowlist.UnknownFlags = true
	early.Usage = func() {}
	ctx, logger := log.InitFlags(signals.SetupSignalContext(), early)
	ctx, err := config.InitFlags(ctx, early)
	if err != nil {
		logger.Error("Failed to read the configuration", "err", err)
		return 1
	}
	command := cmd.NewCommand(ctx)
	command.PersistentFlags().AddFlagSet(early)
	if err := command.ExecuteContext(ctx); err != nil {
		logger.Error("Failed to run", "err", err)
		return 1
	}
	return 0
}
