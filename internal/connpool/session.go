package connpool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"

	"github.com/pooledjob/pooledjob/internal/connpool/store"
	"github.com/pooledjob/pooledjob/internal/connpool/transport"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// probeFailures is how many probes in a row must fail to end a session.
const probeFailures = 3

// session is one use of a target without interruption: a transport, who answers
// there, and the views on it.
type session struct {
	entry     *entry
	options   Options
	schemas   [store.Kinds]*prune.Schema
	transport *transport.Transport
	// ctx ends everything, calls too; its cause says why.
	ctx    context.Context
	cancel context.CancelCauseFunc

	// doubt holds one element when there is reason to probe at once.
	doubt chan struct{}
	// reviewing holds one element while the target is asked for the rights of a view.
	reviewing chan struct{}

	// version and clusterUID are set when the session is opened, the latter by the first
	// proof, before anybody else has the session.
	version    string
	clusterUID string

	// Guarded by Pool.mu.
	views   map[string]*view // by scope
	calls   int              // under way
	retired bool             // no further call may start
	drained chan struct{}    // closed when retired and no call is under way
	running sync.WaitGroup   // the views, also those that nobody wants any more
}

// openSession dials the target and proves who answers.
func openSession(ctx context.Context, e *entry) (*session, error) {
	s := &session{
		entry: e, options: e.pool.options, schemas: e.pool.schemas,
		views: map[string]*view{}, drained: make(chan struct{}), doubt: make(chan struct{}, 1), reviewing: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	t, err := transport.New(s.ctx, e.identity, e.pool.options.Transport(), &e.sockets, e.pacing)
	if err == nil {
		s.transport = t
		t.ProveBy(s.prove, &e.redialled)
		s.version, err = s.readVersion(s.ctx) // dials, and so proves
		err = transport.Uncover(err)
	}
	if err != nil {
		s.cancel(err)
		s.cut()
		return nil, s.causeOf(err)
	}
	return s, nil
}

// causeOf is why the session ended, if it did: better than what a call says that was
// cut by the end.
func (s *session) causeOf(err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		return cause
	}
	return err
}

// prove makes sure that the cluster behind a new TCP connection is the one behind
// those before.
func (s *session) prove(ctx context.Context) error {
	timed, cancel := context.WithTimeout(ctx, s.options.ProbeTimeout)
	defer cancel()
	uid, err := s.readClusterUID(timed)
	switch {
	case err != nil:
		s.unauthorized(err)
		if isForbidden(err) {
			_, err = s.explainDenial(ctx, s.entry.pool.scopesOf(s.entry), err)
		}
		return fmt.Errorf("reading namespace kube-system, which identifies the cluster: %w", err)
	case s.clusterUID == "":
		if err := s.entry.pool.welcome(s.entry, uid); err != nil {
			return err
		}
		s.clusterUID = uid
	case s.clusterUID != uid:
		s.cancel(transport.ErrOtherCluster) // the next session finds out what that means
		return transport.ErrOtherCluster
	}
	s.entry.contact()
	return nil
}

func (s *session) readVersion(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.RequestTimeout)
	defer cancel()
	body, err := s.get(ctx, "/version")
	if err != nil {
		return "", fmt.Errorf("reading the version: %w", err)
	}
	var info version.Info
	if err := json.Unmarshal(body, &info); err != nil {
		return "", fmt.Errorf("reading the version: %w: %w", transport.ErrNotKube, err)
	}
	return transport.RedactText(info.GitVersion, s.entry.identity.Token), nil
}

func (s *session) get(ctx context.Context, path string) ([]byte, error) {
	return s.transport.Get(ctx, path)
}

func (s *session) readClusterUID(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.RequestTimeout)
	defer cancel()
	return s.transport.ReadClusterUID(ctx)
}

