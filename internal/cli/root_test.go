package cli

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

func TestHelpHasExamplesForEveryCommandAndSpeaksOfKubectlPooledjob(t *testing.T) {
	g := NewWithT(t)
	streams, _, _, _ := genericiooptions.NewTestIOStreams()
	commands := newRoot("", streams).Commands()
	g.Expect(len(commands)).To(BeNumerically(">=", 10))
	for _, command := range commands {
		g.Expect(command.Example).To(ContainSubstring("kubectl pooledjob "+command.Name()), command.Name())
		g.Expect(command.UseLine()).To(HavePrefix("kubectl pooledjob "+command.Name()), command.Name())
		g.Expect(command.Short).NotTo(BeEmpty())
	}
}

func TestHelpHasOnlyFlagsInItsExamplesThatThereAre(t *testing.T) {
	g := NewWithT(t)
	streams, _, _, _ := genericiooptions.NewTestIOStreams()
	root := newRoot("", streams)
	for _, command := range append(root.Commands(), root) {
		for _, args := range exampleLines(command) {
			found, rest, err := root.Find(args)
			g.Expect(err).NotTo(HaveOccurred(), "%v", args)
			g.Expect(found.ParseFlags(rest)).To(Succeed(), "%v", args)
		}
	}
}

// exampleLines returns the calls of the plugin in the examples of a command.
func exampleLines(command *cobra.Command) (lines [][]string) {
	joined := strings.ReplaceAll(command.Example, "\\\n", " ")
	for line := range strings.SplitSeq(joined, "\n") {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " > ")
		if args, ok := strings.CutPrefix(line, "kubectl pooledjob "); ok {
			lines = append(lines, strings.Fields(args))
		}
	}
	return lines
}
