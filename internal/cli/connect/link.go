package connect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
)

const (
	// labelManagedBy and labelConnection, with the hub's label, mark what connect
	// made: two hubs, and two connections of one hub, never take each other's objects.
	labelManagedBy  = "app.kubernetes.io/managed-by"
	labelConnection = "pooledjob.io/connection"

	// hubConfigMap is where the manager keeps the hub's ID.
	hubConfigMap = "pooledjob-hub"
	hubIDKey     = "id"
)

// linkOptions say which hub and which target are meant.
type linkOptions struct {
	hubContext, targetKubeconfig string
	managerNamespace             string
	accountNamespace             string
}

func (o *linkOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.hubContext, "hub-context", "", "The context of the hub. Without it the current context.")
	flags.StringVar(&o.targetKubeconfig, "target-kubeconfig", "", "The kubeconfig of the target, when it is another file; --context is one of its contexts then.")
	flags.StringVar(&o.managerNamespace, "manager-namespace", "pooledjob-system", "The namespace of the manager on the hub.")
	flags.StringVar(&o.accountNamespace, "service-account-namespace", "pooledjob", "The namespace of the ServiceAccount on the target.")
}

// link is a target, a hub and the connection between them.
type link struct {
	linkOptions
	env         *command.Environment
	name, hubID string
	hub, target *cluster.Client
}

// newLink connects to both clusters. A target is not needed when none was named.
func newLink(cmd *cobra.Command, env *command.Environment, name string, options *linkOptions) (*link, error) {
	// It is an object's name on the hub, and becomes a label's value on the target.
	if errs := append(validation.IsValidLabelValue(name), validation.IsDNS1123Subdomain(name)...); len(errs) > 0 {
		return nil, fmt.Errorf("%q cannot be the name of a connection made here: it must have at most 63 characters, lower case letters, digits, '-' and '.'", name)
	}
	if err := refuseFlags(cmd); err != nil {
		return nil, err
	}
	l := &link{linkOptions: *options, env: env, name: name}
	hub, err := env.Connect(flagsFor(*env.Flags.KubeConfig, options.hubContext))
	if err != nil {
		return nil, fmt.Errorf("the hub: %w", err)
	}
	l.hub = hub
	if *env.Flags.Context != "" || options.targetKubeconfig != "" {
		file := *env.Flags.KubeConfig
		if options.targetKubeconfig != "" {
			file = options.targetKubeconfig
		}
		if l.target, err = env.Connect(flagsFor(file, *env.Flags.Context)); err != nil {
			return nil, fmt.Errorf("the target: %w", err)
		}
	}
	if err := l.readHubID(cmd.Context()); err != nil {
		return nil, err
	}
	if l.target == nil {
		return l, nil
	}
	err = l.settleAccount(cmd.Context(), cmd.Flags().Changed("service-account-namespace"))
	return l, err
}

// settleAccount keeps the ServiceAccount where it is.
func (l *link) settleAccount(ctx context.Context, given bool) error {
	accounts := &corev1.ServiceAccountList{}
	if err := l.target.List(ctx, accounts, client.MatchingLabels(l.labels())); err != nil {
		return fmt.Errorf("the target: %w", failure.Explain(err))
	}
	if len(accounts.Items) == 0 {
		return nil
	}
	is := accounts.Items[0].Namespace
	if given && is != l.accountNamespace {
		return fmt.Errorf("the ServiceAccount of %s is in namespace %s of the target: leave --service-account-namespace out, or disconnect it first", l.name, is)
	}
	l.accountNamespace = is
	return nil
}

// flagsFor returns the flags that name a context of a kubeconfig, and nothing else.
func flagsFor(kubeconfig, context string) *genericclioptions.ConfigFlags {
	flags := genericclioptions.NewConfigFlags(true)
	flags.KubeConfig, flags.Context = &kubeconfig, &context
	return flags
}

// refuseFlags refuses what would be said of two clusters at once.
func refuseFlags(cmd *cobra.Command) (err error) {
	cmd.InheritedFlags().VisitAll(func(flag *pflag.Flag) {
		if flag.Changed && flag.Hidden {
			err = fmt.Errorf("--%s cannot be used here, where two clusters are meant: write it into the kubeconfig", flag.Name)
		}
	})
	return err
}

func (l *link) readHubID(ctx context.Context) error {
	config := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: l.managerNamespace, Name: hubConfigMap}
	err := l.hub.Get(ctx, key, config)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("the hub has no ConfigMap %s: start the manager there first, name its namespace by --manager-namespace, or the hub by --hub-context", key)
	}
	if err != nil {
		return fmt.Errorf("the hub: %w", failure.Explain(err))
	}
	if l.hubID = config.Data[hubIDKey]; l.hubID == "" {
		return fmt.Errorf("the hub's ConfigMap %s has no %q: start the manager there first", key, hubIDKey)
	}
	return nil
}

// labels returns the labels of everything that connect makes.
func (l *link) labels() map[string]string {
	return map[string]string{labelManagedBy: cluster.FieldOwner, v1alpha1.LabelHub: l.hubID, labelConnection: l.name}
}

// isOurs reports whether connect made an object, for this connection of this hub.
func (l *link) isOurs(obj client.Object) bool {
	for key, value := range l.labels() {
		if obj.GetLabels()[key] != value {
			return false
		}
	}
	return true
}

// accountName returns the name of the ServiceAccount on the target, and of the roles: no two
// connections of any two hubs have the same.
func (l *link) accountName() string {
	sum := sha256.Sum256([]byte(l.hubID + "/" + l.name))
	readable := strings.ReplaceAll(l.name, ".", "-")
	return "pooledjob-" + strings.TrimRight(readable[:min(len(readable), 30)], "-") + "-" + hex.EncodeToString(sum[:4])
}

func (l *link) objectMeta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: l.labels()}
}

// checkCluster refuses a target that is another cluster than the connection's.
func (l *link) checkCluster(ctx context.Context, connection *v1alpha1.ClusterConnection) error {
	system := &corev1.Namespace{}
	if err := l.target.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, system); err != nil {
		return fmt.Errorf("the target: %w", failure.Explain(err))
	}
	if known := connection.Status.ClusterUID; known != "" && known != string(system.UID) {
		return fmt.Errorf("ClusterConnection %s stands for another cluster (UID %s) than this one (%s): name the right --context, or another connection",
			l.name, known, system.UID)
	}
	return nil
}

// errNoTarget is for commands that need a target.
var errNoTarget = errors.New("give --context CONTEXT of the cluster that is meant; the hub is the current context, or --hub-context")

// kindOf names the Kind of an object as kubectl does.
func (l *link) kindOf(obj client.Object) string {
	kinds, _, err := l.env.Scheme.ObjectKinds(obj)
	if err != nil {
		return "object"
	}
	return kinds[0].Kind
}
