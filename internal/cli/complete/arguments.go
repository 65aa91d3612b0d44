package complete

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pooledjob/pooledjob/internal/cli/command"
)

// timeout bounds what a shell waits for.
const timeout = 3 * time.Second

// EachArgument completes each argument; one that is there already is not offered again.
func EachArgument(env *command.Environment, list Lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return offer(cmd.Context(), env, list, args, prefix)
	}
}

// FirstArgument completes the first argument only.
func FirstArgument(env *command.Environment, list Lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offer(cmd.Context(), env, list, nil, prefix)
	}
}

// Flag completes the value of a flag.
func Flag(env *command.Environment, list Lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return offer(cmd.Context(), env, list, nil, prefix)
	}
}

// offer asks the hub for what an argument can be, without those that are taken.
func offer(ctx context.Context, env *command.Environment, list Lister, taken []string, prefix string) ([]string, cobra.ShellCompDirective) {
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	hub, namespace, err := env.Hub()
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
