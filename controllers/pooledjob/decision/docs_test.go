package decision

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// rulesTable returns the table of all rules, as docs/architecture.md has it.
func rulesTable() string {
	var table strings.Builder
	table.WriteString("| state | its rules, in the order in which they are tried |\n|---|---|\n")
	for _, state := range states {
		var names []string
		for _, rule := range state.rules {
			names = append(names, rule.name)
		}
		fmt.Fprintf(&table, "| `%s` | %s |\n", state.name, strings.Join(names, " · "))
	}
	return table.String()
}

func TestDocsHaveTheRules(t *testing.T) {
	page, err := os.ReadFile("../../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	if table := rulesTable(); !strings.Contains(string(page), "\n"+table+"\n") {
		t.Errorf("docs/architecture.md does not have the rules as they are. Put this table there:\n%s", table)
	}
}
