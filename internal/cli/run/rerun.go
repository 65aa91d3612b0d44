package run

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/complete"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

// NewRerunCommand returns the command rerun.
func NewRerunCommand(env *command.Environment) *cobra.Command {
	options := &startOptions{}
	var name string
	cmd := &cobra.Command{
		Use:   "rerun NAME",
		Short: "Run again what has ended",
		Long: "Run again what has ended, as a new PooledJob with the same spec, and follow it as run does.\n\n" +
			"The new name is that of the first run with -2, -3 and so on, or what --name says. With --name the same\n" +
			"command line goes on with that run when it has not ended.",
		Example: "  # Run it again, as etl-42-2\n" +
			"  kubectl pooledjob rerun etl-42\n\n" +
			"  # Under a name of your own, without following it\n" +
			"  kubectl pooledjob rerun etl-42 --name etl-42-again --detach",
		Args:              command.ExactlyOne("the name of a PooledJob that has ended"),
		ValidArgsFunction: complete.FirstArgument(env, complete.RunNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return rerun(cmd.Context(), env, args[0], name, options)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "The name of the new run.")
	options.addFlags(env, cmd)
	return cmd
}

func rerun(ctx context.Context, env *command.Environment, name, newName string, options *startOptions) error {
	if err := options.validate(); err != nil {
		return err
	}
	hub, namespace, err := env.Hub()
	if err != nil {
		return err
	}
	old := &v1alpha1.PooledJob{}
	if err := hub.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, old); err != nil {
		return err
	}
	if !state.HasEnded(old) {
		return fmt.Errorf("the run %s has not ended (%s): follow it with `kubectl pooledjob logs -f %s -n %s`, or stop it with `kubectl pooledjob cancel %s -n %s`",
			name, terminal.Printable(state.Describe(old)), name, namespace, name, namespace)
	}
	if newName == "" {
		if newName, err = freeName(ctx, hub, old); err != nil {
			return err
		}
	}
	return start(ctx, env, hub, copyForRerun(old, newName), options)
}

// copyForRerun returns a new run of the same spec.
func copyForRerun(old *v1alpha1.PooledJob, name string) *v1alpha1.PooledJob {
	job := &v1alpha1.PooledJob{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: old.Namespace, Name: name,
			Labels: maps.Clone(old.Labels), Annotations: maps.Clone(old.Annotations),
		},
		Spec: *old.Spec.DeepCopy(),
	}
	// What was said of the first run says nothing about this one.
	job.Spec.Cancel, job.Spec.Suspend = nil, nil
	maps.DeleteFunc(job.Annotations, func(key, _ string) bool {
		return strings.HasPrefix(key, "pooledjob.io/") || strings.HasPrefix(key, "kubectl.kubernetes.io/")
	})
	return job
}

// numbered matches the names that rerun makes.
var numbered = regexp.MustCompile(`^(.*)-([2-9]|[1-9]\d)$`)

// freeName returns the first of NAME-2, NAME-3, ... that is not taken.
func freeName(ctx context.Context, hub *cluster.Client, old *v1alpha1.PooledJob) (string, error) {
	namespace, name := old.Namespace, old.Name
	base, from := name, 2
	if m := numbered.FindStringSubmatch(name); len(m) > 1 && isRerun(ctx, hub, old, m[1]) {
		base = m[1]
	}
	for i := from; i < from+1000; i++ {
		candidate := base + "-" + strconv.Itoa(i)
		err := hub.Get(ctx, client.ObjectKey{Namespace: namespace, Name: candidate}, &v1alpha1.PooledJob{})
		if apierrors.IsNotFound(err) {
			return candidate, nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("all names up to %s-%d are taken: give --name", base, from+999)
}

// isRerun reports whether a run is one of that other run, and its name does not just
// happen to end with a number.
func isRerun(ctx context.Context, hub *cluster.Client, job *v1alpha1.PooledJob, of string) bool {
	first := &v1alpha1.PooledJob{}
	if err := hub.Get(ctx, client.ObjectKey{Namespace: job.Namespace, Name: of}, first); err != nil {
		return false
	}
	difference, err := specDifference(first, job)
	return err == nil && difference == ""
}
