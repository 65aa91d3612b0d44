package terminal

import (
	"strings"

	"k8s.io/cli-runtime/pkg/printers"
)

// Printable returns a text of an API on one line, without anything that a terminal obeys.
func Printable(text string) string {
	return printers.EscapeTerminal(strings.Join(strings.Fields(text), " "))
}
