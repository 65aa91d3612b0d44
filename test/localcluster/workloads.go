package localcluster

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// pollInterval is how often the start of a cluster looks whether it is usable.
const pollInterval = 100 * time.Millisecond

//go:embed stages.yaml
var stages []byte

// controllers are those that the controller manager runs, see doc.go.
var controllers = []string{
	"garbage-collector-controller",
	"job-controller",
	"namespace-controller",
	"pod-garbage-collector-controller",
	"resourcequota-controller",
	"root-ca-certificate-publisher-controller",
	"serviceaccount-controller",
	"ttl-after-finished-controller",
}

// startWorkloads starts the programs that make Jobs run. None of them listens on
// a port.
func (c *Cluster) startWorkloads() error {
	rootCA := filepath.Join(c.dir, "ca.crt")
	stagesPath := filepath.Join(c.dir, "stages.yaml")
	for path, content := range map[string][]byte{rootCA: c.admin.CAData, stagesPath: stages} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("writing a file for the programs: %w", err)
		}
	}
	// One replica each needs no leader election, and hundreds of Jobs at once
	// shall not wait for the default limit of 20 requests a second.
	client := []string{"--leader-elect=false", "--secure-port=0", "--kube-api-qps=500", "--kube-api-burst=1000"}
	commands := []struct {
		program Program
		user    string
		flags   []string
	}{
		{ControllerManager, "system:kube-controller-manager", append([]string{
			"--controllers=" + strings.Join(controllers, ","),
			"--root-ca-file=" + rootCA,
			"--concurrent-job-syncs=20",
		}, client...)},
		{Scheduler, "system:kube-scheduler", client},
		{Kwok, "system:kwok", []string{"--config=" + stagesPath, "--manage-all-nodes"}},
	}
	for _, command := range commands {
		if command.program == Kwok && c.realNode {
			continue
		}
		kubeconfig, err := c.writeKubeconfig(command.user)
		if err != nil {
			return err
		}
		p := &process{
			program: command.program,
			path:    c.programPath(command.program),
			dir:     c.dir,
			log:     c.logPath(command.program),
			args:    append([]string{"--kubeconfig=" + kubeconfig}, command.flags...),
		}
		if err := p.start(); err != nil {
			return err
		}
		c.processes = append(c.processes, p)
	}
	return nil
}

// waitUntilUsable creates the nodes and waits until a Pod could run.
func (c *Cluster) waitUntilUsable(ctx context.Context, nodes int) error {
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		return fmt.Errorf("building a client: %w", err)
	}
	for number := 1; number <= nodes; number++ {
		name := fmt.Sprintf("node-%d", number)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:   name,
			Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelOSStable: "linux"},
		}}
		if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating node %s: %w", name, err)
		}
	}
	missing := ""
	err = wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		for _, p := range c.processes {
			if err := p.crashed(); err != nil {
				return false, err
			}
		}
		var err error
		missing, err = c.missing(ctx, client)
		return missing == "", err
	})
	if err != nil && missing != "" {
		return fmt.Errorf("waiting for %s: %w", missing, err)
	}
	return err
}

// missing names the first thing a usable cluster has and this one has not yet;
// it is empty when there is nothing.
func (c *Cluster) missing(ctx context.Context, client kubernetes.Interface) (string, error) {
	if _, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{}); err != nil {
		return "the namespace default", ignoreNotFound(err)
	}
	if !c.workloads {
		return "", nil
	}
	if _, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err != nil {
		return "the default service account (by kube-controller-manager)", ignoreNotFound(err)
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "the nodes", err
	}
	if len(nodes.Items) == 0 {
		return "a node", nil
	}
	for _, node := range nodes.Items {
		if !ready(node) {
			return "node " + node.Name + " to be Ready", nil
		}
	}
	return "", nil
}

func ready(node corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
