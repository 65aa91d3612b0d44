package logs

import (
	"context"
	"errors"
	"io"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pooledjob/pooledjob/internal/cli/failure"
)

const (
	// quietFailures is how many attempts to go on with a log may fail in a row before
	// people are told.
	quietFailures = 3
	// lastFailures is how many may fail in a row once the run has ended.
	lastFailures = 6
)

// Follower follows a log over all its streams: one that breaks is asked for again, and
// nothing is lost or doubled.
type Follower struct {
	// Open opens each stream.
	Open Source
	// Options say what of the log is wanted.
	Options Options
	// HasEnded reports whether the run has: a stream that ends before did not end well.
	HasEnded func(context.Context) bool
	// Patient has the first stream asked for again, too, until the run has ended.
	Patient bool
	// OnTrouble, if not nil, is called with the error when several attempts have failed.
	OnTrouble func(error)
	// BeforeWrite, if not nil, is called when something was read, and AfterWrite when it
	// was passed on.
	BeforeWrite, AfterWrite func()

	started  time.Time
	begun    bool
	failures int // in a row
}

// Follow copies the log to its end.
func (f *Follower) Follow(ctx context.Context, out io.Writer) error {
	f.started = time.Now()
	limited := &limitWriter{out: out, remaining: f.Options.Limit}
	log := newPosition(limited, &f.Options)
	backoff := failure.NewBackoff()
	for {
		copied, err := f.copyStream(ctx, log)
		if copied > 0 {
			f.begun, f.failures, backoff = true, 0, failure.NewBackoff()
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errLimit):
			return nil
		case limited.err != nil: // nobody reads us any more
			return limited.err
		case err == nil && f.HasEnded(ctx):
			return log.Flush()
		case err != nil && f.isFinal(ctx, err):
			return err
		}
		if err := failure.Pause(ctx, &backoff); err != nil {
			return err
		}
		log.Resume()
	}
}

// isFinal counts an error, and reports whether another attempt makes no sense after it.
func (f *Follower) isFinal(ctx context.Context, err error) bool {
	f.failures++
	if f.failures == quietFailures && f.OnTrouble != nil {
		f.OnTrouble(err)
	}
	switch {
	case failure.IsMissingAPI(err):
		return true
	case !f.begun && !f.Patient:
		return true
	case apierrors.IsUnauthorized(err):
		// A manager that has just started may not know yet whom the hub vouches for.
		return f.failures >= lastFailures
	case apierrors.IsForbidden(err) && f.begun:
		return f.failures >= lastFailures
	case !failure.MayPass(err) && (!f.Patient || !apierrors.IsNotFound(err)):
		return true
	}
	return f.failures >= lastFailures && f.HasEnded(ctx)
}

// copyStream copies one stream to its end.
func (f *Follower) copyStream(ctx context.Context, log position) (int64, error) {
	query := f.Options.query()
	query.Set("timestamps", "true")
	query.Del("limitBytes") // it would count the bytes of the timestamps
	if since, ok := log.Since(); ok {
		f.continueAt(query, since)
	}
	body, err := f.Open(ctx, query)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	f.begun = true
	return io.Copy(&notifyingWriter{log, f.BeforeWrite, f.AfterWrite}, body)
}

// continueAt has a query ask for what follows. Of several Pods one may be behind all
// others, or may have come while nobody listened: all of their logs are asked for again,
// from where they began, and what is known is skipped.
func (f *Follower) continueAt(query url.Values, since time.Time) {
	query.Del("tailLines")
	switch {
	case !f.Options.AllPods:
		query.Del("sinceSeconds")
		query.Set("sinceTime", since.Format(time.RFC3339))
	case f.Options.Since > 0: // counted from the first request
		query.Del("sinceSeconds")
		query.Set("sinceTime", f.started.Add(-f.Options.Since).UTC().Format(time.RFC3339))
	}
}
