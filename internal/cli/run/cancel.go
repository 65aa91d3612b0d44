package run

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/complete"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
	"github.com/pooledjob/pooledjob/internal/cli/wait"
)

type cancelOptions struct {
	wait    bool
	timeout time.Duration
	dryRun  command.DryRun
}

// NewCancelCommand returns the command cancel.
func NewCancelCommand(env *command.Environment) *cobra.Command {
	options := &cancelOptions{}
	cmd := &cobra.Command{
		Use:   "cancel NAME [NAME...]",
		Short: "Stop runs, and keep their objects",
		Long: "Stop runs, and keep their objects: their Pods are stopped, and they end Failed with reason Cancelled.\n" +
			"A run that has ended is left as it is.",
		Example: "  # Stop a run and wait until it has ended\n" +
			"  kubectl pooledjob cancel etl-42\n\n" +
			"  # Ask for it only\n" +
			"  kubectl pooledjob cancel etl-42 --wait=false",
		Args:              command.AtLeastOneRun,
		ValidArgsFunction: complete.EachArgument(env, complete.RunNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return cancelRuns(cmd.Context(), env, args, options)
		},
	}
	cmd.Flags().BoolVar(&options.wait, "wait", true, "Wait until the runs have ended.")
	cmd.Flags().DurationVar(&options.timeout, "timeout", 0, "How long to wait; 0 is without end.")
	options.dryRun.AddFlag(cmd)
	return cmd
}

func cancelRuns(ctx context.Context, env *command.Environment, names []string, options *cancelOptions) error {
	if err := options.dryRun.Validate(); err != nil {
		return err
	}
	hub, namespace, err := env.Hub()
	if err != nil {
		return err
	}
	var asked []*v1alpha1.PooledJob
	for _, name := range names {
		key := client.ObjectKey{Namespace: namespace, Name: name}
		before, err := cancelRun(ctx, hub, key, "", options.dryRun)
		if err != nil {
			return err
		}
		if state.HasEnded(before) {
			fmt.Fprintf(env.Out, "pooledjob.pooledjob.io/%s had ended before: %s\n", name, terminal.Printable(state.DescribeEnd(before)))
			continue
		}
		asked = append(asked, before)
		fmt.Fprintf(env.Out, "pooledjob.pooledjob.io/%s asked to stop%s\n", name, options.dryRun.Suffix())
	}
	if !options.wait || options.dryRun.IsOn() {
		return nil
	}
	ctx, stop := command.WithTimeout(ctx, options.timeout)
	defer stop()
	for _, ending := range wait.ForEndings(ctx, env, hub, asked, options.timeout) {
		run, err := ending.Await()
		if err != nil {
			return err
		}
		// It may have ended by itself before it was stopped.
		fmt.Fprintf(env.Out, "pooledjob.pooledjob.io/%s %s\n", run.Name, terminal.Printable(state.DescribeEnd(run)))
	}
	return nil
}

// cancelRun asks the operator to stop a run that has not ended, and returns the run as
// it was then. Another run of its name, if a UID is given, is left alone.
func cancelRun(ctx context.Context, hub *cluster.Client, key client.ObjectKey, uid types.UID, dry command.DryRun) (*v1alpha1.PooledJob, error) {
	job := &v1alpha1.PooledJob{}
	if err := hub.Get(ctx, key, job); err != nil {
		return nil, err
	}
	if uid != "" && job.UID != uid {
		return nil, failure.DeletedError{Run: key}
	}
	if state.HasEnded(job) || dry == command.DryRunClient {
		return job, nil
	}
	var options []client.PatchOption
	if dry == command.DryRunServer {
		options = append(options, client.DryRunAll)
	}
	options = append(options, client.FieldOwner(cluster.FieldOwner))
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q},"spec":{"cancel":true}}`, job.UID)
	asked := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	return job, hub.Patch(ctx, asked, client.RawPatch(types.MergePatchType, patch), options...)
}
