package transport

import (
	"errors"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	redacted = "[redacted]"
	// minSecret is the length, in bytes, from which a token is looked for: a
	// shorter one guards nothing, and would be found in any words.
	minSecret = 8
)

// RedactText takes the token out of a text.
func RedactText(text, token string) string {
	if len(token) < minSecret {
		return text
	}
	return strings.ReplaceAll(text, token, redacted)
}

// Redact takes the token out of an error: a target, or something in between, can
// send back what it was sent, and its words end in conditions and logs. It cuts words that
// are too long: many runs may hold an error each. Of the error's kind only that of a Status is
// kept, which is all that callers look at.
func Redact(err error, token string) error {
	if err == nil || !isUnclean(err, token) {
		return err
	}
	var hidden *notSentError
	if errors.As(err, &hidden) {
		return &notSentError{Redact(hidden.cause, token)}
	}
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return errors.New(cleanText(err.Error(), token))
	}
	clean := &apierrors.StatusError{ErrStatus: *status.ErrStatus.DeepCopy()}
	clean.ErrStatus.Message = cleanText(clean.ErrStatus.Message, token)
	clean.ErrStatus.Reason = metav1.StatusReason(cleanText(string(clean.ErrStatus.Reason), token))
	if details := clean.ErrStatus.Details; details != nil {
		details.Name = cleanText(details.Name, token)
		details.Group, details.Kind = cleanText(details.Group, token), cleanText(details.Kind, token)
		details.UID = types.UID(cleanText(string(details.UID), token))
		details.Causes = slices.Clone(details.Causes[:min(len(details.Causes), maxCauses)])
		for i := range details.Causes {
			cause := &details.Causes[i]
			cause.Message, cause.Field = cleanText(cause.Message, token), cleanText(cause.Field, token)
			cause.Type = metav1.CauseType(cleanText(string(cause.Type), token))
		}
	}
	return clean
}

const (
	// maxErrorText is how much of what a target says is wrong is kept, in bytes.
	maxErrorText = 4 << 10
	// maxCauses is how many causes of an error are kept.
	maxCauses = 16
)

// isUnclean reports whether an error, or what it says beside its words, must be cleaned.
func isUnclean(err error, token string) bool {
	texts := []string{err.Error()}
	var status *apierrors.StatusError
	if errors.As(err, &status) && status.ErrStatus.Details != nil {
		details := status.ErrStatus.Details
		if len(details.Causes) > maxCauses {
			return true
		}
		texts = append(texts, details.Name, details.Group, details.Kind, string(details.UID), string(status.ErrStatus.Reason))
		for _, cause := range details.Causes {
			texts = append(texts, cause.Message, cause.Field, string(cause.Type))
		}
	}
	return slices.ContainsFunc(texts, func(text string) bool {
		return len(text) > maxErrorText || (len(token) >= minSecret && strings.Contains(text, token))
	})
}

// cleanText takes the token out of a text, and cuts it.
func cleanText(text, token string) string {
	text = RedactText(text, token)
	if len(text) <= maxErrorText {
		return text
	}
	return strings.ToValidUTF8(text[:maxErrorText], "") + "..."
}
