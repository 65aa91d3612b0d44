package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
)

// guardedAnswer is the answer to a watch under guard. A test in a bubble of synctest
// fails when a goroutine of it is left.
type guardedAnswer struct {
	far         *io.PipeWriter // the server's end
	near        io.ReadCloser  // what the reader of the watch has
	guard       *Guard
	ctx         context.Context
	heard, open atomic.Int64
	closed      int // how often the answer below was
	over        int // how often the guard said that the watch is
}

// Close is that of the answer below.
func (a *guardedAnswer) Close() error {
	a.closed++
	return nil
}

// roundTripper answers with a status and a body.
type roundTripper func(*http.Request) *http.Response

func (answer roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return answer(r), nil }

func newGuardedAnswer(t *testing.T, status int) *guardedAnswer {
	t.Helper()
	a := &guardedAnswer{}
	ctx, cancel := context.WithCancel(t.Context())
	a.ctx = ctx
	body, far := io.Pipe()
	a.far = far
	// As net/http does, the end of the request ends its answer.
	context.AfterFunc(ctx, func() { far.CloseWithError(context.Canceled) })
	if status != http.StatusOK {
		_ = far.Close() // what a refusal says is read at once
	}
	g := &Guard{Cancel: cancel, Renewal: time.Minute, Heard: &a.heard, Open: &a.open, Closed: func() { a.over++ }}
	request, err := http.NewRequestWithContext(ViewRead(Guarded(ctx, g)), http.MethodGet, "https://host", http.NoBody)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	response, err := answers{roundTripper(func(*http.Request) *http.Response {
		return &http.Response{StatusCode: status, Body: struct {
			io.Reader
			io.Closer
		}{body, a}}
	}), NewPacing(DefaultPace)}.RoundTrip(request) //nolint:bodyclose // each test does
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	a.near, a.guard = response.Body, g
	return a
}

// read reads to the end, and takes what it reads for events.
func (a *guardedAnswer) read() (read *bytes.Buffer, ended chan error) {
	read, ended = &bytes.Buffer{}, make(chan error, 1)
	told := func(p []byte) (int, error) {
		a.guard.Told(0)
		return read.Write(p)
	}
	go func() {
		_, err := io.Copy(writer(told), a.near)
		ended <- err
	}()
	return read, ended
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// expectEnded looks whether nothing of the guard is left.
func (a *guardedAnswer) expectEnded(g *WithT) {
	g.Expect(a.near.Close()).To(Succeed())
	g.Expect(a.near.Close()).To(Succeed(), "it is closed twice")
	synctest.Wait()
	g.Expect(a.open.Load()).To(BeZero())
	g.Expect(a.ctx.Err()).To(HaveOccurred(), "the request goes on")
	g.Expect(a.closed).To(Equal(1))
	g.Expect(a.over).To(Equal(1))
}

func TestGuardHearsWhatAWatchTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := NewWithT(t), newGuardedAnswer(t, http.StatusOK)
		g.Expect(a.open.Load()).To(BeEquivalentTo(1))
		read, _ := a.read()
		synctest.Wait()
		g.Expect(a.heard.Load()).To(BeZero(), "a watch that is granted and silent proves nothing")
		for range 3 {
			time.Sleep(50 * time.Second) //nolint:forbidigo // the clock of the bubble
			_, err := a.far.Write([]byte("event "))
			g.Expect(err).NotTo(HaveOccurred())
			synctest.Wait()
			g.Expect(a.heard.Load()).To(Equal(time.Now().UnixNano()))
		}
		g.Expect(read.String()).To(Equal("event event event "))
		g.Expect(a.open.Load()).To(BeEquivalentTo(1))
		a.expectEnded(g)
	})
}

func TestBytesOfAnEventThatNeverEndsAreNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := NewWithT(t), newGuardedAnswer(t, http.StatusOK)
		ended := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, a.near)
			ended <- err
		}()
		for range 5 {
			time.Sleep(11 * time.Second) //nolint:forbidigo // the clock of the bubble
			_, err := a.far.Write([]byte("x"))
			g.Expect(err).NotTo(HaveOccurred())
		}
		g.Expect(<-ended).To(MatchError(errSilent))
		g.Expect(a.heard.Load()).To(BeZero())
		a.expectEnded(g)
	})
}

func TestGuardEndsASilentWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := NewWithT(t), newGuardedAnswer(t, http.StatusOK)
		_, ended := a.read()
		time.Sleep(30 * time.Second) //nolint:forbidigo // the clock of the bubble
		_, err := a.far.Write([]byte("event"))
		g.Expect(err).NotTo(HaveOccurred())
		last := time.Now()
		g.Expect(<-ended).To(MatchError(errSilent), "its reader must list anew")
		g.Expect(time.Since(last)).To(Equal(time.Minute), "it counts from the last event")
		g.Expect(a.heard.Load()).To(Equal(last.UnixNano()), "its end is no news")
		a.expectEnded(g)
	})
}

func TestGuardEndsASilentWatchThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := NewWithT(t), newGuardedAnswer(t, http.StatusOK)
		time.Sleep(2 * time.Minute) //nolint:forbidigo // the clock of the bubble
		synctest.Wait()
		g.Expect(a.ctx.Err()).To(HaveOccurred())
		a.expectEnded(g)
	})
}

func TestGuardTellsHowTheWatchBelowEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, end := range []error{nil, io.ErrUnexpectedEOF, errors.New("reset")} {
			g, a := NewWithT(t), newGuardedAnswer(t, http.StatusOK)
			_, ended := a.read()
			a.far.CloseWithError(end)
			if end == nil {
				g.Expect(<-ended).To(Succeed())
			} else {
				g.Expect(<-ended).To(MatchError(end))
			}
			a.expectEnded(g)
			time.Sleep(2 * time.Minute) //nolint:forbidigo // the clock of the bubble
			_, err := a.near.Read(make([]byte, 1))
			g.Expect(err).NotTo(MatchError(errSilent), "its clock runs on")
		}
	})
}

func TestGuardIsNotOverARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := NewWithT(t), newGuardedAnswer(t, http.StatusForbidden)
		g.Expect(a.open.Load()).To(BeZero())
		time.Sleep(2 * time.Minute) //nolint:forbidigo // the clock of the bubble
		g.Expect(a.ctx.Err()).NotTo(HaveOccurred())
		g.Expect(a.near.Close()).To(Succeed())
		g.Expect(a.far.Close()).To(Succeed())
	})
}

func TestGuardOfAWatchThatWasNotGrantedLetsGo(t *testing.T) {
	g := NewWithT(t)
	ctx, cancel := context.WithCancel(t.Context())
	never := &Guard{Cancel: cancel}
	g.Expect(never.Close()).To(Succeed())
	g.Expect(ctx.Err()).To(HaveOccurred())
}
