package cli

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
)

func TestNothingThatATerminalObeysIsSaid(t *testing.T) {
	g := NewWithT(t)
	streams, _, _, stderr := genericiooptions.NewTestIOStreams()
	command.NewEnvironment(streams, "").Sayf("the server says %s", "\x1b]0;owned\a")
	// An error may quote what a server, or a file, says.
	g.Expect(Execute(t.Context(), "", streams, []string{"kubectl-pooledjob", "list", "--kubeconfig", "/no-such-\x1b[2J-file"})).To(Equal(int(failure.ExitOwnError)))
	g.Expect(strings.Count(stderr.String(), "\n")).To(Equal(2))
	g.Expect(stderr.String()).NotTo(ContainSubstring("\x1b"))
}
