package decision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

var jobsResource = schema.GroupResource{Group: "batch", Resource: "jobs"}

// creationError is what client-go makes of an answer to the creation of a Job.
func creationError(t *testing.T, code int, contentType string, body []byte) error {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		_, _ = w.Write(body)
	}))
	defer server.Close()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	_, err = client.BatchV1().Jobs("etl").Create(t.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "job"}}, metav1.CreateOptions{})
	NewWithT(t).Expect(err).To(HaveOccurred())
	return err
}

// inWords returns an API server's answer in words that matter, through client-go.
func inWords(code int, reason metav1.StatusReason, message string, details *metav1.StatusDetails) func(*testing.T) error {
	return func(t *testing.T) error {
		t.Helper()
		body, err := json.Marshal(metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
			Code: int32(code), Reason: reason, Message: message, Details: details,
		})
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		return creationError(t, code, "application/json", body)
	}
}

// page returns the answer of a proxy before the API server, through client-go.
func page(code int) func(*testing.T) error {
	return func(t *testing.T) error {
		t.Helper()
		return creationError(t, code, "text/html", fmt.Appendf(nil, "<html><body>%s</body></html>", http.StatusText(code)))
	}
}

func plain(err error) func(*testing.T) error { return func(*testing.T) error { return err } }

var jobDetails = &metav1.StatusDetails{Group: "batch", Kind: "jobs", Name: "job"}

func TestClassify(t *testing.T) {
	const (
		rejected = v1alpha1.ReasonRejected
		troubled = v1alpha1.ReasonTargetError
	)
	type verdict struct {
		reason         string
		final, unknown bool
	}
	for name, test := range map[string]struct {
		err     func(*testing.T) error
		verdict verdict
	}{
		// The same request will never do.
		"400":               {plain(apierrors.NewBadRequest(`strict decoding error: unknown field "spec.new"`)), verdict{reason: rejected, final: true}},
		"413":               {plain(apierrors.NewRequestEntityTooLargeError("limit is 3145728")), verdict{reason: rejected, final: true}},
		"413 of a proxy":    {page(http.StatusRequestEntityTooLarge), verdict{reason: rejected, final: true}},
		"422":               {plain(apierrors.NewInvalid(schema.GroupKind{Kind: "Job"}, "job", field.ErrorList{field.Required(field.NewPath("spec"), "")})), verdict{reason: rejected, final: true}},
		"admission webhook": {inWords(http.StatusForbidden, metav1.StatusReasonForbidden, `admission webhook "deny.example.com" denied the request: not on Fridays`, nil), verdict{reason: rejected, final: true}},
		"admission policy":  {inWords(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, `jobs.batch "job" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no`, jobDetails), verdict{reason: rejected, final: true}},
		"admission plugin":  {inWords(http.StatusForbidden, metav1.StatusReasonForbidden, `jobs.batch "job" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on`, jobDetails), verdict{reason: rejected, final: true}},

		// Somebody can mend it, and nothing was created.
		"RBAC":               {inWords(http.StatusForbidden, metav1.StatusReasonForbidden, `jobs.batch is forbidden: User "jane" cannot create resource "jobs" in API group "batch" in the namespace "etl"`, jobDetails), verdict{reason: v1alpha1.ReasonForbidden}},
		"quota":              {inWords(http.StatusForbidden, metav1.StatusReasonForbidden, `jobs.batch "job" is forbidden: exceeded quota: few, requested: count/jobs.batch=1, used: count/jobs.batch=4, limited: count/jobs.batch=4`, jobDetails), verdict{reason: v1alpha1.ReasonQuotaExceeded}},
		"quota not counted":  {inWords(http.StatusForbidden, metav1.StatusReasonForbidden, `jobs.batch "job" is forbidden: status unknown for quota: few, resources: count/jobs.batch`, jobDetails), verdict{reason: v1alpha1.ReasonQuotaExceeded}},
		"namespace ends":     {inWords(http.StatusForbidden, metav1.StatusReasonForbidden, `jobs.batch "job" is forbidden: unable to create new content in namespace etl because it is being terminated`, &metav1.StatusDetails{Group: "batch", Kind: "jobs", Name: "job", Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause, Message: "namespace etl is being terminated", Field: "metadata.namespace"}}}), verdict{reason: v1alpha1.ReasonNamespaceNotFound}},
		"no namespace":       {inWords(http.StatusNotFound, metav1.StatusReasonNotFound, `namespaces "etl" not found`, &metav1.StatusDetails{Kind: "namespaces", Name: "etl"}), verdict{reason: v1alpha1.ReasonNamespaceNotFound}},
		"no such API":        {inWords(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource", &metav1.StatusDetails{}), verdict{reason: troubled}},
		"401":                {plain(apierrors.NewUnauthorized("no")), verdict{reason: troubled}},
		"conflict":           {plain(apierrors.NewConflict(jobsResource, "job", errors.New("of quota updates"))), verdict{reason: troubled}},
		"429":                {plain(apierrors.NewTooManyRequests("later", 1)), verdict{reason: troubled}},
		"429 by any clients": {page(http.StatusTooManyRequests), verdict{reason: troubled}},

		// Nobody knows whether the Job exists.
		"500":                   {plain(apierrors.NewInternalError(errors.New("failed calling webhook"))), verdict{reason: troubled, unknown: true}},
		"400 of a proxy":        {page(http.StatusBadRequest), verdict{reason: troubled, unknown: true}},
		"403 of a proxy":        {page(http.StatusForbidden), verdict{reason: troubled, unknown: true}},
		"404 of a proxy":        {page(http.StatusNotFound), verdict{reason: troubled, unknown: true}},
		"422 of a proxy":        {page(http.StatusUnprocessableEntity), verdict{reason: troubled, unknown: true}},
		"502 of a proxy":        {page(http.StatusBadGateway), verdict{reason: troubled, unknown: true}},
		"503":                   {plain(apierrors.NewServiceUnavailable("no")), verdict{reason: troubled, unknown: true}},
		"503 of a proxy":        {page(http.StatusServiceUnavailable), verdict{reason: troubled, unknown: true}},
		"504":                   {plain(apierrors.NewTimeoutError("request did not complete", 1)), verdict{reason: troubled, unknown: true}},
		"504, another":          {plain(apierrors.NewServerTimeout(jobsResource, "create", 1)), verdict{reason: troubled, unknown: true}},
		"504 of a proxy":        {page(http.StatusGatewayTimeout), verdict{reason: troubled, unknown: true}},
		"a status without code": {plain(&apierrors.StatusError{ErrStatus: metav1.Status{Message: "?"}}), verdict{reason: troubled, unknown: true}},
		"deadline":              {plain(&url.Error{Op: "Post", URL: "https://target", Err: context.DeadlineExceeded}), verdict{reason: troubled, unknown: true}},
		"connection reset":      {plain(&url.Error{Op: "Post", URL: "https://target", Err: &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}}), verdict{reason: troubled, unknown: true}},
		"an answer in no format": {func(t *testing.T) error {
			t.Helper()
			return creationError(t, http.StatusCreated, "application/json", []byte("{"))
		}, verdict{reason: troubled, unknown: true}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			err := test.err(t)
			got := Classify(err)
			g.Expect(verdict{reason: got.Reason, final: got.Final, unknown: got.Unknown}).To(Equal(test.verdict), "%v", err)
			g.Expect(got.Message).NotTo(BeEmpty())
			wrapped := Classify(fmt.Errorf("creating: %w", err))
			g.Expect(verdict{reason: wrapped.Reason, final: wrapped.Final, unknown: wrapped.Unknown}).To(Equal(test.verdict), "wrapped")
		})
	}
}

