package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// ExactlyOne returns a check for commands that take one argument, whose error names it.
func ExactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch len(args) {
		case 1:
			return nil
		case 0:
			return fmt.Errorf("give %s; see `%s --help`", what, cmd.CommandPath())
		}
		return fmt.Errorf("give %s, not %d; see `%s --help`", what, len(args), cmd.CommandPath())
	}
}

// AtLeastOneRun is for commands that take the names of several runs.
func AtLeastOneRun(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("give the name of a PooledJob, or several; see `" + cmd.CommandPath() + " --help`")
	}
	return nil
}

// KeyValues reads the pairs KEY=VALUE of a flag; nil if there are none.
func KeyValues(flag string, pairs []string) (map[string]string, error) {
	values := map[string]string{}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%s is %q; it must be KEY=VALUE[,KEY=VALUE...]", flag, pair)
		}
		values[key] = value
	}
	if len(values) == 0 {
		return nil, nil
	}
	return values, nil
}
