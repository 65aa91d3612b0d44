package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// realPods is the label of specs whose containers run. They are skipped where no real
// node can be had, which `make test` says.
const realPods = "realpods"

// useRealTarget gives the hub one more target, with a real node, for the specs of an
// Ordered container that calls it in its BeforeAll. It returns the target's number.
func useRealTarget(ctx context.Context) int {
	onlyLocal()
	if problem := localcluster.RealNodeProblem(); problem != nil {
		Skip(problem.Error())
	}
	target, err := local.AddTarget(ctx, true)
	Expect(err).NotTo(HaveOccurred())
	targets = append(targets, newClient(target.Config()))
	number := len(targets)
	DeferCleanup(func(ctx context.Context) {
		targets = targets[:number-1]
		Expect(local.RemoveTarget(ctx, target)).To(Succeed())
	})
	connection := &v1alpha1.ClusterConnection{
		ObjectMeta: metav1.ObjectMeta{Name: target.Name()},
		Spec: v1alpha1.ClusterConnectionSpec{
			KubeconfigSecretRef: v1alpha1.SecretKeyReference{Name: target.Name()},
			Access: []v1alpha1.AccessRule{{
				HubNamespaces:    &v1alpha1.LabelSelector{MatchLabels: map[string]string{"team": "a"}},
				TargetNamespaces: v1alpha1.TargetNamespaces{Names: []string{"team-a"}},
			}},
		},
	}
	Expect(hub.Create(ctx, connection)).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		Expect(hub.Delete(ctx, connection)).To(Succeed())
		Eventually(gone(connection)).WithContext(ctx).Should(BeTrue())
	})
	Eventually(latest(connection)).WithContext(ctx).Should(beReady())
	return number
}

// realJob makes a PooledJob whose one container runs the test image with these flags;
// see test/testimage.
func realJob(target int, name string, flags ...string) *v1alpha1.PooledJob {
	job := newJob(target, name, behaviour{})
	job.Spec.Template.Spec.Template.Annotations = nil
	podOf(job).Containers[0] = testContainer("main", flags...)
	return job
}

// podOf returns the Pod that a PooledJob asks for.
func podOf(job *v1alpha1.PooledJob) *corev1.PodSpec { return &job.Spec.Template.Spec.Template.Spec }

func testContainer(name string, flags ...string) corev1.Container {
	return corev1.Container{Name: name, Image: localcluster.TestImage, Args: flags}
}

// mark returns a flag by which processesWith knows a container's process.
func mark() string {
	return fmt.Sprintf("-print=mark-%d-%d", GinkgoRandomSeed(), time.Now().UnixNano())
}

// processesWith returns the processes of this machine that have the argument.
func processesWith(argument string) []int {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	Expect(err).NotTo(HaveOccurred())
	var found []int
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(line), "\x00"+argument+"\x00") {
			continue // others, and those that have just ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		Expect(err).NotTo(HaveOccurred())
		found = append(found, pid)
	}
	return found
}
