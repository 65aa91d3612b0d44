package list

import (
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/pooledjob/pooledjob/internal/cli/command"
)

// tableOptions are the flags of commands that print a table.
type tableOptions struct {
	output    *genericclioptions.PrintFlags
	noHeaders bool
}

// addFlags adds -o and --no-headers to a command.
func (o *tableOptions) addFlags(env *command.Environment, cmd *cobra.Command) {
	o.output = env.NewPrintFlags()
	o.output.AddFlags(cmd)
	cmd.Flags().Lookup("output").Usage = "Output format. One of: (wide, " + strings.Join(o.output.AllowedFormats(), ", ") + ")."
	cmd.Flags().BoolVar(&o.noHeaders, "no-headers", false, "Leave the first line out.")
}

// asTable reports whether a table is wanted, and not the objects, and whether it is a wide
// one.
func (o *tableOptions) asTable() (wide, ok bool) {
	wide = *o.output.OutputFormat == "wide"
	return wide, wide || (!o.output.OutputFlagSpecified() && *o.output.TemplatePrinterFlags.TemplateArgument == "")
}

func newTable(names ...string) *metav1.Table {
	table := &metav1.Table{}
	for _, name := range names {
		table.ColumnDefinitions = append(table.ColumnDefinitions, metav1.TableColumnDefinition{Name: name, Type: "string"})
	}
	return table
}

func printTable(out io.Writer, table *metav1.Table, wide, noHeaders bool) error {
	return printers.NewTablePrinter(printers.PrintOptions{Wide: wide, NoHeaders: noHeaders}).PrintObj(table, out)
}

// printObjects prints a list as -o asks for: as one object, or each by itself.
func printObjects(env *command.Environment, output *genericclioptions.PrintFlags, list runtime.Object, single bool) error {
	items, err := meta.ExtractList(list)
	if err != nil {
		return err
	}
	for _, item := range items {
		kinds, _, err := env.Scheme.ObjectKinds(item)
		if err != nil {
			return err
		}
		item.GetObjectKind().SetGroupVersionKind(kinds[0])
	}
	if *output.OutputFormat != "name" && !single {
		if err := meta.SetList(list, items); err != nil {
			return err
		}
		items = []runtime.Object{list}
	}
	for _, item := range items {
		if err := env.Print(output, item, "", command.DryRunNone); err != nil {
			return err
		}
	}
	return nil
}

func age(since metav1.Time) string {
	if since.IsZero() {
		return ""
	}
	return duration.HumanDuration(time.Since(since.Time))
}
