package controllers

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/pooledjob/pooledjob/controllers/logs"
)

const logsName = logs.Service + "." + systemNamespace + ".svc"

// keeper is the ServingCertificate of one replica, with a clock of its own.
type keeper struct {
	*logs.ServingCertificate
	ahead time.Duration
}

func newKeeper(as client.Client) *keeper {
	k := &keeper{}
	k.ServingCertificate = logs.NewServingCertificate(as, as, systemNamespace, keeperClock{k})
	return k
}

func (k *keeper) now() time.Time { return time.Now().Add(k.ahead) }

type keeperClock struct{ *keeper }

func (c keeperClock) Now() time.Time { return c.now() }

func (c keeperClock) Since(t time.Time) time.Duration { return c.now().Sub(t) }

// presents returns the certificate that a client of the log API sees.
func (k *keeper) presents() *x509.Certificate {
	GinkgoHelper()
	pair, err := k.Certificate()
	Expect(err).NotTo(HaveOccurred())
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	Expect(err).NotTo(HaveOccurred())
	return leaf
}

// expectTrusted makes sure that the hub's API server trusts what is presented.
func (k *keeper) expectTrusted(ctx context.Context) {
	GinkgoHelper()
	roots := x509.NewCertPool()
	Expect(roots.AppendCertsFromPEM(caBundle(ctx))).To(BeTrue())
	_, err := k.presents().Verify(x509.VerifyOptions{DNSName: logsName, Roots: roots, CurrentTime: k.now()})
	Expect(err).NotTo(HaveOccurred())
}

