package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pooledjob/pooledjob/test/localcluster"
)

// quoted matches what a row of a table says in quotation marks.
var quoted = regexp.MustCompile(`"([^"]+)"`)

// The table of what was broken on purpose names the tests that failed by words of theirs.
func TestTestingPageNamesTestsThatExist(t *testing.T) {
	root, err := localcluster.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "\n## Broken on purpose\n")
	if !found {
		t.Fatal("docs/testing.md has no table of what was broken on purpose")
	}
	tests := readTests(t, root)
	for line := range strings.Lines(table) {
		for _, name := range quoted.FindAllStringSubmatch(line, -1) {
			if !strings.Contains(tests, name[1]) {
				t.Errorf("no test has the words %q, which this row names: %s", name[1], line)
			}
		}
	}
}

// readTests returns all test files in one piece.
func readTests(t *testing.T, root string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		all.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