// awaitViews waits until every view has come to a first result. The target is probed
// meanwhile: it may have fallen silent.
func (s *session) awaitViews(ctx context.Context) error {
	var doubts doubts
	for _, v := range s.entry.pool.viewsOf(s) {
		for waiting := true; waiting; {
			select {
			case <-v.settled:
				waiting = false
			case <-time.After(doubts.pause(s.options)):
				if err := doubts.judge(s.probe(ctx)); err != nil {
					return s.causeOf(err)
				}
			case <-s.ctx.Done():
				return context.Cause(s.ctx)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	// What would end the session at its first probe must not begin it.
	err := transport.Uncover(s.probe(ctx))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// serve probes the target until the session ends, and returns why.
func (s *session) serve(ctx context.Context) error {
	var doubts doubts
	for {
		select {
		case <-time.After(doubts.pause(s.options)):
		case <-s.doubt:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := doubts.judge(s.probe(ctx)); err != nil {
			return s.causeOf(err)
		}
		if doubts.failures == 0 {
			s.transport.Tidy(s.options.RequestTimeout)
			s.entry.pool.judgeViews(s)
		}
	}
}

// doubts are the probes that failed in a row.
type doubts struct {
	failures int
	silent   bool // the last one was not answered at all
}

// pause returns the time until the next probe. That a target is silent is settled soon: the
// probes take long enough. One that answers with an error, or refuses, is given the time to
// come back.
func (d *doubts) pause(o Options) time.Duration {
	pause := o.ProbeInterval*9/10 + rand.N(o.ProbeInterval/5)
	switch {
	case d.failures == 0:
		return pause
	case d.silent:
		return pause / 10
	default:
		return pause / 2
	}
}

// judge counts a probe; it returns why the session must end, if it must.
func (d *doubts) judge(err error) error {
	if err == nil {
		d.failures = 0
		return nil
	}
	d.failures++
	d.silent = errors.Is(transport.Uncover(err), context.DeadlineExceeded)
	if apierrors.IsUnauthorized(err) || d.failures == probeFailures {
		return transport.Uncover(err)
	}
	return nil
}

// probe asks for the target's readiness over the same transport as everything.
func (s *session) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.ProbeTimeout)
	defer cancel()
	begin := time.Now()
	body, err := s.get(ctx, "/readyz")
	switch {
	case isForbidden(err):
		// It knows us, and the right to /readyz is not needed.
	case err != nil:
		return fmt.Errorf("probing /readyz: %w", err)
	case strings.TrimSpace(string(body)) != "ok":
		return fmt.Errorf("probing /readyz: %w", transport.ErrNotKube)
	}
	s.entry.probed(time.Since(begin))
	return nil
}

// close ends the session: the views and the start of calls at once, and everything
// when the calls under way have ended or have had their time. Without grace it does
// not wait for them.
func (s *session) close(grace bool) {
	s.entry.pool.retire(s)
	if grace {
		select {
		case <-s.drained:
		case <-s.ctx.Done():
		case <-time.After(s.options.RequestTimeout):
		}
	}
	s.cancel(ErrClosed)
	s.running.Wait()
	s.cut()
}

// retire lets no further call start, and ends the views. Pool.mu is held.
func (s *session) retire() {
	if s.retired {
		return
	}
	s.retired = true
	for _, v := range s.views {
		v.cancel()
	}
	s.drain()
}

// drain notes when the last call of a retired session has ended. Pool.mu is held.
func (s *session) drain() {
	if s.retired && s.calls == 0 {
		close(s.drained)
	}
}

func (s *session) cut() {
	if s.transport != nil {
		s.transport.Close()
	}
}

// doubted ends the session if the answer to a call was larger than can be, and has it probed at
// once if that was 401. A 401 alone does not end it: a webhook of the target may deny an object
// with that code.
func (s *session) doubted(err error) {
	if ExceedsLimit(err) {
		s.cancel(err)
	}
	if !apierrors.IsUnauthorized(err) {
		return
	}
	select {
	case s.doubt <- struct{}{}:
	default:
	}
}

// unauthorized ends the session if the target rejects its credentials: of what it
// says next nothing can be expected.
func (s *session) unauthorized(err error) {
	if apierrors.IsUnauthorized(err) {
		s.cancel(err)
	}
}
