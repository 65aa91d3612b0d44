package list

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/complete"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

// NewClustersCommand returns the command clusters.
func NewClustersCommand(env *command.Environment) *cobra.Command {
	options := &tableOptions{}
	cmd := &cobra.Command{
		Use:   "clusters [NAME...]",
		Short: "List the clusters that are connected, and what is wrong with them",
		Long: "List the ClusterConnections of the hub: their state, the runs on them (active, and waiting for a Job), how\n" +
			"many sockets the connection has, when the credential ends, and what is wrong. Connections with the same\n" +
			"identity are one: it is counted where it comes first. This needs the right to list ClusterConnections,\n" +
			"which users with rights in one namespace do not have.",
		Example: "  # All clusters\n" +
			"  kubectl pooledjob clusters\n\n" +
			"  # With addresses and versions\n" +
			"  kubectl pooledjob clusters -o wide",
		ValidArgsFunction: complete.EachArgument(env, complete.ClusterNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return listClusters(cmd.Context(), env, args, options)
		},
	}
	options.addFlags(env, cmd)
	return cmd
}

func listClusters(ctx context.Context, env *command.Environment, names []string, options *tableOptions) error {
	hub, _, err := env.Hub()
	if err != nil {
		return err
	}
	list := &v1alpha1.ClusterConnectionList{}
	if err := hub.List(ctx, list); err != nil {
		return err
	}
	for _, name := range names {
		if !slices.ContainsFunc(list.Items, func(c v1alpha1.ClusterConnection) bool { return c.Name == name }) {
			return fmt.Errorf("there is no ClusterConnection %q; `kubectl pooledjob clusters` lists them, `kubectl pooledjob connect` makes one", name)
		}
	}
	sockets := socketsOf(list.Items)
	list.Items = slices.DeleteFunc(list.Items, func(c v1alpha1.ClusterConnection) bool {
		return len(names) > 0 && !slices.Contains(names, c.Name)
	})
	wide, ok := options.asTable()
	if !ok {
		return printObjects(env, options.output, list, len(names) == 1)
	}
	if len(list.Items) == 0 {
		env.Sayf("No ClusterConnections found; `kubectl pooledjob connect` makes one.")
		return nil
	}
	return printTable(env.Out, clusterTable(list.Items, sockets, time.Now()), wide, options.noHeaders)
}

// socketsOf returns how many sockets each connection has: one while it is open. Of
// those that are one connection the others have none.
func socketsOf(connections []v1alpha1.ClusterConnection) map[string]string {
	sockets, owner := map[string]string{}, map[string]string{}
	for i := range connections {
		c := &connections[i]
		reachable := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReachable)
		first, shared := owner[c.Status.IdentityHash]
		switch {
		case reachable == nil || reachable.Status != metav1.ConditionTrue || reachable.Reason == v1alpha1.ReasonIdle:
			sockets[c.Name] = "0"
		case shared:
			sockets[c.Name] = "as " + first
		default:
			sockets[c.Name] = "1"
			if c.Status.IdentityHash != "" {
				owner[c.Status.IdentityHash] = c.Name
			}
		}
	}
	return sockets
}

func clusterTable(connections []v1alpha1.ClusterConnection, sockets map[string]string, now time.Time) *metav1.Table {
	table := newTable("Name", "State", "Active", "Waiting", "Sockets", "Expires", "Age", "Problem")
	for _, name := range []string{"Server", "Version"} {
		table.ColumnDefinitions = append(table.ColumnDefinitions, metav1.TableColumnDefinition{Name: name, Type: "string", Priority: 1})
	}
	for i := range connections {
		c := &connections[i]
		word, problem := state.DescribeConnection(c)
		table.Rows = append(table.Rows, metav1.TableRow{Cells: []any{
			c.Name, word, count(c.Status.Jobs.Active), count(c.Status.Jobs.Pending), sockets[c.Name],
			expiry(c.Status.CredentialsExpireAt, now), age(c.CreationTimestamp), terminal.Printable(problem),
			c.Status.Server, c.Status.KubernetesVersion,
		}})
	}
	return table
}

func count(n *int32) string {
	if n == nil {
		return "0"
	}
	return fmt.Sprint(*n)
}

// expiry returns how long a credential lasts.
func expiry(at *metav1.Time, now time.Time) string {
	switch {
	case at == nil:
		return "unknown"
	case at.After(now):
		return duration.HumanDuration(at.Sub(now))
	}
	return "expired"
}
