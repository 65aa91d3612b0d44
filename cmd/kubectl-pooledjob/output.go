package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
)

// dryRun is what is only tried.
type dryRun string

const (
	dryRunNone   dryRun = "none"
	dryRunClient dryRun = "client"
	dryRunServer dryRun = "server"
)

func (d *dryRun) add(cmd *cobra.Command) {
	cmd.Flags().StringVar((*string)(d), "dry-run", string(dryRunNone),
		"none, client (nothing is sent) or server (the server checks it and changes nothing).")
	cmd.Flags().Lookup("dry-run").NoOptDefVal = string(dryRunClient)
	_ = cmd.RegisterFlagCompletionFunc("dry-run",
		cobra.FixedCompletions([]string{"none", "client", "server"}, cobra.ShellCompDirectiveNoFileComp))
}

func (d *dryRun) validate() error {
	switch *d {
	case dryRunNone, dryRunClient, dryRunServer:
		return nil
	}
	return fmt.Errorf("--dry-run is %q; it must be none, client or server", *d)
}

func (d *dryRun) on() bool { return *d != dryRunNone }

// suffix marks a line about what was only tried.
func (d *dryRun) suffix() string {
	if !d.on() {
		return ""
	}
	return fmt.Sprintf(" (%s dry run)", *d)
}

// print writes an object as -o asks for, or a line that says what was done with it.
func (p *plugin) print(flags *genericclioptions.PrintFlags, obj runtime.Object, done string, dry *dryRun) error {
	printer, err := p.printer(flags, done, dry)
	if err != nil {
		return err
	}
	return printer.PrintObj(obj, p.Out)
}

func (p *plugin) printer(flags *genericclioptions.PrintFlags, done string, dry *dryRun) (printers.ResourcePrinter, error) {
	flags.NamePrintFlags.Operation = done + dry.suffix()
	return flags.ToPrinter()
}

func (p *plugin) printFlags() *genericclioptions.PrintFlags {
	return genericclioptions.NewPrintFlags("").WithTypeSetter(p.scheme)
}
