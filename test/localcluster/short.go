package localcluster

import (
	"flag"
	"os"
	"testing"
)

// SkipIfShort skips a test that starts clusters when `go test -short` asks for those that start none.
func SkipIfShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts clusters")
	}
}

// ExitIfShort is SkipIfShort for the TestMain of a package of which every test needs clusters.
func ExitIfShort() {
	flag.Parse()
	if testing.Short() {
		os.Exit(0)
	}
}
