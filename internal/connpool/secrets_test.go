package connpool

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const secretToken = "s3cret-t0ken-that-must-not-show"

var _ = Describe("The token and key of a connection", func() {
	// tokenOnly presents the token and nothing else.
	tokenOnly := func() Config {
		config := adminConfig(nil)
		config.CertData, config.KeyData, config.Token = nil, nil, secretToken
		return config
	}
	both := func(user Config) Config {
		user.Token = secretToken
		return user
	}
	DescribeTable("do not appear in errors or the log when connecting fails by",
		func(ctx context.Context, makeConfig func() Config, state State) {
			r := newRig()
			config := makeConfig()
			r.pool.Connect(target, config)
			Eventually(ctx, r.stateOf(target)).Should(Equal(state))
			_, err := r.pool.Lease(target, "")
			r.expectNoSecret(config, err, r.status().Err)
		},
		Entry("401", tokenOnly, Rejected),
		Entry("401 of a server of our own", func() Config {
			s := newAPIServer()
			s.answer(identityPath, answerError(apierrors.NewUnauthorized("who are you?")))
			return s.config(secretToken)
		}, Rejected),
		Entry("401 that sends the header back", func() Config {
			s := newAPIServer()
			s.answer(identityPath, answerError(apierrors.NewUnauthorized("not with Bearer "+secretToken)))
			return s.config(secretToken)
		}, Rejected),
		Entry("a page that sends the header back", func() Config {
			s := newAPIServer()
			s.answer(identityPath, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusBadGateway)
				fmt.Fprintln(w, r.Header)
			})
			return s.config(secretToken)
		}, Unreachable),
		Entry("403", func() Config { return userConfig(uniqueName("user")) }, Forbidden),
		Entry("a wrong CA", func() Config {
			config := both(adminConfig(nil))
			config.CAData = caOf(newAPIServer().Certificate())
			return config
		}, Unreachable),
		Entry("a refused connection", func() Config {
			config := both(adminConfig(nil))
			config.Server = "https://" + closedAddress()
			return config
		}, Unreachable),
		Entry("an invalid key", func() Config {
			config := both(adminConfig(nil))
			config.KeyData = []byte(strings.Replace(string(config.KeyData), "KEY-----\n", "KEY-----\n!", 1))
			return config
		}, Unreachable),
		Entry("an invalid address", func() Config {
			config := both(adminConfig(nil))
			config.Server = "https://127.0.0.1:port"
			return config
		}, Unreachable),
	)

	It("do not appear as ClusterUID when the server sends the token as its UID", func(ctx context.Context) {
		s := newAPIServer()
		s.answer(identityPath, answerJSON(&corev1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: secretToken},
		}))
		r := newRig()
		r.pool.Connect(target, s.config(secretToken))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Unreachable))
		Expect(r.status().ClusterUID).To(BeEmpty())
	})

	It("appear redacted in KubernetesVersion when the server sends the token in its version", func(ctx context.Context) {
		s := newAPIServer()
		s.answer(versionPath, answerJSON(map[string]string{"gitVersion": "v1." + secretToken}))
		r := newRig()
		r.connect(ctx, target, s.config(secretToken))
		Expect(r.status().KubernetesVersion).To(Equal("v1.[redacted]"))
		Expect(r.log()).NotTo(ContainSubstring(secretToken))
	})

	It("do not appear in the errors of a lease", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig()
		config := s.config(secretToken)
		lease := r.connect(ctx, target, config)
		for _, answer := range []*apierrors.StatusError{
			apierrors.NewUnauthorized("no"), apierrors.NewBadRequest("header was " + secretToken), apierrors.NewForbidden(batchJobs, "job", nil), apierrors.NewNotFound(batchJobs, "job"),
		} {
			s.answer(jobPath, answerError(answer))
			_, err := lease.GetJob(ctx, "default", "job")
			_, patching := lease.PatchJob(ctx, "default", "job", []byte("{}"))
			r.expectNoSecret(config, err, lease.DeleteJob(ctx, "default", "job", "uid", ""), patching)
		}
		s.CloseClientConnections()
		s.Listener.Close()
		Eventually(ctx, r.stateOf(target)).Should(Equal(Unreachable))
		_, err := r.pool.Lease(target, "")
		r.expectNoSecret(config, err, r.status().Err)
	})
})

// expectNoSecret looks for the token and for every line of the key in errors, which
// must have occurred, and in the log, once it has something.
func (r *rig) expectNoSecret(config Config, errs ...error) {
	EventuallyWithOffset(1, r.log).Should(ContainSubstring("onnected"), "the state changes before it is logged")
	texts := []string{r.log()}
	for _, err := range errs {
		ExpectWithOffset(1, err).To(HaveOccurred())
		texts = append(texts, err.Error())
	}
	secrets := strings.Fields(config.Token)
	for line := range strings.Lines(string(config.KeyData)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "-----") {
			secrets = append(secrets, line)
		}
	}
	ExpectWithOffset(1, secrets).NotTo(BeEmpty())
	for _, text := range texts {
		ExpectWithOffset(1, text).NotTo(BeEmpty())
		for _, secret := range secrets {
			ExpectWithOffset(1, text).NotTo(ContainSubstring(secret))
		}
	}
}

// closedAddress returns one where nobody listens.
func closedAddress() string {
	listener, err := listen("127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	defer listener.Close()
	return listener.Addr().String()
}
