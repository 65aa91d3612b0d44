package localcluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	modulePath = "github.com/pooledjob/pooledjob"

	// builtAssets is where `make localkube` puts the programs, from the module's root.
	builtAssets = "bin/localkube.d"

	assetsVariable = "KUBEBUILDER_ASSETS"
)

// Options say what cluster to start. The zero value is an API server and its
// etcd in a temporary folder.
type Options struct {
	// Name tells clusters apart in kubeconfigs, folder names and errors. It is a
	// DNS label; without it the name is "localcluster".
	Name string

	// Dir receives the cluster's state and logs. It must be empty or absent, and
	// stays after Stop. Without it a temporary folder is used and removed by Stop.
	Dir string

	// Workloads adds the controller manager, the scheduler and kwok, so that Jobs
	// run. Without it the cluster only stores objects.
	Workloads bool

	// Nodes is the number of nodes to begin with, only with Workloads; 0 means 1.
	// More can be created later as Node objects: all of them become Ready.
	Nodes int

	// RealNode has one real node, of the name RealNodeName, in place of simulated ones, only with
	// Workloads: a kubelet and containerd run Pods as they are, from the images TestImage
	// and BusyboxImage, or others if the machine reaches a registry. RealNodeProblem tells
	// whether that can be had.
	RealNode bool

	// Audit has the API server write down requests; see [Cluster.AuditEvents].
	Audit bool

	// AssetsDir is the folder with the programs. Without it the environment
	// variable KUBEBUILDER_ASSETS names it, else it is what `make localkube`
	// built in the module that holds the working directory.
	AssetsDir string

	// APIServerFlags are further flags of the kube-apiserver, by their names
	// without dashes. They win over the package's own.
	APIServerFlags map[string]string
}

// withDefaults returns the options with every default filled in but Dir, and an
// error that says which option to mend.
func (o Options) withDefaults() (Options, error) {
	if o.Name == "" {
		o.Name = "localcluster"
	}
	if problems := validation.IsDNS1123Label(o.Name); len(problems) > 0 {
		return o, fmt.Errorf("Options.Name %q: %s", o.Name, strings.Join(problems, ", "))
	}
	switch {
	case o.Nodes < 0:
		return o, fmt.Errorf("Options.Nodes is %d: give 0 for the default, or more", o.Nodes)
	case o.Nodes > 0 && !o.Workloads:
		return o, errors.New("Options.Nodes is given: set Options.Workloads too, nodes exist only with it")
	case o.RealNode && !o.Workloads:
		return o, errors.New("Options.RealNode is given: set Options.Workloads too, nodes exist only with it")
	case o.RealNode && o.Nodes > 0:
		return o, errors.New("Options.RealNode and Options.Nodes are given: a cluster has one real node or simulated ones")
	case o.RealNode:
		if err := RealNodeProblem(); err != nil {
			return o, fmt.Errorf("Options.RealNode: %w", err)
		}
	case o.Nodes == 0 && o.Workloads:
		o.Nodes = 1
	}
	dir, err := findAssets(o.AssetsDir)
	if err != nil {
		return o, err
	}
	o.AssetsDir = dir
	return o, checkAssets(dir, o.programs())
}

// programs returns those the cluster consists of.
func (o Options) programs() []Program {
	programs := []Program{Etcd, APIServer}
	if o.Workloads {
		programs = append(programs, ControllerManager, Scheduler)
	}
	switch {
	case o.RealNode:
		programs = append(programs, Kubelet, keeper)
	case o.Workloads:
		programs = append(programs, Kwok)
	}
	return programs
}

// findAssets returns the absolute path of the folder with the programs, which
// may not exist.
func findAssets(given string) (string, error) {
	if given == "" {
		given = os.Getenv(assetsVariable)
	}
	if given != "" {
		dir, err := filepath.Abs(given)
		if err != nil {
			return "", fmt.Errorf("finding the folder with the programs: %w", err)
		}
		return dir, nil
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", fmt.Errorf("finding the folder with the programs: %w; set Options.AssetsDir or %s", err, assetsVariable)
	}
	return filepath.Join(root, builtAssets), nil
}

// ModuleRoot walks up from the working directory to the go.mod of this module;
// nested modules on the way are passed by.
func ModuleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && declaresModule(string(content)) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod of %s in %s or above", modulePath, start)
		}
	}
}

func declaresModule(goMod string) bool {
	for line := range strings.Lines(goMod) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "module" {
			return fields[1] == modulePath
		}
	}
	return false
}

func checkAssets(dir string, programs []Program) error {
	for _, program := range programs {
		if _, err := os.Stat(filepath.Join(dir, string(program))); err != nil {
			return fmt.Errorf("no program %s in %s: run `make localkube`, and see that %s is unset or names a folder with all of %v",
				program, dir, assetsVariable, programs)
		}
	}
	return nil
}
