package faultproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// errNoAnswer ends a request that gets none.
var errNoAnswer = errors.New("no answer")

// answer is one that the proxy gives by itself.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// perform does what an action says. It returns an answer if there is to be another
// than the server's, and an error when there is to be none.
func perform(ctx context.Context, action Action) (*answer, error) {
	if action.Delay > 0 {
		pass(ctx, action.Delay)
	}
	switch {
	case action.Cut:
		cutLine(ctx)
		return nil, errNoAnswer
	case action.Swallow > 0:
		pass(ctx, action.Swallow)
		cutLine(ctx)
		return nil, errNoAnswer
	case action.Page > 0:
		return newPage(action.Page), nil
	case action.Answer > 0:
		return newStatus(action.Answer, action.RetryAfter), nil
	}
	return nil, nil
}

// pass returns when the time is over or the client has gone away.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func newPage(code int) *answer {
	body := fmt.Appendf(nil, "<html><body><h1>%d %s</h1></body></html>\n", code, http.StatusText(code))
	return &answer{code: code, header: http.Header{"Content-Type": {"text/html"}}, body: body}
}

// newStatus returns what an API server says with such a code.
func newStatus(code int, retryAfter time.Duration) *answer {
	status := metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure,
		Code:     int32(code),
		Reason:   reasonOf(code),
		Message:  fmt.Sprintf("the fault proxy answers %d", code),
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if retryAfter > 0 {
		seconds := max(int(retryAfter.Seconds()), 1)
		header.Set("Retry-After", strconv.Itoa(seconds))
		status.Details = &metav1.StatusDetails{RetryAfterSeconds: int32(seconds)}
	}
	body, err := json.Marshal(status)
	if err != nil {
		panic(err) // a Status of strings and numbers
	}
	return &answer{code: code, header: header, body: body}
}

func reasonOf(code int) metav1.StatusReason {
	return map[int]metav1.StatusReason{
		http.StatusUnauthorized:        metav1.StatusReasonUnauthorized,
		http.StatusForbidden:           metav1.StatusReasonForbidden,
		http.StatusConflict:            metav1.StatusReasonConflict,
		http.StatusGone:                metav1.StatusReasonExpired,
		http.StatusTooManyRequests:     metav1.StatusReasonTooManyRequests,
		http.StatusInternalServerError: metav1.StatusReasonInternalError,
		http.StatusServiceUnavailable:  metav1.StatusReasonServiceUnavailable,
		http.StatusGatewayTimeout:      metav1.StatusReasonTimeout,
	}[code]
}

func (a *answer) write(w http.ResponseWriter) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.code)
	_, _ = w.Write(a.body) // a client that is gone needs no answer
}

// replace puts the answer in the place of the server's.
func (a *answer) replace(response *http.Response) {
	_ = response.Body.Close()
	response.StatusCode, response.Status = a.code, http.StatusText(a.code)
	response.Header = a.header.Clone()
	response.Header.Set("Content-Length", strconv.Itoa(len(a.body)))
	response.ContentLength = int64(len(a.body))
	response.Body = io.NopCloser(bytes.NewReader(a.body))
}