var _ = Describe("The certificate of the log API", Serial, func() {
	BeforeEach(func(ctx context.Context) {
		Expect(hub.Create(ctx, newAPIService())).To(Succeed())
		DeferCleanup(func(ctx context.Context) {
			Expect(client.IgnoreNotFound(hub.Delete(ctx, newAPIService()))).To(Succeed())
			Expect(client.IgnoreNotFound(hub.Delete(ctx, &corev1.Secret{ObjectMeta: certificateKey()}))).To(Succeed())
		})
	})

	It("gets created, and its authority is written to the APIService", func(ctx context.Context) {
		k := newKeeper(hub)
		_, err := k.Certificate()
		Expect(err).To(MatchError("there is no certificate yet"))
		Expect(k.Ready()).NotTo(BeClosed())
		Expect(k.Keep(ctx)).To(Succeed())
		Expect(k.Ready()).To(BeClosed())
		k.expectTrusted(ctx)
		Expect(certificateSecret(ctx).Data).To(And(HaveLen(4), HaveKeyWithValue("ca.crt", caBundle(ctx))))

		By("and nothing is written when there is nothing to change")
		secret, service := certificateSecret(ctx), latestAPIService(ctx)
		Expect(k.Keep(ctx)).To(Succeed())
		Expect(certificateSecret(ctx).ResourceVersion).To(Equal(secret.ResourceVersion))
		Expect(latestAPIService(ctx).GetResourceVersion()).To(Equal(service.GetResourceVersion()))
	})

	It("gets renewed before it expires, and so does its authority", func(ctx context.Context) {
		k := newKeeper(hub)
		Expect(k.Keep(ctx)).To(Succeed())
		first, bundle := k.presents(), caBundle(ctx)
		k.ahead = time.Until(first.NotAfter) - 31*24*time.Hour
		Expect(k.Keep(ctx)).To(Succeed())
		Expect(k.presents().Equal(first)).To(BeTrue(), "it is not due yet")

		k.ahead += 2 * 24 * time.Hour
		Expect(k.Keep(ctx)).To(Succeed())
		Expect(k.presents().Equal(first)).To(BeFalse())
		Expect(caBundle(ctx)).To(Equal(bundle))
		k.expectTrusted(ctx)

		By("the authority's turn: the former is trusted as long as others may present its work")
		slow := newKeeper(hub)
		Expect(slow.Keep(ctx)).To(Succeed())
		k.ahead = 2*365*24*time.Hour + 24*time.Hour
		Expect(k.Keep(ctx)).To(Succeed())
		Expect(bytes.HasSuffix(caBundle(ctx), bundle)).To(BeTrue())
		Expect(caBundle(ctx)).NotTo(Equal(bundle))
		k.expectTrusted(ctx)
		slow.expectTrusted(ctx)
	})

	It("stays the same for all replicas, whichever creates it first", func(ctx context.Context) {
		replicas := make([]*keeper, 4)
		var running sync.WaitGroup
		errs := make([]error, len(replicas))
		for i := range replicas {
			replicas[i] = newKeeper(hub)
			running.Go(func() { errs[i] = replicas[i].Keep(ctx) })
		}
		running.Wait()
		Expect(errs).To(HaveEach(BeNil()))
		for _, k := range replicas {
			Expect(k.presents().Equal(replicas[0].presents())).To(BeTrue())
			k.expectTrusted(ctx)
		}
	})

	DescribeTable("replaces a Secret that will not do",
		func(ctx context.Context, spoil func(map[string][]byte)) {
			k := newKeeper(hub)
			Expect(k.Keep(ctx)).To(Succeed())
			first := k.presents()
			secret := certificateSecret(ctx)
			spoil(secret.Data)
			Expect(hub.Update(ctx, secret)).To(Succeed())
			Expect(k.Keep(ctx)).To(Succeed())
			Expect(k.presents().Equal(first)).To(BeFalse())
			k.expectTrusted(ctx)
			restarted := newKeeper(hub)
			Expect(restarted.Keep(ctx)).To(Succeed())
			Expect(restarted.presents().Equal(k.presents())).To(BeTrue())
		},
		Entry("nothing in it", func(data map[string][]byte) { clear(data) }),
		Entry("a certificate that is none", func(data map[string][]byte) { data[corev1.TLSCertKey] = []byte("none") }),
		Entry("a key that is none", func(data map[string][]byte) { data[corev1.TLSPrivateKeyKey] = []byte("none") }),
		Entry("an authority that is none", func(data map[string][]byte) { data["ca.crt"] = []byte("none") }),
		Entry("a key of the authority that is none", func(data map[string][]byte) { data["ca.key"] = []byte("none") }),
	)

	It("gets created again when the Secret is deleted", func(ctx context.Context) {
		k := newKeeper(hub)
		Expect(k.Keep(ctx)).To(Succeed())
		Expect(hub.Delete(ctx, certificateSecret(ctx))).To(Succeed())
		Expect(k.Keep(ctx)).To(Succeed())
		k.expectTrusted(ctx)
		Expect(certificateSecret(ctx).Data["ca.crt"]).To(Equal(caBundle(ctx)))
	})

	It("restores a caBundle that somebody changed", func(ctx context.Context) {
		k := newKeeper(hub)
		Expect(k.Keep(ctx)).To(Succeed())
		bundle := caBundle(ctx)
		service := latestAPIService(ctx)
		Expect(unstructured.SetNestedField(service.Object, base64.StdEncoding.EncodeToString(hubCluster.Config().CAData), "spec", "caBundle")).To(Succeed())
		Expect(hub.Update(ctx, service)).To(Succeed())
		Expect(caBundle(ctx)).NotTo(Equal(bundle))
		Expect(k.Keep(ctx)).To(Succeed())
		Expect(caBundle(ctx)).To(Equal(bundle))
	})

	It("serves without an APIService, and reports what to do", func(ctx context.Context) {
		Expect(hub.Delete(ctx, newAPIService())).To(Succeed())
		k := newKeeper(hub)
		Expect(k.Keep(ctx)).To(MatchError(ContainSubstring("the hub has no APIService v1alpha1.stream.pooledjob.io; apply config/logs")))
		Expect(k.Ready()).To(BeClosed())
		k.presents()
	})

	It("stays in use while a new authority cannot be written to the hub", func(ctx context.Context) {
		k := newKeeper(hub)
		Expect(k.Keep(ctx)).To(Succeed())
		first := k.presents()
		Expect(hub.Delete(ctx, newAPIService())).To(Succeed())
		Expect(hub.Delete(ctx, certificateSecret(ctx))).To(Succeed())
		Expect(k.Keep(ctx)).NotTo(Succeed())
		Expect(k.presents().Equal(first)).To(BeTrue(), "the hub would not trust the new one")
	})

	It("needs no more rights than the log API's role has", func(ctx context.Context) {
		as := asLogs(ctx)
		k := newKeeper(as)
		Expect(k.Keep(ctx)).To(Succeed(), "made")
		k.expectTrusted(ctx)
		k.ahead = time.Until(k.presents().NotAfter) - 24*time.Hour
		Expect(k.Keep(ctx)).To(Succeed(), "renewed")
		k.expectTrusted(ctx)
	})

	It("reports that the Secret may not be written, and waits", func(ctx context.Context) {
		kubeconfig, err := hubCluster.KubeconfigFor("powerless")
		Expect(err).NotTo(HaveOccurred())
		k := newKeeper(clientFrom(kubeconfig))
		Expect(k.Keep(ctx)).To(MatchError(ContainSubstring("reading the log API's certificate")))
		Expect(k.Ready()).NotTo(BeClosed())

		By("which stops nothing else, and ends with the manager")
		running, cancel := context.WithCancel(ctx)
		ended := make(chan error)
		go func() { ended <- k.Start(running) }()
		Consistently(ended).ShouldNot(Receive())
		cancel()
		Eventually(ended).Should(Receive(BeNil()))
		Expect(k.NeedLeaderElection()).To(BeFalse())
	})
})

