package decision

import (
	"errors"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

const (
	// minRetry is the shortest wait before a creation is tried again; it
	// doubles with every refusal.
	minRetry = time.Second
	// MaxRetry is the longest of these waits.
	MaxRetry = 30 * time.Second
)

// Refusal is what a target's refusal to create a Job means.
type Refusal struct {
	// Reason is that of the condition, Message the target's own words.
	Reason, Message string
	// Final is true if the same request will never succeed.
	Final bool
	// Unknown is true if the Job may have been created all the same.
	Unknown bool
}

// Classify returns what an error of a creation means. (AlreadyExists is not a
// Refusal.)
func Classify(err error) Refusal {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		// No answer: the request may have arrived.
		return Refusal{Reason: v1alpha1.ReasonTargetError, Message: err.Error(), Unknown: true}
	}
	tooLarge := status.Status().Code == http.StatusRequestEntityTooLarge // final, whoever says so
	if !tooLarge && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) {
		// The words of something in between, such as a proxy or a login page; or
		// of the API server's own limit on requests, which lets none through.
		return Refusal{
			Reason: v1alpha1.ReasonTargetError, Message: "The answer is not a Kubernetes Status: " + err.Error(),
			Unknown: !apierrors.IsTooManyRequests(err),
		}
	}
	r := Refusal{Message: status.Status().Message}
	switch code := status.Status().Code; code {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		r.Reason, r.Final = v1alpha1.ReasonRejected, true
	case http.StatusForbidden:
		r.Reason = forbiddenReason(err)
		r.Final = r.Reason == v1alpha1.ReasonRejected
	case http.StatusNotFound:
		r.Reason = v1alpha1.ReasonTargetError
		if IsAPIServerNotFound(err) && status.Status().Details != nil && status.Status().Details.Kind == "namespaces" {
			r.Reason = v1alpha1.ReasonNamespaceNotFound
		}
	default:
		r.Reason = v1alpha1.ReasonTargetError
		r.Unknown = code >= http.StatusInternalServerError || code == 0
	}
	return r
}

// UnfulfilledReason returns why a change of a Job has not come about: the target refused it, or could not
// answer.
func UnfulfilledReason(err error) string {
	refused := apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
	if refused && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) {
		return v1alpha1.ReasonChangeRefused
	}
	return v1alpha1.ReasonTargetError
}

// forbiddenReason returns the reason for a 403. Its kinds differ only in their messages.
func forbiddenReason(err error) string {
	text := err.Error()
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return v1alpha1.ReasonNamespaceNotFound
	case strings.Contains(text, "exceeded quota:") || strings.Contains(text, "status unknown for quota:"):
		return v1alpha1.ReasonQuotaExceeded
	case strings.Contains(text, `cannot create resource "jobs"`):
		return v1alpha1.ReasonForbidden
	default:
		return v1alpha1.ReasonRejected // an admission plugin or webhook
	}
}

// IsAPIServerNotFound reports whether err is a 404 of a Kubernetes API server, not
// one that the client made up from a proxy's page.
func IsAPIServerNotFound(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// Backoff returns the wait after the n-th refusal in a row, counted from 0.
func Backoff(n int) time.Duration {
	if n > 10 {
		return MaxRetry
	}
	return min(minRetry<<n, MaxRetry)
}
