package command

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
)

// NewPrintFlags returns -o and the flags that go with it.
func (e *Environment) NewPrintFlags() *genericclioptions.PrintFlags {
	return genericclioptions.NewPrintFlags("").WithTypeSetter(e.Scheme)
}

// Print writes an object as -o asks for, or a line that says what was done with it.
func (e *Environment) Print(flags *genericclioptions.PrintFlags, obj runtime.Object, done string, dry DryRun) error {
	printer, err := NewPrinter(flags, done, dry)
	if err != nil {
		return err
	}
	return printer.PrintObj(obj, e.Out)
}

// NewPrinter returns what writes objects as -o asks for, or lines that say what was done
// with them.
func NewPrinter(flags *genericclioptions.PrintFlags, done string, dry DryRun) (printers.ResourcePrinter, error) {
	flags.NamePrintFlags.Operation = done + dry.Suffix()
	return flags.ToPrinter()
}
