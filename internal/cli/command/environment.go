package command

import (
	"fmt"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

// Environment is what a command finds around it.
type Environment struct {
	genericiooptions.IOStreams
	// Flags are kubectl's own, which name the cluster and the namespace.
	Flags *genericclioptions.ConfigFlags
	// Scheme has the Kinds that commands know.
	Scheme *runtime.Scheme

	version string
}

// NewEnvironment makes the environment of the commands of one command line. The version
// is that of the plugin.
func NewEnvironment(streams genericiooptions.IOStreams, version string) *Environment {
	flags := genericclioptions.NewConfigFlags(true)
	// `--cluster` is a cluster that PooledJobs run on, not one of the kubeconfig.
	flags.ClusterName = nil
	return &Environment{IOStreams: streams, Flags: flags, Scheme: cluster.NewScheme(), version: version}
}

// AddFlags adds kubectl's own flags. Help shows those that are used daily.
func (e *Environment) AddFlags(set *pflag.FlagSet) {
	e.Flags.AddFlags(set)
	shown := map[string]bool{"namespace": true, "context": true, "kubeconfig": true}
	set.VisitAll(func(flag *pflag.Flag) { flag.Hidden = !shown[flag.Name] })
}

// Hub makes a client for the hub, and returns it with the namespace to work in.
func (e *Environment) Hub() (hub *cluster.Client, namespace string, err error) {
	hub, err = e.Connect(e.Flags)
	if err != nil {
		return nil, "", err
	}
	namespace, _, err = e.Flags.ToRawKubeConfigLoader().Namespace()
	return hub, namespace, err
}

// Connect makes a client for the cluster that the flags name.
func (e *Environment) Connect(flags *genericclioptions.ConfigFlags) (*cluster.Client, error) {
	return cluster.Connect(flags, e.Scheme, e.version)
}

// Sayf writes a line for people.
func (e *Environment) Sayf(format string, args ...any) {
	fmt.Fprintln(e.ErrOut, terminal.Printable(fmt.Sprintf(format, args...)))
}
