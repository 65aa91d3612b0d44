package main

import (
	"context"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/config"
	"sigs.k8s.io/kwok/pkg/kwok/cmd"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/lifecycle"
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
	if err := learnTypes(ctx); err != nil {
		logger.Error("Failed to prepare the stages", "err", err)
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

// learnTypes has a first stage of each kind made before there is a second thread. The CEL
// library of kwok 0.8.0 remembers types in maps without a lock, and the controllers of
// nodes and of Pods make their stages when they see a first object: a kwok that was started
// where there are both ended, now and then, with "concurrent map writes".
func learnTypes(ctx context.Context) error {
	for _, object := range []any{&corev1.Node{}, &corev1.Pod{}} {
		stage := lifecycle.NewStage(&internalversion.Stage{Spec: internalversion.StageSpec{Selector: &internalversion.StageSelector{}}})
		if _, err := (lifecycle.Lifecycle{stage}).Match(ctx, &lifecycle.Event{Data: object}); err != nil {
			return err
		}
	}
	return nil
}
