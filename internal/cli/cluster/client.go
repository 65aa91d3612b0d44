package cluster

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// FieldOwner is whose fields those are that the plugin sets.
const FieldOwner = "kubectl-pooledjob"

// Client speaks to one cluster, with the rights of the user.
type Client struct {
	client.WithWatch
	// Config is for requests that are not about the objects of the scheme.
	Config *rest.Config
}

// Connect makes a client for the cluster that the flags name. The version is that of the
// plugin, for the user agent.
func Connect(flags *genericclioptions.ConfigFlags, scheme *runtime.Scheme, version string) (*Client, error) {
	config, err := flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = FieldOwner + "/" + version
	config.QPS = -1 // a command makes few requests, and none shall wait
	config.WarningHandlerWithContext = rest.NoWarnings{}
	return NewClient(config, scheme)
}

// NewClient makes a client of a configuration. It does not discover what the server has:
// the Kinds are known.
func NewClient(config *rest.Config, scheme *runtime.Scheme) (*Client, error) {
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: newMapper()})
	if err != nil {
		return nil, err
	}
	return &Client{WithWatch: c, Config: config}, nil
}
