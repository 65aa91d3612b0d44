package health

import (
	"context"
	"os"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

var (
	env   *localenv.Env
	hub   client.Client
	typed kubernetes.Interface
	look  checks
)

// The namespaces of the targets.
const (
	open    = "team-a"
	full    = "full"    // has a quota that leaves no room
	frozen  = "frozen"  // its Jobs may not be changed
	missing = "missing" // does not exist
	closed  = "batch"   // the access rules do not name it
)

func TestHealth(t *testing.T) {
	localcluster.SkipIfShort(t)
	RegisterFailHandler(Fail)
	EnforceDefaultTimeoutsWhenUsingContexts()
	SetDefaultEventuallyTimeout(30 * time.Second)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	RunSpecs(t, "Health")
}

var _ = BeforeSuite(func(ctx context.Context) {
	dir, err := os.MkdirTemp("", "pooledjob-health-")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(os.RemoveAll, dir)
	env, err = localenv.Start(ctx, localenv.Options{Targets: 2, Dir: dir, NoManager: true, Progress: GinkgoWriter})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(env.Stop()).To(Succeed()) })
	hub, look = env.Hub.Client, readChecks()
	typed, err = kubernetes.NewForConfig(env.Hub.Config())
	Expect(err).NotTo(HaveOccurred())
	for _, name := range []string{full, frozen} {
		Expect(env.Targets[0].Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})).To(Succeed())
	}
	Expect(env.Targets[0].Client.Create(ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: full, Name: "none"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/jobs.batch": resource.MustParse("0")}},
	})).To(Succeed())
	Expect(hub.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team-a"}})).To(Succeed())

	By("objects that no manager has seen")
	connection, run := connect("target-1"), submit("unseen", "target-1", open, nil)
	Expect(hub.Create(ctx, connection)).To(Succeed())
	Expect(hub.Create(ctx, run)).To(Succeed())
	Expect(look.of(ctx, run)).To(Equal(health{"target-1", "", "InProgress", "InProgress", "Progressing"}))
	Expect(look.of(ctx, connection)).To(Equal(health{KStatus: "InProgress", Argo: "Progressing"}))
	Expect(hub.Delete(ctx, run)).To(Succeed())

	Expect(env.StartManager(ctx)).To(Succeed())
	DeferCleanup(func() { Expect(env.KillManager()).To(Succeed()) })
	Eventually(look.of).WithContext(ctx).WithArguments(connection).Should(Equal(connected))
}, NodeTimeout(5*time.Minute))

// connect returns a connection by the kubeconfig of a Secret.
func connect(secret string) *v1alpha1.ClusterConnection {
	return &v1alpha1.ClusterConnection{
		ObjectMeta: metav1.ObjectMeta{Name: secret},
		Spec: v1alpha1.ClusterConnectionSpec{
			KubeconfigSecretRef: v1alpha1.SecretKeyReference{Name: secret},
			Access: []v1alpha1.AccessRule{{
				HubNamespaces:    &v1alpha1.LabelSelector{},
				TargetNamespaces: v1alpha1.TargetNamespaces{Names: []string{open, full, frozen, missing}},
			}},
		},
	}
}
