package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a piece of a page between two fences.
type block struct {
	page   string
	line   int
	lang   string
	text   string
	saveAs string // the file that the reader is told to save it as
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

var saveAs = regexp.MustCompile("[Ss]ave this as `([^`]+)`")

// blocksOf reads the blocks of a page.
func blocksOf(t *testing.T, root, page string) []block {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	var current *block
	told := ""
	for i, line := range strings.Split(string(data), "\n") {
		bare := strings.TrimSpace(line)
		switch {
		case current == nil && strings.HasPrefix(bare, "```"):
			current = &block{page: page, line: i + 1, lang: strings.TrimPrefix(bare, "```")}
			if m := saveAs.FindStringSubmatch(told); m != nil {
				current.saveAs = m[1]
			}
		case current != nil && bare == "```":
			blocks = append(blocks, *current)
			current, told = nil, ""
		case current != nil:
			current.text += line + "\n"
		case bare != "":
			told = bare
		}
	}
	return blocks
}

// pages returns all that have examples.
func pages(t *testing.T, root string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages := []string{"README.md", "CONTRIBUTING.md"}
	for _, path := range found {
		pages = append(pages, filepath.Join("docs", filepath.Base(path)))
	}
	return pages
}
