package controllers

import (
	"context"
	"fmt"
	"io"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/logserver"
)

// logsTarget is the way of one request to a target. Each question is asked with the
// credential that the Secret has then, over a share of the connection that it gives back:
// a log is followed for longer than a token lasts.
type logsTarget struct {
	logs *Logs
	run  logserver.Run

	mu       sync.Mutex
	identity *connpool.Identity // the last that could be read
}

// identityNow is what the Secret has now. While that cannot be used, it is what was there
// before: a slip there breaks nothing that works. The error is one to give to a client.
func (t *logsTarget) identityNow(ctx context.Context) (connpool.Identity, error) {
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

func (t *logsTarget) readIdentity(ctx context.Context) (connpool.Identity, error) {
	connection := &v1alpha1.ClusterConnection{}
	if err := t.logs.hub.Get(ctx, client.ObjectKey{Name: t.run.Connection}, connection); err != nil {
		return connpool.Identity{}, apierrors.NewServiceUnavailable(fmt.Sprintf("ClusterConnection %q, where the run is, cannot be read: %v", t.run.Connection, err))
	}
	parsed, _, err := readKubeconfig(ctx, t.logs.hub, t.logs.namespace, connection)
	if err != nil {
		return connpool.Identity{}, apierrors.NewServiceUnavailable(fmt.Sprintf("ClusterConnection %q has no kubeconfig that can be used: %v", t.run.Connection, err))
	}
	return identityOf(parsed), nil
}

// share is one of the connection for the credential that there is now.
func (t *logsTarget) share(ctx context.Context) (*connpool.Stream, connpool.Identity, error) {
	identity, err := t.identityNow(ctx)
	if err != nil {
		return nil, identity, err
	}
	stream, err := t.logs.streams.Open(identity, t.run.ClusterUID) //nolint:contextcheck // the connection outlives the request
	if err != nil {
		return nil, identity, apierrors.NewServiceUnavailable(fmt.Sprintf("ClusterConnection %q: %v", t.run.Connection, err))
	}
	return stream, identity, nil
}

// Pods implements logserver.Target.
func (t *logsTarget) Pods(ctx context.Context, namespace, uid string) ([]*corev1.Pod, error) {
	stream, _, err := t.share(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return stream.Pods(ctx, namespace, uid)
}

// Log implements logserver.Target.
func (t *logsTarget) Log(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error) {
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
	stream *connpool.Stream
}

// Close implements io.Closer.
func (l *sharedLog) Close() error {
	defer l.stream.Close()
	return l.ReadCloser.Close()
}

// WatchPods implements logserver.Target. A watch that fails is begun anew when there is
// another credential.
func (t *logsTarget) WatchPods(ctx context.Context, namespace, uid string, changed func([]*corev1.Pod), failed func(error)) {
	for ctx.Err() == nil {
		if err := t.watchPods(ctx, namespace, uid, changed, failed); err != nil {
			failed(err)
			<-ctx.Done() // it could be opened before; what the logs are asked for says the same
		}
	}
}

func (t *logsTarget) watchPods(ctx context.Context, namespace, uid string, changed func([]*corev1.Pod), failed func(error)) error {
	stream, watched, err := t.share(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream.WatchPods(ctx, namespace, uid, changed, func(err error) {
		failed(err)
		if now, err := t.identityNow(ctx); err == nil && !now.Equal(watched) {
			cancel()
		}
	})
	return nil
}

// Close implements logserver.Target: nothing is held between two questions.
func (*logsTarget) Close() {}
