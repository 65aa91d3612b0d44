package connpool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/tools/cache"
)

// probeFailures is how many probes in a row must fail to end a session.
const probeFailures = 3

// session is one unbroken use of a target: a transport and the informers on it.
type session struct {
	options    Options
	transport  *transport
	token      string // to be taken out of errors
	version    string
	clusterUID string

	ctx    context.Context
	cancel context.CancelCauseFunc
	jobs   cache.SharedIndexInformer
	pods   cache.SharedIndexInformer
	gone   *gonePods
	slots  chan struct{} // holds one element for each request under way
	done   chan struct{} // closed when the informers have ended
}

// openSession dials the target and proves who answers. The first request goes
// alone: many at once on a cold transport would each dial.
func openSession(ctx context.Context, c *connection) (*session, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &session{options: c.options, token: c.config.Token, ctx: ctx, cancel: cancel, slots: make(chan struct{}, c.options.MaxInFlight), done: make(chan struct{})}
	t, err := newTransport(ctx, c.config, c.options.UserAgent)
	if err != nil {
		s.cancel(err)
		return nil, err
	}
	s.transport = t
	err = s.identify(c.expected())
	if err == nil {
		err = s.startInformers(c.name)
	}
	if err != nil {
		s.cancel(err)
		t.close()
		return nil, err
	}
	return s, nil
}

// identify asks the target for its version and its identity.
func (s *session) identify(expected string) error {
	uid, err := s.readClusterUID(s.ctx)
	if err != nil {
		return fmt.Errorf("reading namespace kube-system, which tells clusters apart: %w", err)
	}
	if expected != "" && uid != expected {
		return &identityError{want: expected, got: uid}
	}
	version, err := s.readVersion(s.ctx)
	if err != nil {
		return fmt.Errorf("reading the version: %w", err)
	}
	s.clusterUID, s.version = uid, version
	return nil
}

func (s *session) readVersion(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.RequestTimeout)
	defer cancel()
	body, err := s.transport.client.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return "", err
	}
	var info version.Info
	if err := json.Unmarshal(body, &info); err != nil {
		return "", fmt.Errorf("the answer is not that of a Kubernetes API server: %w", err)
	}
	return info.GitVersion, nil
}

func (s *session) readClusterUID(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.RequestTimeout)
	defer cancel()
	namespace, err := s.transport.client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	if namespace.UID == "" {
		return "", errors.New("the answer is not a namespace of a Kubernetes API server")
	}
	return string(namespace.UID), nil
}

// sync waits until both informers have listed everything.
func (s *session) sync() error {
	ctx, cancel := context.WithTimeoutCause(s.ctx, s.options.SyncTimeout, errors.New("the first list of Jobs and Pods took too long"))
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), s.jobs.HasSynced, s.pods.HasSynced) {
		return context.Cause(ctx)
	}
	// What would end the session at its first probe must not begin it.
	return s.probe()
}

// serve probes the target until the session ends, and returns why.
func (s *session) serve(contact func()) error {
	failures := 0
	for {
		pause := s.options.ProbeInterval*9/10 + rand.N(s.options.ProbeInterval/5)
		if failures > 0 {
			pause /= 10 // a doubt is settled soon
		}
		if !sleep(s.ctx, pause) {
			return context.Cause(s.ctx)
		}
		err := s.probe()
		if err == nil {
			failures = 0
			contact()
			continue
		}
		failures++
		if apierrors.IsUnauthorized(err) || failures == probeFailures {
			return err
		}
	}
}

// probe asks for the target's readiness over the same transport as everything.
func (s *session) probe() error {
	ctx, cancel := context.WithTimeout(s.ctx, s.options.ProbeTimeout)
	defer cancel()
	err := s.transport.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	if apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) {
		return nil // the API server, no proxy's page; it knows us, and the right to /readyz is not needed
	}
	if err != nil {
		return fmt.Errorf("probing /readyz: %w", err)
	}
	return nil
}

// close ends the session and waits for its informers.
func (s *session) close() {
	s.cancel(ErrClosed)
	s.transport.close()
	<-s.done
}
