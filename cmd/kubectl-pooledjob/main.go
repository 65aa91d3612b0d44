// Command kubectl-pooledjob is the kubectl plugin `kubectl pooledjob`: it starts
// PooledJobs, follows their output, stops them, and connects target clusters. It
// speaks to the hub alone, with the rights of its user; only connect and disconnect
// also speak to a target.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pooledjob/pooledjob/internal/cli/complete"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

// version is the version of the plugin; set with -ldflags -X.
var version = "dev"

func main() {
	// What the libraries log is for developers; users get errors.
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	log.SetLogger(klog.Background())
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	os.Exit(execute(context.Background(), streams, arguments(os.Args)))
}

// arguments are those of the command line, as the program's name asks for.
func arguments(args []string) []string {
	if strings.TrimSuffix(filepath.Base(args[0]), ".exe") == complete.Program {
		return append([]string{"__complete"}, args[1:]...)
	}
	return args[1:]
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, streams genericiooptions.IOStreams, args []string) int {
	root := newRoot(streams) //nolint:contextcheck // commands get their context when they are executed
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var exit failure.ExitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	}
	fmt.Fprintf(streams.ErrOut, "error: %s\n", terminal.Printable(failure.Explain(err).Error()))
	return int(failure.ExitOwnError)
}
