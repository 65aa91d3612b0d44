package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

// plugin is what the commands share.
type plugin struct {
	genericiooptions.IOStreams
	flags  *genericclioptions.ConfigFlags
	scheme *runtime.Scheme
}

// cluster is a cluster that the user has access to.
type cluster struct {
	client.WithWatch
	config *rest.Config
}

func newRoot(streams genericiooptions.IOStreams) *cobra.Command {
	p := &plugin{IOStreams: streams, flags: genericclioptions.NewConfigFlags(true), scheme: runtime.NewScheme()}
	// `--cluster` is a cluster that PooledJobs run on, not one of the kubeconfig.
	p.flags.ClusterName = nil
	// These cannot fail: the types are compiled in.
	_ = errors.Join(clientgoscheme.AddToScheme(p.scheme), v1alpha1.AddToScheme(p.scheme))
	root := &cobra.Command{
		Use:   "kubectl-pooledjob",
		Short: "Run Jobs on many clusters, through one hub",
		Long: "Run Jobs on many clusters, through one hub.\n\n" +
			"Every command speaks to the hub, the current context of your kubeconfig. You need no access to the\n" +
			"clusters that the Jobs run on, but for connect and disconnect.\n\n" +
			"The exit code of run, wait and rerun is that of the run. It is 1 for an error of the plugin itself,\n" +
			"which standard error then explains, and for a run that failed without an exit code.",
		Example: "  # Run a command on the cluster prod-eu, follow its output, end with its exit code\n" +
			"  kubectl pooledjob run hello --image busybox:1.37 --cluster prod-eu -- echo hello\n\n" +
			"  # See what runs where\n" +
			"  kubectl pooledjob list -A",
		Annotations:       map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl pooledjob"},
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())
	})
	addConfigFlags(p.flags, root.PersistentFlags())
	_ = root.RegisterFlagCompletionFunc("namespace", p.completeNamespaces)
	root.AddCommand(newRun(p), newLogs(p), newWait(p), newCancel(p), newRerun(p), newList(p), newClusters(p),
		newConnect(p), newDisconnect(p), newCompletion(p))
	return root
}

// addConfigFlags adds kubectl's own flags. Help shows those that are used daily.
func addConfigFlags(flags *genericclioptions.ConfigFlags, set *pflag.FlagSet) {
	flags.AddFlags(set)
	shown := map[string]bool{"namespace": true, "context": true, "kubeconfig": true}
	set.VisitAll(func(flag *pflag.Flag) { flag.Hidden = !shown[flag.Name] })
}

// hub is the hub, and the namespace to work in.
func (p *plugin) hub() (hub *cluster, namespace string, err error) {
	hub, err = p.connect(p.flags)
	if err != nil {
		return nil, "", err
	}
	namespace, _, err = p.flags.ToRawKubeConfigLoader().Namespace()
	return hub, namespace, err
}

// connect makes a client. It asks the server nothing: our Kinds are known, and so a
// user needs no more rights than for the objects themselves.
func (p *plugin) connect(flags *genericclioptions.ConfigFlags) (*cluster, error) {
	config, err := flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = "kubectl-pooledjob/" + version
	config.QPS = -1 // a command makes few requests, and none shall wait
	config.WarningHandlerWithContext = rest.NoWarnings{}
	c, err := client.NewWithWatch(config, client.Options{Scheme: p.scheme, Mapper: mapper()})
	if err != nil {
		return nil, err
	}
	return &cluster{WithWatch: c, config: config}, nil
}

func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(v1alpha1.GroupVersion.WithKind("PooledJob"), meta.RESTScopeNamespace)
	m.Add(v1alpha1.GroupVersion.WithKind("ClusterConnection"), meta.RESTScopeRoot)
	for _, kind := range []string{"ConfigMap", "Secret", "ServiceAccount"} {
		m.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	m.Add(corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot)
	for _, kind := range []string{"Role", "RoleBinding"} {
		m.Add(rbacv1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
		m.Add(rbacv1.SchemeGroupVersion.WithKind("Cluster"+kind), meta.RESTScopeRoot)
	}
	return m
}

// say writes a line for people.
func (p *plugin) say(format string, args ...any) {
	fmt.Fprintln(p.ErrOut, terminal.Printable(fmt.Sprintf(format, args...)))
}

// bounded is a context that ends after the timeout; 0 is no bound.
func bounded(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}
