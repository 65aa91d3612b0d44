package connpool

import (
	"context"
	"errors"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var _ = Describe("A target that denies access", func() {
	It("makes the connection Rejected when it refuses the credentials from the start", func(ctx context.Context) {
		r := newRig()
		config := adminConfig(nil)
		config.CertData, config.KeyData, config.Token = nil, nil, "nobody-knows-it"
		r.pool.Connect(target, config)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Rejected))
		Expect(apierrors.IsUnauthorized(r.status().Err)).To(BeTrue())
		Consistently(ctx, r.transitions).Should(Equal([]State{Rejected}), "attempts that fail as the last are no news")
		_, err := r.pool.Lease(target, "")
		var notReady *NotReadyError
		Expect(errors.As(err, &notReady)).To(BeTrue(), "%v", err)
	})

	It("makes a Ready connection Rejected after one probe that is answered 401", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig()
		lease := r.connect(ctx, target, s.config("token"))
		probes := len(s.asked(readyPath))
		s.answer(identityPath, answerError(apierrors.NewUnauthorized("no more")))
		s.answer(readyPath, func(w http.ResponseWriter, q *http.Request) {
			probes = -len(s.asked(readyPath)) // at the first denial
			s.answer(readyPath, answerError(apierrors.NewUnauthorized("no more")))
			answerError(apierrors.NewUnauthorized("no more"))(w, q)
		})
		Eventually(ctx, r.stateOf(target)).Should(Equal(Rejected))
		Expect(s.asked(readyPath)).To(HaveLen(-probes), "more probes after the one that was denied")
		Expect(r.transitions()).To(Equal([]State{Ready, Rejected}))
		expectClosed(ctx, lease)
	})

	It("makes the connection Rejected, and never Ready, when it answers only probes with 401", func(ctx context.Context) {
		s := newAPIServer()
		s.answer(readyPath, answerError(apierrors.NewUnauthorized("no")))
		r := newRig()
		r.pool.Connect(target, s.config("token"))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Rejected))
		Consistently(ctx, r.transitions).Should(Equal([]State{Rejected}))
	})

	It("makes the connection Rejected when it answers only a watch with 401", func(ctx context.Context) {
		s := newAPIServer()
		s.answer(podsPath, answerError(apierrors.NewUnauthorized("not for Pods")))
		r := newRig()
		r.pool.Connect(target, s.config("token"))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Rejected))
		Expect(r.status().Err).To(MatchError(ContainSubstring("not for Pods")))
	})

	It("makes the connection Forbidden with the target's message, and Ready once the rights are granted", func(ctx context.Context) {
		user := uniqueName("user")
		r := newRig()
		r.pool.Connect(target, userConfig(user))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Forbidden))
		Expect(r.status().Err).To(MatchError(ContainSubstring(`cannot get resource "namespaces"`)))

		grant(ctx, user, "", "namespaces", "get")
		grant(ctx, user, "batch", "jobs", "get", "list", "watch")
		Eventually(ctx, func() error { return r.status().Err }).Should(MatchError(ContainSubstring(`cannot list resource "pods"`)))
		Expect(r.stateOf(target)()).To(Equal(Forbidden))
		_, err := r.pool.Lease(target, "")
		Expect(err).To(MatchError(And(ContainSubstring("is Forbidden"), ContainSubstring(user))))

		grant(ctx, user, "", "pods", "list", "watch")
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		Expect(r.status().Err).NotTo(HaveOccurred())
	})

	It("leaves the connection Ready when it answers probes with 403", func(ctx context.Context) {
		s := newAPIServer()
		denied := answerError(apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("cannot get path /readyz")))
		s.answer(readyPath, denied)
		r := newRig(func(o *Options) { o.ProbeInterval = 50 * time.Millisecond })
		r.connect(ctx, target, s.config("token"))
		Eventually(ctx, func() []request { return s.asked(readyPath) }).Should(HaveLen(2 * probeFailures))
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})
})

var _ = Describe("A connection that reaches another cluster", func() {
	It("becomes IdentityChanged and gives no lease when another cluster UID was recorded", func(ctx context.Context) {
		r := newRig()
		config := adminConfig(nil)
		config.ClusterUID = "another"
		r.pool.Connect(target, config)
		Eventually(ctx, r.stateOf(target)).Should(Equal(IdentityChanged))
		Expect(r.status().Err).To(MatchError(And(ContainSubstring(clusterUID), ContainSubstring("not another"))))
		_, err := r.pool.Lease(target, "")
		Expect(err).To(MatchError(ContainSubstring("is IdentityChanged")))
		Consistently(ctx, r.transitions).Should(Equal([]State{IdentityChanged}))
	})

	It("becomes IdentityChanged and closes its lease when the cluster UID differs from the first contact", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(func(o *Options) { o.ProbeInterval = 50 * time.Millisecond })
		lease := r.connect(ctx, target, s.config("token"))
		s.answer(identityPath, answerJSON(&corev1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: "rebuilt"},
		}))
		Expect(lease.ReadClusterUID(ctx)).To(Equal("rebuilt"))
		s.CloseClientConnections()
		Eventually(ctx, r.stateOf(target)).Should(Equal(IdentityChanged))
		Expect(r.transitions()).NotTo(ContainElement(Unreachable))
		Expect(r.status().Err).To(MatchError(ContainSubstring("rebuilt")))
		expectClosed(ctx, lease)
	})
})

var _ = Describe("The credential of a connection", func() {
	It("reaches only the named server, even if that answers with a redirect", func(ctx context.Context) {
		elsewhere, s := newAPIServer(), newAPIServer()
		redirect := func(code int) http.HandlerFunc {
			return func(w http.ResponseWriter, q *http.Request) {
				http.Redirect(w, q, elsewhere.URL+q.URL.Path, code)
			}
		}
		r := newRig(func(o *Options) { o.ProbeInterval = 50 * time.Millisecond })
		lease := r.connect(ctx, target, s.config("token"))
		for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect} {
			s.answer(jobPath, redirect(code))
			s.answer("/apis/batch/v1/namespaces/default/jobs", redirect(code))
			_, err := lease.GetJob(ctx, "default", "job")
			Expect(err).To(HaveOccurred())
			_, _, err = lease.CreateJob(ctx, toCreate(r.newJob()))
			Expect(err).To(HaveOccurred())
			Expect(lease.DeleteJob(ctx, "default", "job", "uid", "")).NotTo(Succeed())
		}
		for _, path := range []string{readyPath, jobsPath, podsPath, identityPath} {
			s.answer(path, redirect(http.StatusFound))
		}
		Eventually(ctx, r.stateOf(target)).Should(Equal(Unreachable))
		Consistently(ctx, func() []request { return elsewhere.asked("") }).Should(BeEmpty())
		Expect(s.asked(jobPath)[0].header.Get("Authorization")).To(Equal("Bearer token"))
	})

	It("never goes to a link-local address, which is not dialled", func(ctx context.Context) {
		r := newRig()
		r.pool.Connect(target, Config{Identity: Identity{Server: "https://169.254.169.254", Token: "token"}})
		Eventually(ctx, r.stateOf(target)).Should(Equal(Unreachable))
		Expect(r.status().Err).To(MatchError(ContainSubstring("169.254.169.254 is link-local and is never dialled")))
	})
})
