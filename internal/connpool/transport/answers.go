package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/pooledjob/pooledjob/internal/prune"
)

const (
	// maxAnswer bounds an answer that is taken whole, in bytes: the version, and whether the
	// target is ready.
	maxAnswer = 64 << 10
	// maxStatus bounds what is read of an answer that is an error, in bytes, and maxErrorPage of
	// one that is no Status. An API server says in it what is wrong with each field of an object.
	maxStatus    = 4 << 20
	maxErrorPage = 16 << 10
	// maxHeaders bounds the headers of an answer, in bytes. API servers cut the warnings in
	// them to 4 KiB.
	maxHeaders = 64 << 10
)

// answers is the one place through which every answer of a target comes. Each is bounded
// here, but those that are read as they come: package prune bounds what is held of them, and
// Pacing how fast they are read, so that a target that always sends something takes little
// time from others.
type answers struct {
	http.RoundTripper
	pacing *Pacing
}

// purposeKey is the context key of the purpose of an answer that is not taken whole.
type purposeKey struct{}

// UnpacedRead returns a context for an answer that is read no faster than its consumer asks for it.
func UnpacedRead(ctx context.Context) context.Context {
	return context.WithValue(ctx, purposeKey{}, forItself)
}

// ViewRead returns a context for lists and watches that a view is made from.
func ViewRead(ctx context.Context) context.Context {
	return context.WithValue(ctx, purposeKey{}, forView)
}

// requestRead returns a context for the answer to a single request, unless it is read for a view.
func requestRead(ctx context.Context) context.Context {
	if ctx.Value(purposeKey{}) == forView {
		return ctx
	}
	return context.WithValue(ctx, purposeKey{}, forRequest)
}

// RoundTrip implements http.RoundTripper.
func (a answers) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	purpose, isRead := ctx.Value(purposeKey{}).(readPurpose)
	if err := a.pacing.begin(ctx, purpose); err != nil {
		return nil, &notSentError{err}
	}
	response, err := a.RoundTripper.RoundTrip(request)
	if err != nil {
		return response, err
	}
	switch {
	case response.StatusCode < http.StatusOK || response.StatusCode >= http.StatusMultipleChoices:
		response.Body = io.NopCloser(bytes.NewReader(errorOf(response)))
		return response, nil
	case !isRead:
		response.Body = &bounded{ReadCloser: response.Body, left: maxAnswer}
		return response, nil
	}
	if purpose != forItself {
		response.Body = &paced{ReadCloser: response.Body, ctx: ctx, pacing: a.pacing, purpose: purpose}
	}
	if guard, ok := ctx.Value(guardKey{}).(*Guard); ok {
		response.Body = guard.over(response.Body)
	}
	return response, nil
}

// paced is an answer that is read no faster than may be.
type paced struct {
	io.ReadCloser
	ctx     context.Context // of the request
	pacing  *Pacing
	purpose readPurpose
	length  int // of what was read of it
}

// Read implements io.Reader.
func (p *paced) Read(into []byte) (int, error) {
	n, err := p.ReadCloser.Read(into)
	p.length += n
	if err == nil {
		err = p.pacing.took(p.ctx, p.purpose, n, p.length)
	}
	return n, err
}

// charge counts an event that takes so many bytes once it is decoded. What is read next says if the
// time was up.
func (p *paced) charge(size int) {
	_ = p.pacing.took(p.ctx, p.purpose, max(eventCost, size/decodedFraction), p.length)
}

// errorOf takes what is needed of an answer that is an error, which client-go would decode
// whatever kind of object it is. What it says is cut rather than refused: an API server says of a
// Job that it refuses as much as there is wrong with it.
func errorOf(response *http.Response) []byte {
	defer response.Body.Close()
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	body := io.LimitReader(response.Body, maxStatus)
	if mediaType == runtime.ContentTypeProtobuf {
		return encodeStatus(response, prune.Status, body)
	}
	page, _ := io.ReadAll(io.LimitReader(body, maxErrorPage))
	if mediaType == runtime.ContentTypeJSON {
		return encodeStatus(response, statusInJSON, bytes.NewReader(page))
	}
	return page
}

