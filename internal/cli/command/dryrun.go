package command

import (
	"fmt"

	"github.com/spf13/cobra"
)

// DryRun is the value of --dry-run: whether something is done, or only tried.
type DryRun string

const (
	// DryRunNone does it.
	DryRunNone DryRun = "none"
	// DryRunClient only prints what would be done; it may read from servers.
	DryRunClient DryRun = "client"
	// DryRunServer has the server check it and change nothing.
	DryRunServer DryRun = "server"
)

// AddFlag adds --dry-run to a command.
func (d *DryRun) AddFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar((*string)(d), "dry-run", string(DryRunNone),
		"none, client (nothing is changed) or server (the server checks it and changes nothing).")
	cmd.Flags().Lookup("dry-run").NoOptDefVal = string(DryRunClient)
	_ = cmd.RegisterFlagCompletionFunc("dry-run",
		cobra.FixedCompletions([]string{"none", "client", "server"}, cobra.ShellCompDirectiveNoFileComp))
}

// Validate refuses a value that there is not.
func (d DryRun) Validate() error {
	switch d {
	case DryRunNone, DryRunClient, DryRunServer:
		return nil
	}
	return fmt.Errorf("--dry-run is %q; it must be none, client or server", string(d))
}

// IsOn reports whether something is only tried.
func (d DryRun) IsOn() bool { return d != DryRunNone }

// Suffix marks a line about what was only tried.
func (d DryRun) Suffix() string {
	if !d.IsOn() {
		return ""
	}
	return fmt.Sprintf(" (%s dry run)", string(d))
}
