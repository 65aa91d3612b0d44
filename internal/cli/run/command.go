package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/complete"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

// startOptions say what is done with a new PooledJob.
type startOptions struct {
	detach bool
	// takeResult has a run of that name that has succeeded stand for the new one.
	takeResult bool
	dryRun     command.DryRun
	output     *genericclioptions.PrintFlags
}

type runOptions struct {
	startOptions
	job   jobOptions
	files resource.FilenameOptions
}

// NewCommand returns the command run.
func NewCommand(env *command.Environment) *cobra.Command {
	options := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run NAME --image IMAGE [flags] [-- COMMAND ARG...] | run [NAME] -f FILE",
		Short: "Run a command on a cluster, show its output, end with its exit code",
		Long: "Run a command on a cluster, show its output, end with its exit code.\n\n" +
			"Standard output has what the run writes, and nothing else; how it goes is on standard error. Ctrl-C (or\n" +
			"SIGTERM) stops the run and waits for its end; a second one leaves at once.\n\n" +
			"The name is the run: after this program was killed, the same command line goes on with a run that has not\n" +
			"ended. A name that is taken by another spec, or by a run that has ended, is refused; with --take-result a\n" +
			"run of the same spec that has succeeded stands for the new one.\n\n" +
			"Of a run with several Pods side by side each line of the output begins with the name of its Pod.",
		Example: "  # Run a command on the cluster prod-eu\n" +
			"  kubectl pooledjob run hello --image busybox:1.37 --cluster prod-eu -- sh -c 'echo hello; exit 3'\n\n" +
			"  # On any cluster with this label, with environment and resources\n" +
			"  kubectl pooledjob run etl-42 --image registry.example.com/etl:1.4 --cluster-selector env=prod \\\n" +
			"    --env DAY=2026-11-21 --requests cpu=500m,memory=1Gi\n\n" +
			"  # From a manifest, and leave it alone\n" +
			"  kubectl pooledjob run -f etl.yaml --detach\n\n" +
			"  # See what would be created\n" +
			"  kubectl pooledjob run hello --image busybox:1.37 --cluster prod-eu --dry-run=client -o yaml -- echo hello",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args, options.job.command = args[:dash], args[dash:]
			}
			options.job.selectorGiven = cmd.Flags().Changed("cluster-selector")
			options.job.ttlGiven = cmd.Flags().Changed("ttl")
			return createAndAttend(cmd.Context(), env, cmd, args, options)
		},
	}
	addJobFlags(cmd.Flags(), &options.job)
	cmd.Flags().StringSliceVarP(&options.files.Filenames, "filename", "f", nil, "File with the manifest of one PooledJob; - is standard input. NAME replaces the name in it.")
	options.addFlags(env, cmd)
	cmd.Flags().BoolVar(&options.takeResult, "take-result", false, "When this run has succeeded before, take that result, with its output if the Pod still exists.")
	cmd.MarkFlagsMutuallyExclusive("cluster", "cluster-selector")
	_ = cmd.RegisterFlagCompletionFunc("cluster", complete.Flag(env, complete.ClusterNames))
	return cmd
}

