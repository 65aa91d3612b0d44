package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/complete"
	"github.com/pooledjob/pooledjob/internal/cli/connect"
	"github.com/pooledjob/pooledjob/internal/cli/list"
	"github.com/pooledjob/pooledjob/internal/cli/logs"
	"github.com/pooledjob/pooledjob/internal/cli/run"
	"github.com/pooledjob/pooledjob/internal/cli/wait"
)

// newRoot returns the command that has all others below it.
func newRoot(version string, streams genericiooptions.IOStreams) *cobra.Command {
	env := command.NewEnvironment(streams, version)
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
	env.AddFlags(root.PersistentFlags())
	_ = root.RegisterFlagCompletionFunc("namespace", complete.Flag(env, complete.NamespaceNames))
	root.AddCommand(
		run.NewCommand(env), logs.NewCommand(env), wait.NewCommand(env), run.NewCancelCommand(env), run.NewRerunCommand(env),
		list.NewCommand(env), list.NewClustersCommand(env),
		connect.NewCommand(env), connect.NewDisconnectCommand(env),
		complete.NewCommand(env),
	)
	return root
}
