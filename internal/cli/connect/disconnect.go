package connect

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/complete"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

type disconnectOptions struct {
	linkOptions
	hubOnly bool
	timeout time.Duration
}

// NewDisconnectCommand returns the command disconnect.
func NewDisconnectCommand(env *command.Environment) *cobra.Command {
	options := &disconnectOptions{}
	cmd := &cobra.Command{
		Use:   "disconnect NAME --context CONTEXT",
		Short: "Undo what connect made",
		Long: "Undo what connect made, and nothing else: the ClusterConnection and the Secret on the hub, the\n" +
			"ServiceAccount and its rights on the target (--context, as for connect).\n\n" +
			"The ClusterConnection goes first. It waits for its runs, which have to clean up on the target, and says\n" +
			"which; delete those. After that the rest is deleted. It may be run again after it was interrupted.",
		Example: "  # Disconnect a cluster\n" +
			"  kubectl pooledjob disconnect prod-eu --context prod\n\n" +
			"  # A cluster that does not exist any more\n" +
			"  kubectl pooledjob disconnect prod-eu --hub-only",
		Args:              command.ExactlyOne("the name of a connection"),
		ValidArgsFunction: complete.FirstArgument(env, complete.ClusterNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return disconnect(cmd, env, args[0], options)
		},
	}
	options.linkOptions.addFlags(cmd)
	cmd.Flags().BoolVar(&options.hubOnly, "hub-only", false, "Leave the target as it is.")
	cmd.Flags().DurationVar(&options.timeout, "timeout", 0, "How long to wait for the runs of the connection; 0 is without end.")
	return cmd
}

func disconnect(cmd *cobra.Command, env *command.Environment, name string, options *disconnectOptions) error {
	l, err := newLink(cmd, env, name, &options.linkOptions)
	if err != nil {
		return err
	}
	if l.target == nil && !options.hubOnly {
		return fmt.Errorf("%w; --hub-only leaves that cluster as it is", errNoTarget)
	}
	ctx := cmd.Context()
	connection := &v1alpha1.ClusterConnection{}
	err = l.hub.Get(ctx, client.ObjectKey{Name: name}, connection)
	found := err == nil
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("the hub: %w", failure.Explain(err))
	}
	if found && !l.isOurs(connection) {
		return fmt.Errorf("ClusterConnection %s was not made by `kubectl pooledjob connect`: delete it with `kubectl delete clusterconnection %s`", name, name)
	}
	if !options.hubOnly {
		if err := l.checkCluster(ctx, connection); err != nil {
			return err
		}
	}
	if found {
		if err := l.removeConnection(ctx, connection, options.timeout); err != nil {
			return err
		}
	}
	return l.removeSecretAndIdentity(ctx, options.hubOnly)
}

// removeSecretAndIdentity removes what nobody needs without the ClusterConnection.
func (l *link) removeSecretAndIdentity(ctx context.Context, hubOnly bool) error {
	secret := &corev1.Secret{}
	err := l.hub.Get(ctx, client.ObjectKey{Namespace: l.managerNamespace, Name: l.name}, secret)
	if err == nil {
		err = l.remove(ctx, l.hub, secret)
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("the hub: %w", failure.Explain(err))
	}
	if hubOnly {
		return nil
	}
	if err := l.removeFromTarget(ctx); err != nil {
		return fmt.Errorf("the target: %w", err)
	}
	return nil
}

// removeConnection deletes the ClusterConnection and waits until it is gone.
func (l *link) removeConnection(ctx context.Context, connection *v1alpha1.ClusterConnection, timeout time.Duration) error {
	uid := connection.UID
	err := client.IgnoreNotFound(l.hub.Delete(ctx, connection, client.Preconditions{UID: &uid}))
	if err != nil {
		return fmt.Errorf("the hub: %w", failure.Explain(err))
	}
	waiting, stop := command.WithTimeout(ctx, timeout)
	defer stop()
	shown := terminal.NewProgress(l.env.ErrOut, l.name)
	defer shown.Close()
	obstacle := "nothing is known of its manager: look whether that is up"
	shown.Notef("deleted; it stays until its runs have cleaned up on the target")
	err = wait.PollUntilContextCancel(waiting, 250*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		now := &v1alpha1.ClusterConnection{}
		err := l.hub.Get(ctx, client.ObjectKey{Name: l.name}, now)
		if apierrors.IsNotFound(err) || (err == nil && now.UID != uid) {
			return true, nil
		}
		if c := meta.FindStatusCondition(now.Status.Conditions, v1alpha1.ConditionReady); c != nil && c.Status == metav1.ConditionFalse {
			obstacle = c.Message
			shown.ShowState(state.WithMessage(c.Reason, c.Message))
		}
		return false, failure.UnlessItMayPass(err)
	})
	switch {
	case err != nil && waiting.Err() != nil:
		return fmt.Errorf("ClusterConnection %s is not gone after %s: %s; then run this again", l.name, timeout, strings.TrimSuffix(obstacle, "."))
	case err != nil:
		return fmt.Errorf("the hub: %w", failure.Explain(err))
	}
	_, err = fmt.Fprintf(l.env.Out, "hub: ClusterConnection %s deleted\n", l.name)
	return err
}

// removeFromTarget takes the rights away first, and the identity last.
func (l *link) removeFromTarget(ctx context.Context) error {
	objects, err := l.findOnTarget(ctx, &rbacv1.ClusterRoleBindingList{}, &rbacv1.RoleBindingList{}, &rbacv1.ClusterRoleList{},
		&rbacv1.RoleList{}, &corev1.ServiceAccountList{})
	if err != nil {
		return err
	}
	for _, obj := range objects {
		if err := l.remove(ctx, l.target, obj); err != nil {
			return err
		}
	}
	return l.removeNamespace(ctx)
}

// findOnTarget lists what was made for the connection on the target.
func (l *link) findOnTarget(ctx context.Context, lists ...client.ObjectList) (found []client.Object, err error) {
	for _, list := range lists {
		if err := l.target.List(ctx, list, client.MatchingLabels(l.labels())); err != nil {
			return nil, failure.Explain(err)
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			if obj, ok := item.(client.Object); ok {
				found = append(found, obj)
			}
		}
	}
	return found, nil
}
