package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/command"
)

// completionTimeout bounds what a shell waits for.
const completionTimeout = 3 * time.Second

// completionScript is what kubectl looks for to complete our arguments.
const completionScript = "#!/bin/sh\nexec kubectl-pooledjob __complete \"$@\"\n"

func newCompletion(p *plugin) *cobra.Command {
	shells := []string{"kubectl", "bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion kubectl|bash|zsh|fish|powershell",
		Short: "Print what completes arguments in a shell",
		Long: "Print what completes arguments in a shell: commands, flags, and the names of PooledJobs, clusters and\n" +
			"namespaces.\n\n" +
			"kubectl, once its own completion is set up, asks the program " + completionProgram + " on your PATH\n" +
			"about `kubectl pooledjob`: `completion kubectl` prints that. The others are for kubectl-pooledjob, called\n" +
			"by that name.",
		Example: "  # Complete `kubectl pooledjob ...` in every shell that completes kubectl\n" +
			"  kubectl pooledjob completion kubectl > ~/.local/bin/" + completionProgram + "\n" +
			"  chmod +x ~/.local/bin/" + completionProgram + "\n\n" +
			"  # Complete `kubectl-pooledjob ...` in this bash\n" +
			"  source <(kubectl pooledjob completion bash)",
		ValidArgs: shells,
		Args:      command.ExactlyOne("one of " + strings.Join(shells, ", ")),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "kubectl":
				_, err := fmt.Fprint(p.Out, completionScript)
				return err
			case "bash":
				return root.GenBashCompletionV2(p.Out, true)
			case "zsh":
				return root.GenZshCompletion(p.Out)
			case "fish":
				return root.GenFishCompletion(p.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(p.Out)
			}
			return errors.New("the shell must be one of " + strings.Join(shells, ", "))
		},
	}
}

// names lists what an argument can be.
type names func(context.Context, *cluster.Client, string) ([]string, error)

func (p *plugin) jobNames(ctx context.Context, hub *cluster.Client, namespace string) ([]string, error) {
	list := &v1alpha1.PooledJobList{}
	err := hub.List(ctx, list, client.InNamespace(namespace))
	return namesOf(list.Items, func(o *v1alpha1.PooledJob) string { return o.Name }), err
}

func (p *plugin) clusterNames(ctx context.Context, hub *cluster.Client, _ string) ([]string, error) {
	list := &v1alpha1.ClusterConnectionList{}
	err := hub.List(ctx, list)
	return namesOf(list.Items, func(o *v1alpha1.ClusterConnection) string { return o.Name }), err
}

func (p *plugin) namespaceNames(ctx context.Context, hub *cluster.Client, _ string) ([]string, error) {
	list := &corev1.NamespaceList{}
	err := hub.List(ctx, list)
	return namesOf(list.Items, func(o *corev1.Namespace) string { return o.Name }), err
}

func namesOf[T any](items []T, name func(*T) string) []string {
	found := make([]string, 0, len(items))
	for i := range items {
		found = append(found, name(&items[i]))
	}
	return found
}

// completeMany completes each argument; one that is there already is not offered again.
func (p *plugin) completeMany(list names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return p.complete(cmd.Context(), list, args, prefix)
	}
}

// completeOne completes the first argument only.
func (p *plugin) completeOne(list names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return p.complete(cmd.Context(), list, nil, prefix)
	}
}

// completeWith completes a flag.
func (p *plugin) completeWith(list names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return p.complete(cmd.Context(), list, nil, prefix)
	}
}

func (p *plugin) completeNamespaces(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd.Context(), p.namespaceNames, nil, prefix)
}

// complete asks the hub. Without an answer, or without the right to ask, there is
// nothing to offer.
func (p *plugin) complete(ctx context.Context, list names, taken []string, prefix string) ([]string, cobra.ShellCompDirective) {
	ctx, stop := context.WithTimeout(ctx, completionTimeout)
	defer stop()
	hub, namespace, err := p.Hub()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found, err := list(ctx, hub, namespace)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found = slices.DeleteFunc(found, func(name string) bool {
		return !strings.HasPrefix(name, prefix) || slices.Contains(taken, name)
	})
	return found, cobra.ShellCompDirectiveNoFileComp
}
