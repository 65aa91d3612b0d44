package logs

import (
	"context"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/complete"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/cli/state"
)

// NewCommand returns the command logs.
func NewCommand(env *command.Environment) *cobra.Command {
	options := &Options{}
	cmd := &cobra.Command{
		Use:   "logs NAME [-f]",
		Short: "Print the output of a run",
		Long: "Print the output of a run, as `kubectl logs` does, through the hub.\n\n" +
			"Of a run with several Pods it is the newest or, when the run has ended, the one that its result is from,\n" +
			"unless --pod or --all-pods says otherwise. With --follow it waits for the Pod, goes on when a connection\n" +
			"breaks, and ends when the run has.",
		Example: "  # Print what a run has written so far\n" +
			"  kubectl pooledjob logs etl-42\n\n" +
			"  # Follow it to its end\n" +
			"  kubectl pooledjob logs -f etl-42\n\n" +
			"  # The last 20 lines of each Pod, with their times\n" +
			"  kubectl pooledjob logs etl-42 --all-pods --tail 20 --timestamps",
		Args:              command.ExactlyOne("the name of a PooledJob"),
		ValidArgsFunction: complete.FirstArgument(env, complete.RunNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return printLog(cmd.Context(), env, args[0], options)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&options.Follow, "follow", "f", false, "Wait for the Pod and for further output, until the run has ended.")
	flags.StringVarP(&options.Container, "container", "c", "", "The container. Without it the only one, or the first.")
	flags.StringVar(&options.Pod, "pod", "", "The Pod, by its name on the target. Without it the newest or, of a run that has ended, the one that its result is from.")
	flags.BoolVar(&options.AllPods, "all-pods", false, "All Pods of the run; each line begins with the name of its Pod.")
	flags.BoolVar(&options.Timestamps, "timestamps", false, "Begin each line with the time when it was written.")
	flags.BoolVarP(&options.Previous, "previous", "p", false, "The container before its last restart.")
	flags.Int64Var(&options.Tail, "tail", -1, "The last so many lines only; -1 is all.")
	flags.Int64Var(&options.Limit, "limit-bytes", -1, "At most so many bytes; -1 is all.")
	flags.DurationVar(&options.Since, "since", 0, "Only what is younger than that, such as 5s, 2m or 3h.")
	flags.StringVar(&options.SinceTime, "since-time", "", "Only what was written since that time (RFC 3339).")
	cmd.MarkFlagsMutuallyExclusive("since", "since-time")
	cmd.MarkFlagsMutuallyExclusive("pod", "all-pods")
	return cmd
}

func printLog(ctx context.Context, env *command.Environment, name string, options *Options) error {
	hub, namespace, err := env.Hub()
	if err != nil {
		return err
	}
	key := client.ObjectKey{Namespace: namespace, Name: name}
	open, err := SourceOf(hub, key)
	if err != nil {
		return err
	}
	if options.Follow {
		err = followLog(ctx, env, hub, key, open, options)
	} else {
		err = Read(ctx, open, options, env.Out)
	}
	return Explain(err)
}

func followLog(ctx context.Context, env *command.Environment, hub *cluster.Client, key client.ObjectKey, open Source, options *Options) error {
	// The run that is followed; unknown, if it cannot be had now, and then any.
	followed := &v1alpha1.PooledJob{}
	if err := hub.Get(ctx, key, followed); err != nil {
		followed.UID = ""
	}
	f := &Follower{
		Open: open, Options: *options,
		OnTrouble: func(err error) { env.Sayf("the log cannot be had at the moment (%v); still trying", err) },
		HasEnded: func(ctx context.Context) bool {
			if options.Pod != "" { // it may end before the run does
				return true
			}
			return hasEnded(ctx, hub, key, followed.UID)
		},
	}
	return f.Follow(ctx, env.Out)
}

// hasEnded reports whether a run has: one that is not there any more has, too.
func hasEnded(ctx context.Context, hub *cluster.Client, key client.ObjectKey, uid types.UID) bool {
	job := &v1alpha1.PooledJob{}
	if err := hub.Get(ctx, key, job); err != nil {
		return apierrors.IsNotFound(err) && !failure.IsMissingAPI(err)
	}
	return state.HasEnded(job) || (uid != "" && job.UID != uid)
}
