package localcluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/wait"
)

// RealNodeName is the name of a cluster's real node, by which the API server finds its
// kubelet for logs.
const RealNodeName = "localhost"

const (
	// maxSocketPath is what a Unix socket's path may have, less what containerd appends.
	maxSocketPath = 100
)

// runtimePrograms are those of the distribution that a real node needs, with the Debian
// package of each.
var runtimePrograms = map[string]string{
	"containerd":              "containerd",
	"containerd-shim-runc-v2": "containerd",
	"ctr":                     "containerd",
	"runc":                    "runc",
	loopbackPlugin:            "containernetworking-plugins",
}

// realNode is what a cluster knows of its real node.
type realNode struct {
	dir    string // configuration, images and logs
	cgroup string // of all its containers
	port   int    // of the kubelet
	input  *os.File
}

// startRealNode starts a container runtime, gives it the images, and starts a
// kubelet.
func (c *Cluster) startRealNode(ctx context.Context) error {
	if err := c.node.writeFiles(); err != nil {
		return err
	}
	kubeconfig, err := c.writeKubeconfig("system:node:" + RealNodeName)
	if err != nil {
		return err
	}
	if err := c.startKeeper(); err != nil {
		return err
	}
	n := c.node
	if err := n.run(c.logPath(containerd), findProgram("containerd"), "--config="+n.path(containerdConfigFile)); err != nil {
		return err
	}
	if err := c.waitForRuntime(ctx); err != nil {
		return err
	}
	if err := n.importImages(ctx); err != nil {
		return fmt.Errorf("%w%s", err, quoteLog(c.logPath(containerd)))
	}
	return n.run(c.logPath(Kubelet), c.programPath(Kubelet), "--config="+n.path(kubeletConfigFile), "--kubeconfig="+kubeconfig,
		"--hostname-override="+RealNodeName)
}

// newRealNode chooses what must be known before the API server starts.
func (c *Cluster) newRealNode(ctx context.Context) (*realNode, error) {
	n := &realNode{dir: filepath.Join(c.dir, "node"), cgroup: "localcluster-" + strings.ToLower(rand.Text()[:12])}
	if socket := n.socket(); len(socket) > maxSocketPath {
		return nil, fmt.Errorf("%s is too long for a socket: set a shorter Options.Dir", socket)
	}
	for _, dir := range []string{n.path("tmp"), n.path(cniDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("creating the node's state: %w", err)
		}
	}
	var err error
	if n.port, err = freePort(ctx); err == nil {
		err = n.writeCertificate()
	}
	return n, err
}

// configureKubeletClient has the API server reach the kubelet on loopback, each
// knowing the other by the node's certificate.
func (c *Cluster) configureKubeletClient() {
	certificate := c.node.path(certificateFile)
	c.plane.APIServer.Configure().
		Set("kubelet-preferred-address-types", "Hostname").
		Set("kubelet-certificate-authority", certificate).
		Set("kubelet-client-certificate", certificate).
		Set("kubelet-client-key", c.node.path(keyFile))
}

// startKeeper starts the process that the node's programs live and die with.
func (c *Cluster) startKeeper() error {
	input, output, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	defer input.Close() // the keeper has its own copy
	c.node.input = output
	keep := []string{c.dir, c.assets, "/etc/resolv.conf"}
	if programs, err := filepath.EvalSymlinks(c.programPath(Kubelet)); err == nil {
		keep = append(keep, filepath.Dir(programs))
	}
	p := &process{
		program:    keeper,
		path:       c.programPath(keeper),
		dir:        c.dir,
		log:        c.logPath(keeper),
		args:       []string{"--cgroup=" + c.node.cgroup, "--keep=" + strings.Join(keep, ",")},
		env:        []string{"TMPDIR=" + c.node.path("tmp"), "PATH=" + searchPath()},
		input:      input,
		stop:       output.Close,
		attributes: ownNamespaces(),
	}
	if err := p.start(); err != nil {
		return err
	}
	c.processes = append(c.processes, p)
	return nil
}

// run has the keeper start a program.
func (n *realNode) run(log string, args ...string) error {
	line, err := json.Marshal(map[string]any{"args": args, "log": log})
	if err == nil {
		_, err = n.input.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("starting %s: %w", args[0], err)
	}
	return nil
}

// waitForRuntime waits until containerd listens, and notices when it, or any other
// program, has ended instead.
func (c *Cluster) waitForRuntime(ctx context.Context) error {
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(context.Context) (bool, error) {
		for _, p := range c.processes {
			if err := p.crashed(); err != nil {
				return false, err
			}
		}
		_, err := os.Stat(c.node.socket())
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for containerd: %w", err)
	}
	return nil
}

// importImages gives the container runtime the images.
func (n *realNode) importImages(ctx context.Context) error {
	images, err := n.images(ctx)
	if err != nil {
		return err
	}
	for _, image := range images {
		archive := n.path("image.tar")
		if err := image.write(archive); err != nil {
			return fmt.Errorf("making the image %s: %w", image.name, err)
		}
		ctr := exec.CommandContext(ctx, findProgram("ctr"), "--address="+n.socket(), "--namespace=k8s.io",
			"images", "import", "--snapshotter="+snapshotter, archive)
		if output, err := ctr.CombinedOutput(); err != nil {
			return fmt.Errorf("importing the image %s: %w: %s", image.name, err, output)
		}
		if err := os.Remove(archive); err != nil {
			return fmt.Errorf("making the image %s: %w", image.name, err)
		}
	}
	return nil
}

func (n *realNode) path(name string) string { return filepath.Join(n.dir, name) }

func (n *realNode) socket() string { return n.path("c.sock") }

// searchPath returns the PATH of root, which a shell of another user may lack.
func searchPath() string {
	return os.Getenv("PATH") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/cni:/opt/cni/bin"
}

// findProgram returns the path of a program of the distribution; empty when it is not there.
func findProgram(name string) string {
	for _, dir := range filepath.SplitList(searchPath()) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}

// missingPrograms tells which programs the machine lacks, and how to get them.
func missingPrograms() error {
	var programs, packages []string
	for program, pkg := range runtimePrograms {
		if findProgram(program) == "" {
			programs, packages = append(programs, program), append(packages, pkg)
		}
	}
	if len(programs) == 0 {
		return nil
	}
	slices.Sort(programs)
	slices.Sort(packages)
	return fmt.Errorf("real nodes need %s: on Debian, apt-get install %s",
		strings.Join(programs, ", "), strings.Join(slices.Compact(packages), " "))
}

// freePort finds a port that nobody listens on.
func freePort(ctx context.Context) (int, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
