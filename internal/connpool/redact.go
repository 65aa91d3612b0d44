package connpool

import (
	"errors"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	redacted = "[redacted]"
	// minSecret is the length, in bytes, from which a token is looked for: a
	// shorter one guards nothing, and would be found in any words.
	minSecret = 8
)

// redactText takes the token out of a text.
func redactText(text, token string) string {
	if len(token) < minSecret {
		return text
	}
	return strings.ReplaceAll(text, token, redacted)
}

// redact takes the token out of an error: a target, or something in between, can
// send back what it was sent, and its words end in conditions and logs. Of the
// error's kind only that of a Status is kept, which is all that callers look at.
func redact(err error, token string) error {
	if err == nil || len(token) < minSecret || !strings.Contains(err.Error(), token) {
		return err
	}
	var hidden *notSentError
	if errors.As(err, &hidden) {
		return &notSentError{redact(hidden.cause, token)}
	}
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return errors.New(redactText(err.Error(), token))
	}
	clean := &apierrors.StatusError{ErrStatus: *status.ErrStatus.DeepCopy()}
	clean.ErrStatus.Message = redactText(clean.ErrStatus.Message, token)
	if details := clean.ErrStatus.Details; details != nil {
		details.Name = redactText(details.Name, token)
		for i := range details.Causes {
			details.Causes[i].Message = redactText(details.Causes[i].Message, token)
		}
	}
	return clean
}
