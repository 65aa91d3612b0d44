package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

// plugin is what the commands share.
type plugin struct {
	genericiooptions.IOStreams
	flags  *genericclioptions.ConfigFlags
	scheme *runtime.Scheme
}

func newRoot(streams genericiooptions.IOStreams) *cobra.Command {
	p := &plugin{IOStreams: streams, flags: genericclioptions.NewConfigFlags(true), scheme: cluster.NewScheme()}
	// `--cluster` is a cluster that PooledJobs run on, not one of the kubeconfig.
	p.flags.ClusterName = nil
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
func (p *plugin) hub() (hub *cluster.Client, namespace string, err error) {
	hub, err = p.connect(p.flags)
	if err != nil {
		return nil, "", err
	}
	namespace, _, err = p.flags.ToRawKubeConfigLoader().Namespace()
	return hub, namespace, err
}

// connect makes a client for the cluster that the flags name.
func (p *plugin) connect(flags *genericclioptions.ConfigFlags) (*cluster.Client, error) {
	return cluster.Connect(flags, p.scheme, version)
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
