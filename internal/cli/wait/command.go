package wait

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/complete"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

// NewCommand returns the command wait.
func NewCommand(env *command.Environment) *cobra.Command {
	var timeout time.Duration
	var selector string
	output := env.NewPrintFlags()
	cmd := &cobra.Command{
		Use:   "wait NAME [NAME...] | wait -l LABELS",
		Short: "Wait until runs have ended, and end with their exit code",
		Long: "Wait until runs have ended, whether they succeed or fail. Changes are shown on standard error, the ends\n" +
			"on standard output. The exit code is that of the run; of several, that of the first that failed.",
		Example: "  # Start a run, do something else, wait for its end\n" +
			"  kubectl pooledjob run etl-42 --image registry.example.com/etl:1.4 --cluster prod-eu --detach\n" +
			"  kubectl pooledjob wait etl-42 --timeout 1h\n\n" +
			"  # Wait for all runs of a day\n" +
			"  kubectl pooledjob wait -l day=2026-11-21\n\n" +
			"  # Print the result\n" +
			"  kubectl pooledjob wait etl-42 -o jsonpath='{.status.result}'",
		ValidArgsFunction: complete.EachArgument(env, complete.RunNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if selector != "" && len(args) > 0 {
				return errors.New("give names, or labels with -l, not both")
			}
			if selector == "" {
				if err := command.AtLeastOneRun(cmd, args); err != nil {
					return err
				}
			}
			return waitForRuns(cmd.Context(), env, args, selector, timeout, output)
		},
	}
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "Wait for the runs that have these labels now.")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "How long to wait, for all of them together; 0 is without end.")
	output.AddFlags(cmd)
	return cmd
}

func waitForRuns(ctx context.Context, env *command.Environment, names []string, selector string, timeout time.Duration, output *genericclioptions.PrintFlags) error {
	hub, namespace, err := env.Hub()
	if err != nil {
		return err
	}
	awaited, err := awaitedRuns(ctx, hub, namespace, names, selector)
	if err != nil {
		return err
	}
	ctx, stop := command.WithTimeout(ctx, timeout)
	defer stop()
	var exit error
	for _, ending := range ForEndings(ctx, env, hub, awaited, timeout) {
		run, err := ending.Await()
		if err != nil {
			return err
		}
		if output.OutputFlagSpecified() {
			err = env.Print(output, run, "", command.DryRunNone)
		} else {
			_, err = fmt.Fprintf(env.Out, "pooledjob.pooledjob.io/%s %s\n", run.Name, terminal.Printable(state.DescribeEnd(run)))
		}
		if err != nil {
			return err
		}
		if exit == nil {
			exit = failure.ExitOfRun(run)
		}
	}
	return exit
}

// awaitedRuns returns the runs to wait for: those of the names, whichever have them, or those that have
// the labels now.
func awaitedRuns(ctx context.Context, hub *cluster.Client, namespace string, names []string, selector string) ([]*v1alpha1.PooledJob, error) {
	var runs []*v1alpha1.PooledJob
	for _, name := range names {
		runs = append(runs, &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
	}
	if selector == "" {
		return runs, nil
	}
	parsed, err := labels.Parse(selector)
	if err != nil {
		return nil, fmt.Errorf("-l: %w", err)
	}
	var list v1alpha1.PooledJobList
	if err := hub.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: parsed}); err != nil {
		return nil, err
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("no PooledJob in namespace %s has the labels %s", namespace, selector)
	}
	for i := range list.Items {
		runs = append(runs, &list.Items[i])
	}
	return runs, nil
}
