// Command kubectl-pooledjob is the kubectl plugin `kubectl pooledjob`: it starts
// PooledJobs, follows their output, stops them, and connects target clusters. All of it
// is in internal/cli.
package main

import (
	"context"
	"io"
	"os"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pooledjob/pooledjob/internal/cli"
)

// version is the version of the plugin; set with -ldflags -X.
var version = "dev"

func main() {
	// What the libraries log is for developers; users get errors.
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	log.SetLogger(klog.Background())
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	os.Exit(cli.Execute(context.Background(), version, streams, os.Args))
}
