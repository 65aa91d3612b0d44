package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

var _ = Describe("The installer", Label("local"), func() {
	BeforeEach(onlyLocal)

	It("can be applied twice by kubectl to an empty hub without a warning", func(ctx context.Context) {
		installer := filepath.Join(root, "dist", "install.yaml")
		Expect(installer).To(BeAnExistingFile(), "make build-installer renders it")
		cluster, err := localcluster.Start(ctx, localcluster.Options{Name: "empty"})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(cluster.Stop)
		kubeconfig, err := cluster.Kubeconfig()
		Expect(err).NotTo(HaveOccurred())
		path := filepath.Join(GinkgoT().TempDir(), "kubeconfig")
		Expect(os.WriteFile(path, kubeconfig, 0o600)).To(Succeed())

		// The second time is an upgrade.
		for range 2 {
			kubectl := exec.CommandContext(ctx, filepath.Join(root, "bin", "localkube.d", "kubectl"), "--kubeconfig", path, "apply", "-f", installer)
			var out, complaints bytes.Buffer
			kubectl.Stdout, kubectl.Stderr = &out, &complaints
			Expect(kubectl.Run()).To(Succeed(), complaints.String())
			Expect(complaints.String()).To(BeEmpty())
		}

		c, err := localenv.NewClient(cluster)
		Expect(err).NotTo(HaveOccurred())
		deployment := &appsv1.Deployment{}
		Expect(c.Get(ctx, client.ObjectKey{Namespace: localenv.Namespace, Name: "pooledjob-manager"}, deployment)).To(Succeed())
		pod := deployment.Spec.Template.Spec
		Expect(pod.Containers[0].SecurityContext.ReadOnlyRootFilesystem).To(HaveValue(BeTrue()))
		Expect(pod.SecurityContext.RunAsNonRoot).To(HaveValue(BeTrue()))
		for _, role := range []string{"pooledjob-editor", "pooledjob-viewer"} {
			Expect(c.Get(ctx, client.ObjectKey{Name: role}, &rbacv1.ClusterRole{})).To(Succeed())
		}
	})
})
