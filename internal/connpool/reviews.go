package connpool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/internal/connpool/sanitize"
	"github.com/pooledjob/pooledjob/internal/connpool/transport"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// right is one that a connection needs.
type right struct{ group, resource, name, verb string }

// neededEverywhere is needed once, neededInScope in each namespace of a connection.
var (
	neededEverywhere = []right{{"", "namespaces", metav1.NamespaceSystem, "get"}}
	neededInScope    = []right{
		{"batch", "jobs", "", "list"},
		{"batch", "jobs", "", "watch"},
		{"batch", "jobs", "", "get"},
		{"batch", "jobs", "", "create"},
		{"batch", "jobs", "", "patch"},
		{"batch", "jobs", "", "delete"},
		{"", "pods", "", "list"},
		{"", "pods", "", "watch"},
		{"", "pods", "", "delete"},
	}
)

func (r right) String() string {
	words := r.verb + " " + r.resource
	if r.group != "" {
		words += "." + r.group
	}
	if r.name != "" {
		words += fmt.Sprintf(" %q", r.name)
	}
	return words
}

// deniedError is a target's denial and what the identity may not do there.
type deniedError struct {
	denial  error
	missing []string
}

func (e *deniedError) Error() string {
	return "missing rights: " + strings.Join(e.missing, "; ") + ". " + e.denial.Error()
}

func (e *deniedError) Unwrap() error { return e.denial }

// isSame reports whether an error says nothing new after the one before. Of two denials
// it depends on chance which the target met first, and whether it could be asked for
// the others: only other missing rights are new. Who is expected where another
// cluster answers differs among those who share a connection.
func isSame(before, now error) bool {
	var denied, deniedNow *deniedError
	var other, otherNow *identityError
	switch {
	case errors.As(before, &other) && errors.As(now, &otherNow):
		return other.got == otherNow.got
	case apierrors.IsUnauthorized(before) && apierrors.IsUnauthorized(now):
		return true // an API server says no more of it than that
	case isForbidden(before) && isForbidden(now):
		was, is := errors.As(before, &denied), errors.As(now, &deniedNow)
		return !is || (was && slices.Equal(denied.missing, deniedNow.missing))
	}
	return text(before) == text(now)
}

// explainDenial asks the target which of the rights that are needed in the scopes the
// identity does not have. The target's denial names only the first that it met. What it
// says of the others decides nothing: it explains. Without an answer the denial stays
// as it is.
func (s *session) explainDenial(ctx context.Context, scopes []string, denial error) (lacking bool, why error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.RequestTimeout)
	defer cancel()
	missing, err := s.missingOf(ctx, neededEverywhere, "")
	for _, scope := range scopes {
		if err != nil {
			break
		}
		var lacks []string
		lacks, err = s.missingOf(ctx, neededInScope, scope)
		missing = append(missing, lacks...)
	}
	if err != nil || len(missing) == 0 {
		return false, denial
	}
	return true, &deniedError{denial: denial, missing: missing}
}

// review asks the target what the identity may do.
func (s *session) review(ctx context.Context, review *authorizationv1.SelfSubjectAccessReview) (*authorizationv1.SelfSubjectAccessReview, error) {
	answer := &authorizationv1.SelfSubjectAccessReview{}
	request := s.transport.Core.RESTClient().Post().AbsPath("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").Body(review)
	return answer, transport.Read(ctx, request, reviewSchema, answer)
}

// missingOf returns those rights that the identity does not have in one scope, in words.
func (s *session) missingOf(ctx context.Context, rights []right, scope string) ([]string, error) {
	var missing []string
	for _, r := range rights {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: scope, Group: r.group, Resource: r.resource, Name: r.name, Verb: r.verb,
			},
		}}
		answer, err := s.review(ctx, review)
		if err != nil {
			return nil, err
		}
		if !answer.Status.Allowed {
			missing = append(missing, r.String())
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	where := ""
	switch {
	case scope != allNamespaces:
		where = fmt.Sprintf(" in namespace %q", scope)
	case rights[0].name == "":
		where = " in all namespaces"
	}
	return []string{strings.Join(missing, ", ") + where}, nil
}

// reviewSchema is what is kept of the answer to whether a right is granted.
var reviewSchema = prune.NewSchema(&authorizationv1.SelfSubjectAccessReview{}, "SelfSubjectAccessReview", sanitize.SmallBounds, prune.Fields{
	"status": prune.Message(prune.Fields{"allowed": prune.Number(), "reason": prune.Text(prune.MaxWords)}),
})
