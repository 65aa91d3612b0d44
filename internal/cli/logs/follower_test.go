package logs

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/internal/cli/cluster"
)

// answer is what the log API answers once.
type answer struct {
	code   int
	body   string
	breaks bool
}

// serve answers one request after the other; the last answer stays.
func serve(t *testing.T, answers ...answer) (open Source, queries func() []url.Values) {
	var seen []url.Values
	var number atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.URL.Query())
		a := answers[min(int(number.Add(1)), len(answers))-1]
		if a.code != 0 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(a.code)
			_, _ = io.WriteString(w, a.body)
			return
		}
		_, _ = io.WriteString(w, a.body)
		if a.breaks {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(server.Close)
	hub := &cluster.Client{Config: &rest.Config{Host: server.URL}}
	open, err := SourceOf(hub, client.ObjectKey{Namespace: "n", Name: "j"})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return open, func() []url.Values { return seen }
}

func status(code int, reason string) answer {
	return answer{code: code, body: `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"` + reason + `","code":` + strconv.Itoa(code) + `}`}
}

const (
	line1 = "2026-03-04T05:06:07.100000000Z one\n"
	line2 = "2026-03-04T05:06:07.100000000Z two\n"
	line3 = "2026-03-04T05:06:09.000000000Z three\n"
)

func TestFollower(t *testing.T) {
	always := func(context.Context) bool { return true }
	podA := func(line string) string { return "[a] " + line }
	podB := func(line string) string { return "[b] " + line }
	for name, c := range map[string]struct {
		answers []answer
		options Options
		patient bool
		ended   func(context.Context) bool
		want    string
		err     string
	}{
		"in one go": {answers: []answer{{body: line1 + line2}}, want: "one\ntwo\n"},
		"broken in the middle of a line, and then refused for a while": {
			answers: []answer{
				{body: line1 + line2[:len(line2)-3], breaks: true}, status(503, "ServiceUnavailable"), status(401, "Unauthorized"),
				{body: line1 + line2 + line3},
			},
			want: "one\ntwo\nthree\n",
		},
		"several Pods, broken in the middle of a line": {
			answers: []answer{
				{body: podA(line1) + podB(line1) + podA(line2)[:8], breaks: true},
				{body: podB(line1) + podB(line2) + podA(line1) + podA(line2)},
			},
			options: Options{AllPods: true, Timestamps: true},
			want:    podA(line1) + podB(line1) + podB(line2) + podA(line2),
		},
		"ended before the run has": {
			answers: []answer{{body: line1}, {body: line1 + line3}},
			ended:   onSecondCall(), want: "one\nthree\n",
		},
		"limited over all goes": {
			answers: []answer{{body: line1, breaks: true}, {body: line1 + line2}},
			options: Options{Limit: 6}, want: "one\ntw",
		},
		"not there at first": {answers: []answer{status(404, "NotFound"), {body: line1}}, err: "no"},
		"not there at first, for one who waits": {
			answers: []answer{status(404, "NotFound"), {body: line1}}, patient: true, want: "one\n",
		},
		"not permitted for a moment, after it has begun": {
			answers: []answer{{body: line1, breaks: true}, status(403, "Forbidden"), status(401, "Unauthorized"), {body: line1 + line3}},
			want:    "one\nthree\n",
		},
		"not permitted":             {answers: []answer{status(403, "Forbidden")}, patient: true, err: "no"},
		"no such API":               {answers: []answer{{code: 404, body: "404 page not found"}}, patient: true, err: "could not find"},
		"never again after the end": {answers: []answer{{body: line1, breaks: true}, status(500, "InternalError")}, want: "one\n", err: "no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			if c.options.Limit == 0 {
				c.options.Limit = -1
			}
			if c.ended == nil {
				c.ended = always
			}
			c.options.Follow, c.options.Tail = true, 5
			open, queries := serve(t, c.answers...)
			var out strings.Builder
			err := (&Follower{Open: open, Options: c.options, Patient: c.patient, HasEnded: c.ended}).Follow(t.Context(), &out)
			if c.err == "" {
				g.Expect(err).NotTo(HaveOccurred())
			} else {
				g.Expect(err).To(MatchError(ContainSubstring(c.err)))
			}
			g.Expect(out.String()).To(Equal(c.want))
			for i, query := range queries() {
				g.Expect(query.Get("follow") + query.Get("timestamps")).To(Equal("truetrue"))
				if c.options.AllPods {
					g.Expect(query).NotTo(HaveKey("sinceTime"), "another Pod may be behind")
				}
				if i > 0 && query.Get("sinceTime") != "" {
					g.Expect(query.Get("sinceTime")).To(Equal("2026-03-04T05:06:06Z"))
					g.Expect(query).NotTo(HaveKey("tailLines"))
				}
			}
		})
	}
}

// onSecondCall tells of a run that has ended when it is asked about twice.
func onSecondCall() func(context.Context) bool {
	calls := 0
	return func(context.Context) bool { calls++; return calls > 1 }
}

func TestFollowerStopsWhenNobodyReads(t *testing.T) {
	open, _ := serve(t, answer{body: line1})
	f := &Follower{Open: open, Options: Options{Tail: -1, Limit: -1}, HasEnded: func(context.Context) bool { return false }}
	NewWithT(t).Expect(f.Follow(t.Context(), closed{})).To(MatchError(io.ErrClosedPipe))
}

// closed is an output that nobody reads.
type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, errors.Join(io.ErrClosedPipe) }
