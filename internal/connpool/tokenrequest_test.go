package connpool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pooledjob/pooledjob/internal/connpool/transport"
)

var _ = Describe("A token of a ServiceAccount", func() {
	const (
		path  = "/api/v1/namespaces/default/serviceaccounts/me/token"
		other = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJub2JvZHkifQ.c2ln"
	)
	hour := int64(3600)
	spec := authenticationv1.TokenRequestSpec{ExpirationSeconds: &hour, Audiences: []string{"https://kubernetes.default.svc", "another"}}
	answerToken := func(token string) http.HandlerFunc {
		return answerCode(http.StatusCreated, &authenticationv1.TokenRequest{
			TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"},
			Status:   authenticationv1.TokenRequestStatus{Token: token},
		})
	}
	answerWords := func(code int, words string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprint(w, words)
		}
	}

	It("belongs to that account and has the requested audience", func(ctx context.Context) {
		r := newRig()
		lease := r.connect(ctx, target, adminConfig(nil))
		name := uniqueName("account")
		_, err := client.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		Expect(err).NotTo(HaveOccurred())
		token, err := lease.RequestToken(ctx, "default", name, spec)
		Expect(err).NotTo(HaveOccurred())
		review, err := client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{"another"}},
		}, metav1.CreateOptions{})
		Expect(err).NotTo(HaveOccurred())
		Expect(review.Status.Authenticated).To(BeTrue(), review.Status.Error)
		Expect(review.Status.User.Username).To(Equal("system:serviceaccount:default:" + name))
		_, err = lease.RequestToken(ctx, "default", "nobody", spec)
		Expect(apierrors.IsNotFound(err)).To(BeTrue(), "%v", err)
	})

	It("gets requested with the identity that the lease uses", func(ctx context.Context) {
		s := newAPIServer()
		s.answer(path, answerToken(other))
		r := newRig()
		config := s.config("token-of-old")
		lease := r.connect(ctx, target, config)
		Expect(lease.Uses(config.Identity)).To(BeTrue())
		Expect(lease.Uses(s.config("another-token").Identity)).To(BeFalse())
		token, err := lease.RequestToken(ctx, "default", "me", spec)
		Expect(err).NotTo(HaveOccurred())
		Expect(token).To(Equal(other))
		asked := s.asked(path)
		Expect(asked).To(HaveLen(1))
		Expect(asked[0].header.Get("Authorization")).To(Equal("Bearer token-of-old"))
	})

	DescribeTable("stays empty, and shows in no error, when the answer is",
		func(ctx context.Context, answer http.HandlerFunc, kind func(error) bool) {
			s := newAPIServer()
			s.answer(path, answer)
			r := newRig()
			lease := r.connect(ctx, target, s.config("token"))
			token, err := lease.RequestToken(ctx, "default", "me", spec)
			Expect(token).To(BeEmpty())
			Expect(err).To(HaveOccurred())
			Expect(kind(err)).To(BeTrue(), "%v", err)
			Expect(err.Error()).NotTo(ContainSubstring("eyJ"))
			Expect(s.asked(path)).To(HaveLen(1), "it is asked for once")
		},
		Entry("an empty object", answerJSON(struct{}{}), isNotKube),
		Entry("an empty token", answerToken(""), isNotKube),
		Entry("two tokens", answerToken(other+" "+other), isNotKube),
		Entry("a token that is too long", answerToken(strings.Repeat("a", maxToken+1)), isNotKube),
		Entry("an object of another kind", answerJSON(&corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}}), anyError),
		Entry("a page", answerPage(http.StatusOK), anyError),
		Entry("a token and nothing else", answerWords(http.StatusOK, other), anyError),
		Entry("a failure with the token", answerWords(http.StatusBadGateway, `{"status":{"token":"`+other+`"}}`), anyError),
		Entry("a refusal", answerError(apierrors.NewForbidden(schema.GroupResource{Resource: "serviceaccounts/token"}, "me", fmt.Errorf("not for %s", other))), apierrors.IsForbidden),
	)

	It("fails with DeadlineExceeded when the caller's context ends first", func(ctx context.Context) {
		s := newAPIServer()
		s.answer(path, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		r := newRig()
		lease := r.connect(ctx, target, s.config("token"))
		bounded, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		_, err := lease.RequestToken(bounded, "default", "me", spec)
		Expect(err).To(MatchError(context.DeadlineExceeded))
		s.answer(path, answerToken(other))
		Expect(lease.RequestToken(ctx, "default", "me", spec)).To(Equal(other), "the connection goes on")
	})
})

func isNotKube(err error) bool { return errors.Is(err, transport.ErrNotKube) }

func anyError(err error) bool { return err != nil }
