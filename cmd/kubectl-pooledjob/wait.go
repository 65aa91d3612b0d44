package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func newWait(p *plugin) *cobra.Command {
	var timeout time.Duration
	output := p.printFlags()
	cmd := &cobra.Command{
		Use:   "wait NAME [NAME...]",
		Short: "Wait until runs have ended, and end with their exit code",
		Long: "Wait until runs have ended, whether they succeed or fail. Changes are shown on standard error, the ends\n" +
			"on standard output. The exit code is that of the run; of several, that of the first that failed.",
		Example: "  # Start a run, do something else, wait for its end\n" +
			"  kubectl pooledjob run etl-42 --image registry.example.com/etl:1.4 --cluster prod-eu --detach\n" +
			"  kubectl pooledjob wait etl-42 --timeout 1h\n\n" +
			"  # Print the result\n" +
			"  kubectl pooledjob wait etl-42 -o jsonpath='{.status.result}'",
		Args:              atLeastOne,
		ValidArgsFunction: p.completeMany(p.jobNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.wait(cmd.Context(), args, timeout, output)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "How long to wait, for all of them together; 0 is without end.")
	output.AddFlags(cmd)
	return cmd
}

func (p *plugin) wait(ctx context.Context, names []string, timeout time.Duration, output *genericclioptions.PrintFlags) error {
	hub, namespace, err := p.hub()
	if err != nil {
		return err
	}
	ctx, stop := bounded(ctx, timeout)
	defer stop()
	var exit error
	for _, name := range names {
		job, err := p.await(ctx, hub, client.ObjectKey{Namespace: namespace, Name: name}, "", timeout)
		if err != nil {
			return err
		}
		if output.OutputFlagSpecified() {
			none := dryRunNone
			err = p.print(output, job, "", &none)
		} else {
			_, err = fmt.Fprintf(p.Out, "pooledjob.pooledjob.io/%s %s\n", name, printable(endOf(job)))
		}
		if err != nil {
			return err
		}
		if exit == nil {
			exit = exitOf(job)
		}
	}
	return exit
}

// await shows how a run goes until it has ended. Without a UID it is the one that has the
// name now.
func (p *plugin) await(ctx context.Context, hub *cluster, key client.ObjectKey, uid types.UID, timeout time.Duration) (*v1alpha1.PooledJob, error) {
	shown := newProgress(p.ErrOut, nameOf(key))
	defer shown.close()
	var last *v1alpha1.PooledJob
	w := &watcher{hub: hub, key: key, uid: uid, lost: func(err error) { shown.note("the hub does not answer (%v); still trying", err) }}
	err := w.follow(ctx, func(job *v1alpha1.PooledJob) bool {
		last = job
		if !finished(job) {
			shown.show(stateOf(job))
		}
		return finished(job)
	})
	if errors.Is(err, context.DeadlineExceeded) && last != nil {
		return nil, fmt.Errorf("PooledJob %s has not ended within %s: %s; wait again, or stop it with `kubectl pooledjob cancel %s -n %s`",
			key, timeout, stateOf(last), key.Name, key.Namespace)
	}
	return last, err
}