// newAPIService returns that of config/logs.
func newAPIService() *unstructured.Unstructured {
	content, err := os.ReadFile(filepath.Join("..", "config", "logs", "apiservice.yaml"))
	Expect(err).NotTo(HaveOccurred())
	service := &unstructured.Unstructured{}
	Expect(yaml.Unmarshal(content, &service.Object)).To(Succeed())
	return service
}

func latestAPIService(ctx context.Context) *unstructured.Unstructured {
	GinkgoHelper()
	service := newAPIService()
	Expect(hub.Get(ctx, client.ObjectKeyFromObject(service), service)).To(Succeed())
	return service
}

// caBundle returns whom the hub's API server trusts.
func caBundle(ctx context.Context) []byte {
	GinkgoHelper()
	text, _, err := unstructured.NestedString(latestAPIService(ctx).Object, "spec", "caBundle")
	Expect(err).NotTo(HaveOccurred())
	bundle, err := base64.StdEncoding.DecodeString(text)
	Expect(err).NotTo(HaveOccurred())
	return bundle
}

func certificateKey() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: systemNamespace, Name: "pooledjob-logs-tls"}
}

func certificateSecret(ctx context.Context) *corev1.Secret {
	GinkgoHelper()
	secret := &corev1.Secret{ObjectMeta: certificateKey()}
	Expect(hub.Get(ctx, client.ObjectKeyFromObject(secret), secret)).To(Succeed())
	return secret
}

// asLogs returns a client with the roles that the log API has, and no more.
func asLogs(ctx context.Context) client.Client {
	const user = "certificate-keeper"
	content, err := os.ReadFile(filepath.Join("..", "config", "logs", "role.yaml"))
	Expect(err).NotTo(HaveOccurred())
	for i, document := range bytes.Split(content, []byte("\n---\n")) {
		meta := metav1.ObjectMeta{Name: user}
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user}
		subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}}
		var objects []client.Object
		if i == 0 {
			role := &rbacv1.ClusterRole{}
			Expect(yaml.Unmarshal(document, role)).To(Succeed())
			role.ObjectMeta = meta
			objects = []client.Object{role, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects}}
		} else {
			role := &rbacv1.Role{}
			Expect(yaml.Unmarshal(document, role)).To(Succeed())
			meta.Namespace, ref.Kind = role.Namespace, "Role"
			role.ObjectMeta = meta
			objects = []client.Object{role, &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects}}
		}
		for _, obj := range objects {
			Expect(hub.Create(ctx, obj)).To(Succeed())
			DeferCleanup(func(ctx context.Context) { Expect(hub.Delete(ctx, obj)).To(Succeed()) })
		}
	}
	kubeconfig, err := hubCluster.KubeconfigFor(user)
	Expect(err).NotTo(HaveOccurred())
	as := clientFrom(kubeconfig)
	Eventually(func() error {
		return client.IgnoreNotFound(as.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "pooledjob-logs-tls"}, &corev1.Secret{}))
	}).WithContext(ctx).Should(Succeed(), "the roles are in force")
	return as
}

func clientFrom(kubeconfig []byte) client.Client {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	Expect(err).NotTo(HaveOccurred())
	c, err := client.New(config, client.Options{Scheme: operator.scheme})
	Expect(err).NotTo(HaveOccurred())
	return c
}