// encodeStatus makes an answer be the Status that read finds in it, or nothing if there is none.
func encodeStatus(response *http.Response, read func(io.Reader) (*metav1.Status, error), body io.Reader) []byte {
	status, err := read(body)
	if err != nil {
		response.Header.Del("Content-Type")
		return nil
	}
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	encoded, err := json.Marshal(status)
	if err != nil {
		return nil
	}
	response.Header.Set("Content-Type", runtime.ContentTypeJSON)
	return encoded
}

func statusInJSON(body io.Reader) (*metav1.Status, error) {
	status := &metav1.Status{}
	if err := json.NewDecoder(body).Decode(status); err != nil {
		return nil, err
	}
	if status.Kind != "Status" {
		return nil, ErrNotKube
	}
	return status, nil
}

// bounded is an answer that ends with an error when it goes on for too long.
type bounded struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		var more [1]byte
		if n, err := b.ReadCloser.Read(more[:]); n == 0 {
			return 0, err
		}
		return 0, &prune.LimitError{What: "an answer", Limit: maxAnswer, Unit: "bytes"}
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// message is an object that can be decoded.
type message interface{ Unmarshal(data []byte) error }

// Read sends a request, and fills into with what a schema keeps of the object that is the
// answer.
func Read(ctx context.Context, request *rest.Request, schema *prune.Schema, into message) error {
	answer, err := request.MaxRetries(0).Stream(requestRead(ctx))
	if err != nil {
		return err
	}
	defer answer.Close()
	kept, err := schema.Object(answer)
	if err != nil {
		return err
	}
	return into.Unmarshal(kept.Message)
}

// ReadList sends a request, and calls each with what a schema keeps of each object in the list that
// is the answer.
func ReadList(ctx context.Context, request *rest.Request, schema *prune.Schema, each func(prune.Kept) error) (metav1.ListMeta, error) {
	answer, err := request.MaxRetries(0).Stream(requestRead(ctx))
	if err != nil {
		return metav1.ListMeta{}, err
	}
	defer answer.Close()
	meta, err := schema.List(answer, each)
	return metav1.ListMeta{ResourceVersion: meta.ResourceVersion, Continue: meta.Continue}, err
}

// Send sends a request whose answer says nothing but that it was done: API servers answer with
// the whole object.
func Send(ctx context.Context, request *rest.Request) error {
	answer, err := request.MaxRetries(0).Stream(requestRead(ctx))
	if err != nil {
		return err
	}
	defer answer.Close()
	_, _ = io.CopyN(io.Discard, answer, maxAnswer) // else the connection could not be used again
	return nil
}

// ReadWatch sends a request for a watch, whose events are decoded by events.
func ReadWatch(ctx context.Context, request *rest.Request, events *Events) (watch.Interface, error) {
	answer, err := request.MaxRetries(0).Stream(ViewRead(ctx))
	if utilnet.IsProbableEOF(err) || utilnet.IsTimeout(err) {
		return watch.NewEmptyWatch(), nil // as client-go has it: the reflector goes on where it was
	}
	if err != nil {
		return nil, err
	}
	events.answer, events.watch = answer, events.Schema.Watch(answer)
	if events.Told == nil {
		events.Told = func(int) {}
		if p, ok := answer.(*paced); ok {
			events.Told = p.charge
		}
	}
	return watch.NewStreamWatcher(events, apierrors.NewClientErrorReporter(http.StatusInternalServerError, "watch", "ClientWatchDecoding")), nil
}

// Events decodes the events of one watch.
type Events struct {
	Schema *prune.Schema
	Unpack func(prune.Kept) (runtime.Object, error) // makes the object of an event
	// Told is called after each event, with about how many bytes it takes once it is decoded; nil if
	// nobody need know.
	Told   func(size int)
	Failed func(error) // is called with the reason why the watch cannot be read further

	answer io.Closer
	watch  *prune.Watch
}

// Decode implements watch.Decoder.
func (e *Events) Decode() (watch.EventType, runtime.Object, error) {
	event, err := e.watch.Next()
	if err != nil {
		if prune.ExceedsLimit(err) {
			e.Failed(err)
		}
		return "", nil, err
	}
	e.Told(event.Kept.Size)
	if event.Type == watch.Error {
		return event.Type, event.Status, nil
	}
	obj, err := e.Unpack(event.Kept)
	return event.Type, obj, err
}

// Close implements watch.Decoder.
func (e *Events) Close() { _ = e.answer.Close() }
