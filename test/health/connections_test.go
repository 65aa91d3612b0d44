package health

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localenv"
)

var connected = health{Reason: v1alpha1.ReasonConnected, KStatus: "Current", Argo: "Healthy"}

// needsPerson returns how a connection looks that only a person can mend.
func needsPerson(reason string) health {
	return health{Reason: reason, KStatus: "Failed", Argo: "Degraded"}
}

var _ = Describe("A ClusterConnection", func() {
	kubeconfig := func(user string) []byte {
		GinkgoHelper()
		data, err := env.Targets[0].KubeconfigFor(user)
		Expect(err).NotTo(HaveOccurred())
		return data
	}
	// changed is the kubeconfig of the manager's user with something else in it.
	changed := func(server, token string) []byte {
		GinkgoHelper()
		config, err := clientcmd.Load(kubeconfig(localenv.TargetUser))
		Expect(err).NotTo(HaveOccurred())
		for _, cluster := range config.Clusters {
			if server != "" {
				cluster.Server = server
			}
		}
		for _, user := range config.AuthInfos {
			if token != "" {
				user.ClientCertificateData, user.ClientKeyData, user.Token = nil, nil, token
			}
		}
		data, err := clientcmd.Write(*config)
		Expect(err).NotTo(HaveOccurred())
		return data
	}
	// start makes a connection with a kubeconfig, if there is one, for the rest of the spec.
	start := func(ctx context.Context, name string, kubeconfig []byte) (*v1alpha1.ClusterConnection, *corev1.Secret) {
		GinkgoHelper()
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: localenv.Namespace, Name: name}, Data: map[string][]byte{"kubeconfig": kubeconfig},
		}
		connection := connect(name)
		if kubeconfig != nil {
			Expect(hub.Create(ctx, secret)).To(Succeed())
		}
		Expect(hub.Create(ctx, connection)).To(Succeed())
		DeferCleanup(func(ctx context.Context) {
			Expect(hub.Delete(ctx, connection)).To(Succeed())
			Expect(client.IgnoreNotFound(hub.Delete(ctx, secret))).To(Succeed())
		})
		return connection, secret
	}

	DescribeTable("shows the expected reason and health of kstatus, Flux and Argo CD if it", func(ctx context.Context, name string, kubeconfig func() []byte, seen health) {
		connection, _ := start(ctx, name, kubeconfig())
		Eventually(look.of).WithContext(ctx).WithArguments(connection).Should(Equal(seen))
	},
		Entry("has no Secret", "no-secret", func() []byte { return nil }, needsPerson(v1alpha1.ReasonSecretNotFound)),
		Entry("has a kubeconfig that cannot be read", "unreadable", func() []byte { return []byte("{") }, needsPerson(v1alpha1.ReasonInvalidKubeconfig)),
		Entry("is not accepted", "rejected", func() []byte { return changed("", "wrong") }, needsPerson(v1alpha1.ReasonCredentialsRejected)),
		Entry("lacks rights", "forbidden", func() []byte { return kubeconfig("nobody") }, needsPerson(v1alpha1.ReasonForbidden)),
		Entry("gets no answer, which may mend itself", "unreachable", func() []byte { return changed("https://127.0.0.1:1", "") },
			health{Reason: v1alpha1.ReasonUnreachable, KStatus: "InProgress", Argo: "Progressing"}),
	)

	It("becomes healthy when its kubeconfig is corrected, and Degraded when that breaks again", func(ctx context.Context) {
		connection, secret := start(ctx, "mended", []byte("{"))
		Eventually(look.of).WithContext(ctx).WithArguments(connection).Should(Equal(needsPerson(v1alpha1.ReasonInvalidKubeconfig)))
		put := func(kubeconfig []byte) {
			secret.Data["kubeconfig"] = kubeconfig
			Expect(hub.Update(ctx, secret)).To(Succeed())
		}
		put(kubeconfig(localenv.TargetUser))
		Eventually(look.of).WithContext(ctx).WithArguments(connection).Should(Equal(connected))
		put(changed("", "wrong"))
		Eventually(look.of).WithContext(ctx).WithArguments(connection).Should(Equal(needsPerson(v1alpha1.ReasonLastKubeconfig)))
	})

	It("shows ClusterFenced when any connection to the same cluster is annotated as fenced", func(ctx context.Context) {
		first := connect("target-2")
		Expect(hub.Create(ctx, first)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(hub.Delete(ctx, first)).To(Succeed()) })
		data, err := env.Targets[1].KubeconfigFor(localenv.TargetUser)
		Expect(err).NotTo(HaveOccurred())
		second, _ := start(ctx, "target-2-again", data)
		for _, connection := range []client.Object{first, second} {
			Eventually(look.of).WithContext(ctx).WithArguments(connection).Should(Equal(connected))
		}
		fence(ctx, first)
		for _, connection := range []client.Object{first, second} {
			Eventually(look.of).WithContext(ctx).WithArguments(connection).Should(Equal(needsPerson(v1alpha1.ReasonClusterFenced)))
		}

		By("it is written once")
		Expect(hub.Get(ctx, client.ObjectKeyFromObject(second), second)).To(Succeed())
		Consistently(func(g Gomega) string {
			now := &v1alpha1.ClusterConnection{}
			g.Expect(hub.Get(ctx, client.ObjectKeyFromObject(second), now)).To(Succeed())
			return now.ResourceVersion
		}, 3*time.Second).Should(Equal(second.ResourceVersion))

		unfence(ctx, first)
		for _, connection := range []client.Object{first, second} {
			Eventually(look.of).WithContext(ctx).WithArguments(connection).Should(Equal(connected))
		}
	})
})

// fence states that the cluster of a connection is fenced.
func fence(ctx context.Context, connection *v1alpha1.ClusterConnection) {
	GinkgoHelper()
	Expect(hub.Get(ctx, client.ObjectKeyFromObject(connection), connection)).To(Succeed())
	before := connection.DeepCopy()
	metav1.SetMetaDataAnnotation(&connection.ObjectMeta, v1alpha1.AnnotationFenced, connection.Status.ClusterUID)
	Expect(hub.Patch(ctx, connection, client.MergeFrom(before))).To(Succeed())
}

// unfence takes that back.
func unfence(ctx context.Context, connection *v1alpha1.ClusterConnection) {
	GinkgoHelper()
	before := connection.DeepCopy()
	delete(connection.Annotations, v1alpha1.AnnotationFenced)
	Expect(hub.Patch(ctx, connection, client.MergeFrom(before))).To(Succeed())
}
