package list

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/complete"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

type listOptions struct {
	tableOptions
	all, unfinished, watch    bool
	selector, cluster, sortBy string
}

// NewCommand returns the command list.
func NewCommand(env *command.Environment) *cobra.Command {
	options := &listOptions{}
	cmd := &cobra.Command{
		Use:     "list [NAME...]",
		Aliases: []string{"ls"},
		Short:   "List runs, over all clusters",
		Example: "  # The runs of a namespace\n" +
			"  kubectl pooledjob list -n team-a\n\n" +
			"  # What has not ended on one cluster, in all namespaces, with the messages\n" +
			"  kubectl pooledjob list -A --cluster prod-eu --unfinished -o wide\n\n" +
			"  # The newest last, and then every change\n" +
			"  kubectl pooledjob list --sort-by .metadata.creationTimestamp -w",
		ValidArgsFunction: complete.EachArgument(env, complete.RunNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return listRuns(cmd.Context(), env, args, options)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&options.all, "all-namespaces", "A", false, "The runs of all namespaces.")
	flags.StringVarP(&options.selector, "selector", "l", "", "Labels of the PooledJobs.")
	flags.StringVar(&options.cluster, "cluster", "", "Only what is bound to that ClusterConnection, or asks for it.")
	flags.BoolVar(&options.unfinished, "unfinished", false, "Only what has not ended.")
	flags.BoolVarP(&options.watch, "watch", "w", false, "Go on with a line for each change, until interrupted.")
	flags.StringVar(&options.sortBy, "sort-by", "", "Sort by a field, as JSONPath, such as .metadata.creationTimestamp or .status.phase.")
	options.addFlags(env, cmd)
	_ = cmd.RegisterFlagCompletionFunc("cluster", complete.Flag(env, complete.ClusterNames))
	return cmd
}

func listRuns(ctx context.Context, env *command.Environment, names []string, options *listOptions) error {
	hub, namespace, err := env.Hub()
	if err != nil {
		return err
	}
	selector, err := labels.Parse(options.selector)
	if err != nil {
		return fmt.Errorf("-l: %w", err)
	}
	if options.all {
		namespace = ""
		if len(names) > 0 {
			return fmt.Errorf("a name cannot be given with -A: give its namespace with -n")
		}
	}
	wide, table := options.asTable()
	if options.watch && !table {
		return errors.New("--watch prints a table: leave -o out, or give -o wide")
	}
	listed := []client.ListOption{client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: selector}}
	list := &v1alpha1.PooledJobList{}
	if err := hub.List(ctx, list, listed...); err != nil {
		return err
	}
	if err := checkNames(list.Items, names); err != nil {
		return err
	}
	list.Items = slices.DeleteFunc(list.Items, func(job v1alpha1.PooledJob) bool { return !options.includes(&job, names) })
	if err := sortBy(list.Items, options.sortBy); err != nil {
		return err
	}
	if !table {
		return printObjects(env, options.output, list, len(names) == 1)
	}
	if options.watch {
		w := &tableWatch{hub: hub, selection: listed, options: options, names: names, wide: wide, out: printers.GetNewTabWriter(env.Out),
			onSilence: func(err error) { env.Sayf("the hub does not answer (%v); still trying", err) }}
		return w.follow(ctx, list)
	}
	if len(list.Items) == 0 {
		env.Sayf("No PooledJobs found%s.", inNamespace(namespace))
		return nil
	}
	return printTable(env.Out, jobTable(list.Items, options.all), wide, options.noHeaders)
}

// includes reports whether a run is to be listed.
func (o *listOptions) includes(job *v1alpha1.PooledJob, names []string) bool {
	return (len(names) == 0 || slices.Contains(names, job.Name)) &&
		(!o.unfinished || !state.HasEnded(job)) && (o.cluster == "" || state.ClusterOf(job) == o.cluster)
}

// inNamespace returns the end of a sentence: in that namespace, or for "" in all.
func inNamespace(namespace string) string {
	if namespace == "" {
		return ""
	}
	return " in namespace " + namespace
}

// checkNames refuses names that no run has.
func checkNames(jobs []v1alpha1.PooledJob, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(jobs, func(job v1alpha1.PooledJob) bool { return job.Name == name }) {
			return fmt.Errorf("there is no PooledJob %q in this namespace; see `kubectl pooledjob list -A`, and give the namespace with -n", name)
		}
	}
	return nil
}

func jobTable(jobs []v1alpha1.PooledJob, all bool) *metav1.Table {
	table := newTable("Name", "Cluster", "Phase", "Exit Code", "Reason", "Age")
	if all {
		table = newTable("Namespace", "Name", "Cluster", "Phase", "Exit Code", "Reason", "Age")
	}
	for _, name := range []string{"Target Job", "State"} {
		table.ColumnDefinitions = append(table.ColumnDefinitions, metav1.TableColumnDefinition{Name: name, Type: "string", Priority: 1})
	}
	for i := range jobs {
		job := &jobs[i]
		exit := ""
		if code := job.Status.Result.ExitCode; code != nil {
			exit = fmt.Sprint(*code)
		}
		target := ""
		if ref := job.Status.JobRef; ref.Name != "" {
			target = ref.Namespace + "/" + ref.Name
		}
		cells := []any{
			job.Name, clusterCell(job), string(job.Status.Phase), exit, job.Status.Reason, age(job.CreationTimestamp),
			target, terminal.Printable(state.Describe(job)),
		}
		if all {
			cells = append([]any{job.Namespace}, cells...)
		}
		table.Rows = append(table.Rows, metav1.TableRow{Cells: cells})
	}
	return table
}

// clusterCell returns the cluster of a run; a selector that has not chosen yet is none.
func clusterCell(job *v1alpha1.PooledJob) string {
	if job.Status.ClusterName != "" {
		return job.Status.ClusterName
	}
	return job.Spec.ClusterName
}
