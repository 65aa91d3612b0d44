package kubeconfig

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// allocated returns how many bytes something allocates.
func allocated(what func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	what()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestNoKubeconfigTakesMuchMemory(t *testing.T) {
	list := func(element, separator string, n int) string {
		return "apiVersion: v1\nkind: Config\nusers: [" + strings.Repeat(element+separator, n) + element + "]"
	}
	bomb := "apiVersion: v1\nkind: Config\na0: &a0 [" + strings.Repeat("x,", 5000) + "x]\n"
	for i := range 4 {
		bomb += fmt.Sprintf("a%d: &a%d [*a%d, *a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i, i)
	}
	for name, document := range map[string]string{
		"a MiB of empty users":       list("{}", ",", 340_000),
		"many empty users":           list("{}", ",", 80_000),
		"as many as are allowed":     list("{}", ",", maxElements/2-10),
		"users in lines":             "apiVersion: v1\nkind: Config\nusers:\n" + strings.Repeat("- {}\n", 40_000),
		"lists in lists":             "apiVersion: v1\nkind: Config\nusers: " + strings.Repeat("- ", 100_000),
		"deep lists":                 "apiVersion: v1\nkind: Config\nusers: " + strings.Repeat("[", 200_000),
		"keys without values":        "apiVersion: v1\nkind: Config\n" + strings.Repeat("? ", 100_000),
		"aliases of aliases":         bomb,
		"lines that end in a return": "apiVersion: v1\nkind: Config\nusers:\r" + strings.Repeat("-\r", 100_000),
		"a long text":                "apiVersion: v1\nkind: Config\nx: " + strings.Repeat("x", 200_000),
		"JSON":                       `{"apiVersion":"v1","kind":"Config","users":[` + strings.Repeat(`{},`, 80_000) + `{}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			used := allocated(func() {
				_, err := Parse([]byte(document))
				g.Expect(err).To(HaveOccurred())
			})
			g.Expect(used>>20).To(BeNumerically("<", 64), "MiB")
		})
	}
}
