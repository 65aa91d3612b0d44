package connect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
)

type connectOptions struct {
	linkOptions
	namespaces, allow, to, labels []string
	server                        string
	tokenLifetime, timeout        time.Duration
	dryRun                        command.DryRun
	output                        *genericclioptions.PrintFlags
	given                         map[string]bool // which of the flags were
}

// NewCommand returns the command connect.
func NewCommand(env *command.Environment) *cobra.Command {
	options := &connectOptions{}
	cmd := &cobra.Command{
		Use:   "connect NAME --context CONTEXT",
		Short: "Connect a cluster, with rights of its own and a token that expires",
		Long: "Connect a cluster: --context is the target, the current context (or --hub-context) the hub.\n\n" +
			"With your own access to the target it makes a ServiceAccount there with the least rights that the manager\n" +
			"needs, and has a token made for it that expires. It writes the kubeconfig into a Secret on the hub and\n" +
			"makes the ClusterConnection NAME. The manager renews the token by itself. Then it waits until the\n" +
			"connection is Ready, and says what is wrong if it is not.\n\n" +
			"It may be run again, with other flags or with the same: what is there is brought up to date, with a new\n" +
			"token. --namespaces, --allow, --labels, --token-lifetime, --server and --service-account-namespace stay as\n" +
			"they are when they are left out then; --server '' is the address in your kubeconfig again. An object that was not made here is refused, and never changed.",
		Example: "  # Connect the cluster of the context prod, for the hub namespaces team-a and team-b\n" +
			"  kubectl pooledjob connect prod-eu --context prod --allow team-a,team-b\n\n" +
			"  # With rights in two namespaces of the target only, both open to team-a\n" +
			"  kubectl pooledjob connect prod-eu --context prod --namespaces batch,etl --allow team-a --to batch,etl\n\n" +
			"  # See what would be made on both clusters\n" +
			"  kubectl pooledjob connect prod-eu --context prod --allow team-a --dry-run=client -o yaml",
		Args: command.ExactlyOne("a name for the connection"),
		RunE: func(cmd *cobra.Command, args []string) error {
			options.given = map[string]bool{}
			for _, flag := range []string{"namespaces", "allow", "token-lifetime", "server"} {
				options.given[flag] = cmd.Flags().Changed(flag)
			}
			return connectTarget(cmd, env, args[0], options)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&options.namespaces, "namespaces", nil, "Have rights in these namespaces of the target only, and run there only; '' is all.")
	flags.StringSliceVar(&options.allow, "allow", nil, "The hub namespaces that may use the connection; '*' is all. Without it nobody may, until you add access rules.")
	flags.StringSliceVar(&options.to, "to", nil, "The namespaces of the target that --allow opens. Without it the one of the hub namespace's own name.")
	flags.StringSliceVar(&options.labels, "labels", nil, "Labels KEY=VALUE of the ClusterConnection, for --cluster-selector.")
	flags.StringVar(&options.server, "server", "", "The address at which the hub reaches the target. Without it the one in your kubeconfig.")
	flags.DurationVar(&options.tokenLifetime, "token-lifetime", 24*time.Hour, "How long a token lasts, at least 10m. The target may shorten it.")
	flags.DurationVar(&options.timeout, "timeout", time.Minute, "How long to wait until the connection is Ready; 0 does not wait.")
	options.linkOptions.addFlags(cmd)
	options.output = env.NewPrintFlags()
	options.output.AddFlags(cmd)
	options.dryRun.AddFlag(cmd)
	return cmd
}

func (o *connectOptions) validate() error {
	switch {
	case o.dryRun == command.DryRunServer:
		return errors.New("--dry-run=server cannot be used here: no token can be had for a ServiceAccount that does not exist; use --dry-run=client")
	case o.output.OutputFlagSpecified() && !o.dryRun.IsOn():
		return errors.New("-o needs --dry-run=client here; read the connection with `kubectl pooledjob clusters NAME -o yaml`")
	case len(o.to) > 0 && len(o.allow) == 0:
		return errors.New("--to needs --allow: say which hub namespaces may go there")
	case o.tokenLifetime < 10*time.Minute || o.tokenLifetime > 365*24*time.Hour:
		return fmt.Errorf("--token-lifetime is %s; it must be between 10m and 8760h", o.tokenLifetime)
	}
	return o.dryRun.Validate()
}

func connectTarget(cmd *cobra.Command, env *command.Environment, name string, options *connectOptions) error {
	if err := options.validate(); err != nil {
		return err
	}
	l, err := newLink(cmd, env, name, &options.linkOptions)
	if err != nil {
		return err
	}
	if l.target == nil {
		return errNoTarget
	}
	ctx := cmd.Context()
	connection, err := l.wantedConnection(ctx, options)
	if err != nil {
		return err
	}
	onTarget := l.targetObjects(connection.Spec.Namespaces)
	if !options.given["server"] {
		if options.server, err = l.knownServer(ctx); err != nil {
			return fmt.Errorf("the hub: %w", err)
		}
	}
	credential, err := l.targetAddress(options.server)
	if err != nil {
		return err
	}
	if options.dryRun.IsOn() {
		return l.printPlan(options, onTarget, connection, credential)
	}
	if err := l.checkBoth(ctx, onTarget, connection); err != nil {
		return err
	}
	if err := l.applyTarget(ctx, onTarget); err != nil {
		return fmt.Errorf("the target: %w", err)
	}
	if credential.token, err = l.requestToken(ctx, options.tokenLifetime); err != nil {
		return fmt.Errorf("the target: %w", err)
	}
	return l.applyHub(ctx, connection, credential, options.timeout)
}

// wantedConnection returns the ClusterConnection as the flags and, where they say nothing, the
// existing one have it.
func (l *link) wantedConnection(ctx context.Context, options *connectOptions) (*v1alpha1.ClusterConnection, error) {
	labels, err := command.KeyValues("--labels", options.labels)
	if err != nil {
		return nil, err
	}
	connection := &v1alpha1.ClusterConnection{}
	if err := l.hub.Get(ctx, client.ObjectKey{Name: l.name}, connection); err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("the hub: %w", failure.Explain(err))
	}
	if err := l.checkCluster(ctx, connection); err != nil {
		return nil, err
	}
	wanted := &v1alpha1.ClusterConnection{ObjectMeta: l.objectMeta("", l.name), Spec: connection.Spec}
	for key, value := range labels {
		wanted.Labels[key] = value
	}
	wanted.Spec.KubeconfigSecretRef = v1alpha1.SecretKeyReference{Name: l.name}
	if known := wanted.Spec.TokenRenewal.LifetimeSeconds; known != 0 && !options.given["token-lifetime"] {
		options.tokenLifetime = time.Duration(known) * time.Second
	}
	wanted.Spec.TokenRenewal = v1alpha1.TokenRenewal{LifetimeSeconds: int32(options.tokenLifetime / time.Second)}
	if options.given["namespaces"] {
		wanted.Spec.Namespaces = withoutEmpty(options.namespaces)
	}
	if options.given["allow"] {
		wanted.Spec.Access = accessRules(options.allow, options.to)
	}
	return wanted, nil
}

