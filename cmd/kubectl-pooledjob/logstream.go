package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/logcursor"
)

// logGroup is the aggregated API that hands logs out.
var logGroup = schema.GroupVersion{Group: "stream.pooledjob.io", Version: "v1alpha1"}

// logOptions say what of a log is wanted; they mean what they mean for Pod logs.
type logOptions struct {
	container, pod       string
	allPods, follow      bool
	timestamps, previous bool
	tail, limit          int64 // negative is all
	since                time.Duration
	sinceTime            string
}

func (o *logOptions) query() url.Values {
	q := url.Values{}
	text := map[string]string{"container": o.container, "pod": o.pod, "sinceTime": o.sinceTime}
	if o.tail >= 0 {
		text["tailLines"] = strconv.FormatInt(o.tail, 10)
	}
	if o.limit >= 0 {
		text["limitBytes"] = strconv.FormatInt(o.limit, 10)
	}
	if o.since > 0 {
		// Rounded up, so that the log begins no later than asked for.
		text["sinceSeconds"] = strconv.FormatInt(int64((o.since+time.Second-1)/time.Second), 10)
	}
	for key, set := range map[string]bool{"allPods": o.allPods, "follow": o.follow, "timestamps": o.timestamps, "previous": o.previous} {
		if set {
			text[key] = "true"
		}
	}
	for key, value := range text {
		if value != "" {
			q.Set(key, value)
		}
	}
	return q
}

// logSource opens the log of one PooledJob.
type logSource func(ctx context.Context, query url.Values) (io.ReadCloser, error)

// logsOf is the log of a PooledJob by the hub's API.
func logsOf(hub *cluster.Client, key client.ObjectKey) (logSource, error) {
	config := rest.CopyConfig(hub.Config)
	config.Timeout = 0 // it would end a stream
	config.GroupVersion, config.APIPath = &logGroup, "/apis"
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	api, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, query url.Values) (io.ReadCloser, error) {
		request := api.Get().Namespace(key.Namespace).Resource("pooledjobs").Name(key.Name).SubResource("log").MaxRetries(0)
		for name := range query {
			request.Param(name, query.Get(name))
		}
		return request.Stream(ctx)
	}, nil
}

// readLog copies a log once, without waiting for more.
func readLog(ctx context.Context, open logSource, options *logOptions, out io.Writer) error {
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

const (
	// quietFailures is how many attempts to go on with a log may fail in a row before
	// people are told.
	quietFailures = 3
	// lastFailures is how many may fail in a row once the run has ended.
	lastFailures = 6
)

// follower follows a log over all its streams: one that breaks is asked for again, and
// nothing is lost or doubled.
type follower struct {
	open    logSource
	options logOptions
	// ended reports whether the run has: a stream that ends before did not end well.
	ended func(context.Context) bool
	// patient has the first stream asked for again, too, until the run has ended.
	patient bool
	// broken, if not nil, is told of the error when several attempts have failed.
	broken func(error)
	// progressed, if not nil, is called when something was read, and written when it
	// was passed on.
	progressed, written func()

	started  time.Time
	begun    bool
	failures int // in a row
}

// errLimit is why no more is read: limitBytes is reached.
var errLimit = errors.New("the limit is reached")

func (f *follower) follow(ctx context.Context, out io.Writer) error {
	f.started = time.Now()
	limited := &limitWriter{out: out, left: f.options.limit}
	log := newPlace(limited, &f.options)
	backoff := failure.NewBackoff()
	for {
		copied, err := f.stream(ctx, log)
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
		case err == nil && f.ended(ctx):
			return log.Flush()
		case err != nil && f.final(ctx, err):
			return err
		}
		if err := failure.Pause(ctx, &backoff); err != nil {
			return err
		}
		log.Resume()
	}
}

// final decides whether another attempt makes sense after an error.
func (f *follower) final(ctx context.Context, err error) bool {
	f.failures++
	if f.failures == quietFailures && f.broken != nil {
		f.broken(err)
	}
	switch {
	case failure.IsMissingAPI(err):
		return true
	case !f.begun && !f.patient:
		return true
	case apierrors.IsUnauthorized(err):
		// A manager that has just started may not know yet whom the hub vouches for.
		return f.failures >= lastFailures
	case apierrors.IsForbidden(err) && f.begun:
		return f.failures >= lastFailures
	case !failure.MayPass(err) && (!f.patient || !apierrors.IsNotFound(err)):
		return true
	}
	return f.failures >= lastFailures && f.ended(ctx)
}

// stream copies one stream to its end.
func (f *follower) stream(ctx context.Context, log place) (int64, error) {
	query := f.options.query()
	query.Set("timestamps", "true")
	query.Del("limitBytes") // it would count the bytes of the timestamps
	if since, ok := log.Since(); ok {
		f.resume(query, since)
	}
	body, err := f.open(ctx, query)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	f.begun = true
	return io.Copy(&reporter{log, f.progressed, f.written}, body)
}

// resume asks for what follows. Of several Pods one may be behind all others, or may have
// come while nobody listened: all of their logs are asked for again, from where they
// began, and what is known is skipped.
func (f *follower) resume(query url.Values, since time.Time) {
	query.Del("tailLines")
	switch {
	case !f.options.allPods:
		query.Del("sinceSeconds")
		query.Set("sinceTime", since.Format(time.RFC3339))
	case f.options.since > 0: // counted from the first request
		query.Del("sinceSeconds")
		query.Set("sinceTime", f.started.Add(-f.options.since).UTC().Format(time.RFC3339))
	}
}

// place is where a log was read to.
type place interface {
	io.Writer
	Since() (time.Time, bool)
	Resume()
	// Flush passes on what is left at the end of the log.
	Flush() error
}

// oneLog is the place in the log of one container.
type oneLog struct{ logcursor.Cursor }

// Flush has nothing to do: all was passed on at once.
func (*oneLog) Flush() error { return nil }

func newPlace(out io.Writer, options *logOptions) place {
	if options.allPods {
		return &podLogs{output: out, timestamps: options.timestamps, pods: map[string]*logcursor.Cursor{}}
	}
	return &oneLog{logcursor.Cursor{Output: out, Timestamps: options.timestamps, AllowGap: true}}
}

// reporter says when something is written, and when it is.
type reporter struct {
	io.Writer
	before, after func()
}

func (r *reporter) Write(data []byte) (int, error) {
	if r.before != nil {
		r.before()
	}
	if r.after != nil {
		defer r.after()
	}
	return r.Writer.Write(data)
}

// limitWriter takes as many bytes as are left; negative is all.
type limitWriter struct {
	out  io.Writer
	left int64
	err  error
}

func (w *limitWriter) Write(data []byte) (int, error) {
	size := len(data)
	if w.left >= 0 {
		data = data[:min(int64(size), w.left)]
		w.left -= int64(len(data))
	}
	if _, err := w.out.Write(data); err != nil {
		w.err = err
		return 0, err
	}
	if len(data) < size {
		return len(data), errLimit
	}
	return size, nil
}

// explainLog says what to do about a log that cannot be had.
func explainLog(err error) error {
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
