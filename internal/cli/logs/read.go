package logs

import (
	"context"
	"fmt"
	"io"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/internal/cli/failure"
)

// Read copies a log once, without waiting for more.
func Read(ctx context.Context, open Source, options *Options, out io.Writer) error {
	body, err := open(ctx, options.query())
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err = io.Copy(out, body); err != nil {
		return fmt.Errorf("the log broke off: %w; ask for it again", err)
	}
	return nil
}

// Explain puts the error of a log that cannot be had into a sentence that says what to do.
func Explain(err error) error {
	switch {
	case failure.IsMissingAPI(err):
		return failure.Advisef(err, "the hub does not serve logs: ask who runs it to install PooledJob's log API (see docs/operations.md)")
	case apierrors.IsServiceUnavailable(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse):
		return failure.Advisef(err, "the hub's log API does not answer (%v): ask who runs the hub whether the manager is up", err)
	case apierrors.IsForbidden(err):
		return failure.Advisef(err, "%v; ask for the right to get pooledjobs/log in that namespace (the role view has it)", err)
	case apierrors.IsTooManyRequests(err):
		return failure.Advisef(err, "%v; end another follower, or try again later", err)
	}
	return err
}
