package complete

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pooledjob/pooledjob/internal/cli/command"
)

// Program is the file that kubectl runs to complete the plugin's arguments. A link of that
// name to the plugin is enough.
const Program = "kubectl_complete-pooledjob"

// programScript is such a file for those who have no link.
const programScript = "#!/bin/sh\nexec kubectl-pooledjob __complete \"$@\"\n"

// NewCommand returns the command completion.
func NewCommand(env *command.Environment) *cobra.Command {
	shells := []string{"kubectl", "bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion kubectl|bash|zsh|fish|powershell",
		Short: "Print what completes arguments in a shell",
		Long: "Print what completes arguments in a shell: commands, flags, and the names of PooledJobs, clusters and\n" +
			"namespaces.\n\n" +
			"kubectl, once its own completion is set up, asks the program " + Program + " on your PATH\n" +
			"about `kubectl pooledjob`: `completion kubectl` prints that. The others are for kubectl-pooledjob, called\n" +
			"by that name.",
		Example: "  # Complete `kubectl pooledjob ...` in every shell that completes kubectl\n" +
			"  kubectl pooledjob completion kubectl > ~/.local/bin/" + Program + "\n" +
			"  chmod +x ~/.local/bin/" + Program + "\n\n" +
			"  # Complete `kubectl-pooledjob ...` in this bash\n" +
			"  source <(kubectl pooledjob completion bash)",
		ValidArgs: shells,
		Args:      command.ExactlyOne("one of " + strings.Join(shells, ", ")),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "kubectl":
				_, err := fmt.Fprint(env.Out, programScript)
				return err
			case "bash":
				return root.GenBashCompletionV2(env.Out, true)
			case "zsh":
				return root.GenZshCompletion(env.Out)
			case "fish":
				return root.GenFishCompletion(env.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(env.Out)
			}
			return errors.New("the shell must be one of " + strings.Join(shells, ", "))
		},
	}
}
