package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/credentials"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/connpool/streams"
	"github.com/pooledjob/pooledjob/internal/logserver"
)

// target is the way of one request to a target. Each question is asked with the
// credential that the Secret has then, over a share of the connection that it gives back:
// a log is followed for longer than a token lasts.
type target struct {
	backend *Backend
	run     logserver.Run

	mu       sync.Mutex
	identity *connpool.Identity // the last that could be read
}

// identityNow returns what the Secret has now. While that cannot be used, it is what was there
// before: a slip there breaks nothing that works. The error is one to give to a client.
func (t *target) identityNow(ctx context.Context) (connpool.Identity, error) {
	parsed, err := t.readIdentity(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.identity = &parsed
	case t.identity == nil:
		return connpool.Identity{}, err
	}
	return *t.identity, nil
}

func (t *target) readIdentity(ctx context.Context) (connpool.Identity, error) {
	connection := &v1alpha1.ClusterConnection{}
	if err := t.backend.hub.Get(ctx, client.ObjectKey{Name: t.run.Connection}, connection); err != nil {
		return connpool.Identity{}, apierrors.NewServiceUnavailable(fmt.Sprintf("ClusterConnection %q, where the run is, cannot be read: %v", t.run.Connection, err))
	}
	source, _, err := credentials.Read(ctx, t.backend.hub, t.backend.namespace, connection)
	if err != nil {
		return connpool.Identity{}, apierrors.NewServiceUnavailable(fmt.Sprintf("ClusterConnection %q has no kubeconfig that can be used: %v", t.run.Connection, err))
	}
	return credentials.Connpool(source.Identity), nil
}

// share returns one of the connection for the credential that there is now.
func (t *target) share(ctx context.Context) (*streams.Stream, connpool.Identity, error) {
	identity, err := t.identityNow(ctx)
	if err != nil {
		return nil, identity, err
	}
	stream, err := t.backend.streams.Open(identity, t.run.ClusterUID) //nolint:contextcheck // the connection outlives the request
	if err != nil {
		return nil, identity, apierrors.NewServiceUnavailable(fmt.Sprintf("ClusterConnection %q: %v", t.run.Connection, err))
	}
	return stream, identity, nil
}

// Pods implements logserver.Target.
func (t *target) Pods(ctx context.Context, namespace, uid string) ([]*corev1.Pod, error) {
	stream, _, err := t.share(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	pods, err := stream.Pods(ctx, namespace, uid)
	switch {
	case errors.Is(err, connpool.ErrTooManyPods):
		return nil, apierrors.NewRequestEntityTooLargeError("the log API cannot read the run's Pods: " + err.Error())
	case connpool.ExceedsLimit(err):
		return nil, apierrors.NewTooManyRequests("the log API cannot read the run's Pods now: "+err.Error(), roomPause)
	}
	return pods, err
}

// roomPause is how many seconds a client is asked to wait when there is no room for it.
const roomPause = 10

// Log implements logserver.Target.
func (t *target) Log(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error) {
	stream, _, err := t.share(ctx)
	if err != nil {
		return nil, err
	}
	log, err := stream.Log(ctx, namespace, pod, options)
	if err != nil {
		stream.Close()
		return nil, err
	}
	return &sharedLog{log, stream}, nil
}

// sharedLog gives its share back when it is closed.
type sharedLog struct {
	io.ReadCloser
	stream *streams.Stream
}

// Close implements io.Closer.
func (l *sharedLog) Close() error {
	defer l.stream.Close()
	return l.ReadCloser.Close()
}

// WatchPods implements logserver.Target. A watch that fails is begun anew when there is
// another credential.
func (t *target) WatchPods(ctx context.Context, namespace, uid string, changed func([]*corev1.Pod), failed func(error)) {
	for ctx.Err() == nil {
		if err := t.watchPods(ctx, namespace, uid, changed, failed); err != nil {
			failed(err)
			<-ctx.Done() // it could be opened before; what the logs are asked for says the same
		}
	}
}

func (t *target) watchPods(ctx context.Context, namespace, uid string, changed func([]*corev1.Pod), failed func(error)) error {
	stream, watched, err := t.share(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	doubts := make(chan struct{}, 1)
	var checking sync.WaitGroup
	defer checking.Wait()
	checking.Go(func() { t.awaitOther(ctx, cancel, watched, doubts) })
	stream.WatchPods(ctx, namespace, uid, changed, func(err error) {
		failed(err)
		select {
		case doubts <- struct{}{}:
		default: // there is one already
		}
	})
	return nil
}

// awaitOther cancels when, at a doubt, there is another credential than the one that is used.
func (t *target) awaitOther(ctx context.Context, cancel context.CancelFunc, used connpool.Identity, doubts <-chan struct{}) {
	for {
		select {
		case <-doubts:
		case <-ctx.Done():
			return
		}
		if now, err := t.identityNow(ctx); err == nil && !now.Equal(used) {
			cancel()
		}
	}
}

// Close implements logserver.Target: nothing is held between two questions.
func (*target) Close() {}