func addJobFlags(flags *pflag.FlagSet, o *jobOptions) {
	flags.StringVar(&o.image, "image", "", "The image to run.")
	flags.StringVar(&o.pullPolicy, "image-pull-policy", "", "Always, IfNotPresent or Never. Without it the target's default.")
	flags.StringVar(&o.serviceAccount, "service-account", "", "The ServiceAccount of the Pod, on the target.")
	flags.StringVar(&o.cluster, "cluster", "", "The ClusterConnection to run on.")
	flags.StringVar(&o.selector, "cluster-selector", "", "Labels of ClusterConnections of which one is chosen, such as env=prod; '' is any.")
	flags.StringVar(&o.targetNamespace, "target-namespace", "", "The namespace on the target. Without it the one of the same name.")
	flags.StringArrayVarP(&o.env, "env", "e", nil, "Environment variable NAME=VALUE; may be given several times.")
	flags.StringSliceVarP(&o.labels, "labels", "l", nil, "Labels KEY=VALUE of the PooledJob and its Pods.")
	flags.StringArrayVar(&o.annotations, "annotations", nil, "Annotations KEY=VALUE of the Pods, several with commas between them; a value may be JSON.")
	flags.StringVar(&o.requests, "requests", "", "What the container is given at least, such as cpu=500m,memory=1Gi.")
	flags.StringVar(&o.limits, "limits", "", "What the container may use at most.")
	flags.Int32Var(&o.backoffLimit, "backoff-limit", 0, "How often a failed Pod is replaced by another.")
	flags.DurationVar(&o.deadline, "deadline", 0, "How long the run may take on its cluster; 0 is without end.")
	flags.DurationVar(&o.dispatchDeadline, "dispatch-deadline", 0, "How long it may wait for its cluster; 0 is without end.")
	flags.DurationVar(&o.ttl, "ttl", 0, "Delete the PooledJob so long after its end. Without it it stays.")
}

func (o *startOptions) addFlags(env *command.Environment, cmd *cobra.Command) {
	o.output = env.NewPrintFlags()
	o.output.AddFlags(cmd)
	o.dryRun.AddFlag(cmd)
	cmd.Flags().BoolVar(&o.detach, "detach", false, "Create the PooledJob only; do not follow it.")
}

func (o *startOptions) validate() error {
	if o.output.OutputFlagSpecified() && !o.detach && !o.dryRun.IsOn() {
		return errors.New("-o needs --detach or --dry-run: standard output belongs to the run; read the object with `kubectl pooledjob list NAME -o yaml`")
	}
	return o.dryRun.Validate()
}

func createAndAttend(ctx context.Context, env *command.Environment, cmd *cobra.Command, args []string, options *runOptions) error {
	if len(args) > 1 {
		return fmt.Errorf("give one NAME, and the command after `--`; see `%s --help`", cmd.CommandPath())
	}
	if err := options.validate(); err != nil {
		return err
	}
	hub, namespace, err := env.Hub()
	if err != nil {
		return err
	}
	var job *v1alpha1.PooledJob
	switch {
	case len(options.files.Filenames) > 0:
		job, err = readManifest(env, cmd, args, options)
	case len(args) == 0:
		err = fmt.Errorf("give a NAME for the run; see `%s --help`", cmd.CommandPath())
	default:
		job, err = options.job.build(namespace, args[0])
	}
	if err != nil {
		return err
	}
	if job.Name == "" && !options.detach && !options.dryRun.IsOn() {
		return errors.New("the file has no metadata.name; pass NAME, or --detach to create the PooledJob without following it")
	}
	return start(ctx, env, hub, job, &options.startOptions)
}

// start creates a PooledJob, or finds it again, and follows it to its end.
func start(ctx context.Context, env *command.Environment, hub *cluster.Client, job *v1alpha1.PooledJob, options *startOptions) error {
	if options.dryRun == command.DryRunClient {
		return env.Print(options.output, job, "created", options.dryRun)
	}
	signals, release := catchSignals()
	defer release()
	job, done, err := createOrFind(ctx, hub, job, options)
	if err != nil {
		return err
	}
	if options.detach || options.dryRun.IsOn() {
		return env.Print(options.output, job, done, options.dryRun)
	}
	key := client.ObjectKeyFromObject(job)
	a := &attendant{
		hub: hub, run: key, uid: job.UID, signals: signals, allPods: hasSeveralPods(job),
		progress: terminal.NewProgress(env.ErrOut, key.String()), out: env.Out,
	}
	a.progress.ShowState(done)
	return a.attend(ctx)
}

// hasSeveralPods reports whether a run has Pods side by side. (Those of retries come one after the
// other, and are followed so.)
func hasSeveralPods(job *v1alpha1.PooledJob) bool {
	spec := &job.Spec.Template.Spec
	return (spec.Parallelism != nil && *spec.Parallelism > 1) || (spec.Completions != nil && *spec.Completions > 1)
}
