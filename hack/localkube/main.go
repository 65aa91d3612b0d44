// Command localkube is one multi-call binary that holds a whole Kubernetes
// cluster: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet,
// the kwok Pod simulator and kubectl, each built from its published Go module.
//
// The program to run is the name it was called by (through a symbolic link) or
// else its first argument. `make localkube` builds it once; the package
// test/localcluster starts clusters from it.
package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

// version is the version of the Kubernetes programs; set with -ldflags -X.
var version = "unknown"

// programs maps a program's name to its main function, which reads os.Args and
// returns the exit code.
var programs = map[string]func() int{
	"etcd":                    server(runEtcd),
	"kube-apiserver":          server(runAPIServer),
	"kube-controller-manager": server(runControllerManager),
	"kube-scheduler":          server(runScheduler),
	"kubectl":                 runKubectl,
	"kwok":                    server(runKwok),
}

func main() {
	name := filepath.Base(os.Args[0])
	if _, ok := programs[name]; !ok && len(os.Args) > 1 {
		name = os.Args[1]
		os.Args = os.Args[1:]
	}
	if run, ok := programs[name]; ok {
		os.Exit(run())
	}
	switch name {
	case "version", "--version":
		printVersions(os.Stdout)
	case "help", "--help", "-h":
		usage(os.Stdout)
	default:
		usage(os.Stderr)
		os.Exit(2)
	}
}

func usage(out io.Writer) {
	names := slices.Sorted(maps.Keys(programs))
	fmt.Fprintf(out, "localkube %s: call it by, or give as the first argument, one of: %s, version\n",
		version, strings.Join(names, ", "))
}

// printVersions takes the versions of the others from the modules they were built
// from: etcd and kwok do not know their own when they are built as libraries.
func printVersions(out io.Writer) {
	fmt.Fprintln(out, "Kubernetes", version)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	names := map[string]string{"go.etcd.io/etcd/server/v3": "etcd", "sigs.k8s.io/kwok": "kwok"}
	for _, module := range info.Deps {
		if name, ok := names[module.Path]; ok {
			fmt.Fprintln(out, name, module.Version)
		}
	}
}