func withoutEmpty(values []string) (kept []string) {
	for _, value := range values {
		if value != "" {
			kept = append(kept, value)
		}
	}
	return kept
}

// checkBoth looks at everything before anything is changed.
func (l *link) checkBoth(ctx context.Context, onTarget []client.Object, connection *v1alpha1.ClusterConnection) error {
	for _, namespace := range connection.Spec.Namespaces {
		err := l.target.Get(ctx, client.ObjectKey{Name: namespace}, &corev1.Namespace{})
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("the target has no namespace %s: create it there first", namespace)
		}
		if err != nil {
			return fmt.Errorf("the target: %w", failure.Explain(err))
		}
	}
	if err := l.refuseForeign(ctx, l.target, onTarget); err != nil {
		return fmt.Errorf("on the target %w", err)
	}
	secret := &corev1.Secret{ObjectMeta: l.objectMeta(l.managerNamespace, l.name)}
	if err := l.refuseForeign(ctx, l.hub, []client.Object{secret, connection}); err != nil {
		return fmt.Errorf("on the hub %w", err)
	}
	// The target is changed first: the hub must not refuse its part after that.
	for _, obj := range []client.Object{secret, connection} {
		if err := l.checkAccepted(ctx, l.hub, obj); err != nil {
			return fmt.Errorf("the hub: %w", err)
		}
	}
	return nil
}

// applyTarget makes the identity, and takes away bindings of earlier flags.
func (l *link) applyTarget(ctx context.Context, objects []client.Object) error {
	namespace := &corev1.Namespace{ObjectMeta: l.objectMeta("", l.accountNamespace)}
	err := l.target.Get(ctx, client.ObjectKeyFromObject(namespace), &corev1.Namespace{})
	switch {
	case apierrors.IsNotFound(err):
		if err := l.apply(ctx, l.target, namespace); err != nil {
			return err
		}
	case err != nil:
		return failure.Explain(err)
	}
	for _, obj := range objects {
		if err := l.apply(ctx, l.target, obj); err != nil {
			return err
		}
	}
	return l.removeBindings(ctx, objects)
}

// removeBindings removes the bindings of the connection that are not kept.
func (l *link) removeBindings(ctx context.Context, kept []client.Object) error {
	bindings, err := l.findOnTarget(ctx, &rbacv1.ClusterRoleBindingList{}, &rbacv1.RoleBindingList{})
	if err != nil {
		return err
	}
	for _, binding := range bindings {
		if !l.contains(kept, binding) {
			if err := l.remove(ctx, l.target, binding); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *link) contains(objects []client.Object, obj client.Object) bool {
	for _, o := range objects {
		if l.kindOf(o) == l.kindOf(obj) && client.ObjectKeyFromObject(o) == client.ObjectKeyFromObject(obj) {
			return true
		}
	}
	return false
}