func TestClassifyQuotesTheTarget(t *testing.T) {
	g := NewWithT(t)
	const words = `admission webhook "deny.example.com" denied the request: not on Fridays`
	err := inWords(http.StatusForbidden, metav1.StatusReasonForbidden, words, nil)(t)
	g.Expect(Classify(fmt.Errorf("creating: %w", err)).Message).To(Equal(words))
	g.Expect(Classify(context.DeadlineExceeded).Message).To(Equal(context.DeadlineExceeded.Error()))
}

func TestOnlyAnAPIServersWordProvesAbsence(t *testing.T) {
	for name, test := range map[string]struct {
		err    func(*testing.T) error
		proves bool
	}{
		"a Job":             {inWords(http.StatusNotFound, metav1.StatusReasonNotFound, `jobs.batch "job" not found`, jobDetails), true},
		"wrapped":           {plain(fmt.Errorf("reading: %w", apierrors.NewNotFound(jobsResource, "job"))), true},
		"a page of a proxy": {page(http.StatusNotFound), false},
		"plain text": {func(t *testing.T) error {
			t.Helper()
			return creationError(t, http.StatusNotFound, "text/plain", []byte("404 page not found"))
		}, false},
		"no body": {func(t *testing.T) error {
			t.Helper()
			return creationError(t, http.StatusNotFound, "application/json", nil)
		}, false},
		"a proxy's JSON": {func(t *testing.T) error {
			t.Helper()
			return creationError(t, http.StatusNotFound, "application/json", []byte(`{"error":"no route"}`))
		}, false},
		"forbidden":                     {plain(apierrors.NewForbidden(jobsResource, "job", nil)), false},
		"no answer":                     {plain(context.DeadlineExceeded), false},
		"no error":                      {plain(nil), false},
		"a text that only says so":      {plain(errors.New(`jobs.batch "job" not found`)), false},
		"a server that is said missing": {plain(apierrors.NewServiceUnavailable("not found")), false},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.err(t)
			NewWithT(t).Expect(IsAPIServerNotFound(err)).To(Equal(test.proves), "%v", err)
		})
	}
}

func TestBackoff(t *testing.T) {
	g := NewWithT(t)
	g.Expect(Backoff(0)).To(Equal(minRetry))
	g.Expect(Backoff(1)).To(Equal(2 * minRetry))
	before := time.Duration(0)
	for n := range 200 {
		wait := Backoff(n)
		g.Expect(wait).To(BeNumerically(">=", before), "after %d refusals", n)
		g.Expect(wait).To(BeNumerically("<=", MaxRetry), "after %d refusals", n)
		before = wait
	}
	g.Expect(before).To(Equal(MaxRetry))
	g.Expect(Backoff(1 << 30)).To(Equal(MaxRetry))
}
