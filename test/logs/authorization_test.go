package logs

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var _ = Describe("A reader of a log", Ordered, func() {
	var r *run

	BeforeAll(func(ctx context.Context) {
		r = submit(ctx, 1)
		pod, log := r.started(ctx)
		log.Print("secret")
		r.end(ctx, pod, 0)
	})

	DescribeTable("needs the right to get the PooledJob and its log",
		func(ctx context.Context, user string, code int, words ...string) {
			for _, query := range []string{"", "follow=true"} {
				got := readAs(ctx, user, r, query)
				if code == http.StatusOK {
					Expect(got).To(haveLog("secret\n"))
				} else {
					Expect(got).To(beRefused(code, words...))
				}
			}
		},
		Entry("pooledjob-editor has it", editor, http.StatusOK),
		Entry("pooledjob-viewer has it", viewer, http.StatusOK),
		Entry("the log alone is not enough", onlyLogs, http.StatusForbidden, "cannot get the PooledJob"),
		Entry("the PooledJob alone is not enough", onlyJobs, http.StatusForbidden, `cannot get resource "pooledjobs/log" in API group "stream.pooledjob.io"`),
		Entry("a stranger has nothing", stranger, http.StatusForbidden),
	)

	It("gets 403 for a PooledJob in a namespace without rights", func(ctx context.Context) {
		elsewhere := &run{PooledJob: r.DeepCopy()}
		elsewhere.Namespace = "team-b"
		Expect(readAs(ctx, editor, elsewhere, "")).To(beRefused(http.StatusForbidden))
	})

	It("gets 404 for a PooledJob that does not exist", func(ctx context.Context) {
		other := &run{PooledJob: r.DeepCopy()}
		other.Name = "nobody"
		Expect(readAs(ctx, editor, other, "")).To(beRefused(http.StatusNotFound, `"nobody" not found`))
	})

	It("may ask the manager's port directly with a ServiceAccount token", func(ctx context.Context) {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "reader"}}
		Expect(hub.Create(ctx, account)).To(Succeed())
		bind(ctx, "reader", "pooledjob-viewer", rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "team-a", Name: "reader"})
		request := &authenticationv1.TokenRequest{}
		Expect(hub.SubResource("token").Create(ctx, account, request)).To(Succeed())
		Eventually(func() answer {
			return askPort(ctx, r, nil, http.Header{"Authorization": {"Bearer " + request.Status.Token}})
		}).Should(haveLog("secret\n"))
	})

	DescribeTable("gets 401 from the manager's port with",
		func(ctx context.Context, certificate func() []tls.Certificate, header http.Header) {
			Expect(askPort(ctx, r, certificate(), header)).To(beRefused(http.StatusUnauthorized))
		},
		Entry("no credential", noCertificate, http.Header{}),
		Entry("an invalid token", noCertificate, http.Header{"Authorization": {"Bearer made-up"}}),
		Entry("forged headers", noCertificate, forged),
		Entry("forged headers and a self-signed certificate", func() []tls.Certificate { return []tls.Certificate{ownCertificate()} }, forged),
		Entry("forged headers and a certificate of a user of the hub", func() []tls.Certificate { return []tls.Certificate{certificateOf(editor)} }, forged),
	)

	It("finds pooledjobs/log in the hub's API discovery", func(ctx context.Context) {
		response, err := ask(ctx, editor, "/apis/stream.pooledjob.io/v1alpha1")
		Expect(err).NotTo(HaveOccurred())
		Expect(read(response).Text).To(And(ContainSubstring(`"pooledjobs/log"`), ContainSubstring(`"APIResourceList"`)))
	})
})

// forged is what only the hub's API server may say.
var forged = http.Header{"X-Remote-User": {"system:admin"}, "X-Remote-Group": {"system:masters"}}

func noCertificate() []tls.Certificate { return nil }

// ownCertificate returns one of a name that the hub's API server has, signed by nobody whom
// the manager knows.
func ownCertificate() tls.Certificate {
	certificate, err := selfSigned("front-proxy-client")
	Expect(err).NotTo(HaveOccurred())
	return certificate
}

// certificateOf returns that of a user of the hub.
func certificateOf(user string) tls.Certificate {
	kubeconfig, err := env.Hub.KubeconfigFor(user)
	Expect(err).NotTo(HaveOccurred())
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	Expect(err).NotTo(HaveOccurred())
	certificate, err := tls.X509KeyPair(config.CertData, config.KeyData)
	Expect(err).NotTo(HaveOccurred())
	return certificate
}

// askPort reads a log at the port of the manager that serves.
func askPort(ctx context.Context, r *run, certificates []tls.Certificate, header http.Header) answer {
	c := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{Certificates: certificates, InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d%s", servingPort(ctx), logPath(r, "")), http.NoBody)
	Expect(err).NotTo(HaveOccurred())
	request.Header = header
	response, err := c.Do(request)
	Expect(err).NotTo(HaveOccurred())
	return read(response)
}

// servingPort returns where the hub asks for logs.
func servingPort(ctx context.Context) int64 {
	service := apiService(Default, ctx)
	port, _, err := unstructured.NestedInt64(service.Object, "spec", "service", "port")
	Expect(err).NotTo(HaveOccurred())
	return port
}

func apiService(g Gomega, ctx context.Context) *unstructured.Unstructured {
	service := &unstructured.Unstructured{}
	service.SetAPIVersion("apiregistration.k8s.io/v1")
	service.SetKind("APIService")
	g.Expect(hub.Get(ctx, client.ObjectKey{Name: "v1alpha1.stream.pooledjob.io"}, service)).To(Succeed())
	return service
}
