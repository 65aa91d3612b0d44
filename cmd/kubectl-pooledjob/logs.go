package main

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

func newLogs(p *plugin) *cobra.Command {
	options := &logOptions{}
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
		ValidArgsFunction: complete.FirstArgument(p.Environment, complete.RunNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.logs(cmd.Context(), args[0], options)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&options.follow, "follow", "f", false, "Wait for the Pod and for further output, until the run has ended.")
	flags.StringVarP(&options.container, "container", "c", "", "The container. Without it the only one, or the first.")
	flags.StringVar(&options.pod, "pod", "", "The Pod, by its name on the target. Without it the newest or, of a run that has ended, the one that its result is from.")
	flags.BoolVar(&options.allPods, "all-pods", false, "All Pods of the run; each line begins with the name of its Pod.")
	flags.BoolVar(&options.timestamps, "timestamps", false, "Begin each line with the time when it was written.")
	flags.BoolVarP(&options.previous, "previous", "p", false, "The container before its last restart.")
	flags.Int64Var(&options.tail, "tail", -1, "The last so many lines only; -1 is all.")
	flags.Int64Var(&options.limit, "limit-bytes", -1, "At most so many bytes; -1 is all.")
	flags.DurationVar(&options.since, "since", 0, "Only what is younger than that, such as 5s, 2m or 3h.")
	flags.StringVar(&options.sinceTime, "since-time", "", "Only what was written since that time (RFC 3339).")
	cmd.MarkFlagsMutuallyExclusive("since", "since-time")
	cmd.MarkFlagsMutuallyExclusive("pod", "all-pods")
	return cmd
}

func (p *plugin) logs(ctx context.Context, name string, options *logOptions) error {
	hub, namespace, err := p.Hub()
	if err != nil {
		return err
	}
	key := client.ObjectKey{Namespace: namespace, Name: name}
	open, err := logsOf(hub, key)
	if err != nil {
		return err
	}
	if options.follow {
		err = p.followLog(ctx, hub, key, open, options)
	} else {
		err = readLog(ctx, open, options, p.Out)
	}
	return explainLog(err)
}

func (p *plugin) followLog(ctx context.Context, hub *cluster.Client, key client.ObjectKey, open logSource, options *logOptions) error {
	// The run that is followed; unknown, if it cannot be had now, and then any.
	followed := &v1alpha1.PooledJob{}
	if err := hub.Get(ctx, key, followed); err != nil {
		followed.UID = ""
	}
	f := &follower{
		open: open, options: *options,
		broken: func(err error) { p.Sayf("the log cannot be had at the moment (%v); still trying", err) },
		ended: func(ctx context.Context) bool {
			if options.pod != "" { // it may end before the run does
				return true
			}
			return ended(ctx, hub, key, followed.UID)
		},
	}
	return f.follow(ctx, p.Out)
}

// ended reports whether a run has: one that is not there any more has, too.
func ended(ctx context.Context, hub *cluster.Client, key client.ObjectKey, uid types.UID) bool {
	job := &v1alpha1.PooledJob{}
	if err := hub.Get(ctx, key, job); err != nil {
		return apierrors.IsNotFound(err) && !failure.IsMissingAPI(err)
	}
	return state.HasEnded(job) || (uid != "" && job.UID != uid)
}
