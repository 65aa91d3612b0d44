package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/pooledjob/pooledjob/internal/cli/complete"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

// Execute runs one command line and returns the exit code. The version is that of the
// plugin. The first of the arguments is the program's name: kubectl completes the others
// by another one.
func Execute(ctx context.Context, version string, streams genericiooptions.IOStreams, args []string) int {
	root := newRoot(version, streams) //nolint:contextcheck // commands get their context when they are executed
	root.SetArgs(withoutProgram(args))
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

// withoutProgram returns the arguments after the program's name, as that name asks for.
func withoutProgram(args []string) []string {
	if strings.TrimSuffix(filepath.Base(args[0]), ".exe") == complete.Program {
		return append([]string{"__complete"}, args[1:]...)
	}
	return args[1:]
}
