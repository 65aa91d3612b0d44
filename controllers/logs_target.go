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
// credential that the Secret has then: a log is followed for longer than a token lasts.
type logsTarget struct {
	logs *Logs
	run  logserver.Run

	mu       sync.Mutex
	identity connpool.Identity
	current  *connpool.Stream
	before   []*connpool.Stream // streams may be open in them
}

// stream is the connection for the credential that there is now. The error is one to give
// to a client.
func (t *logsTarget) stream(ctx context.Context) (*connpool.Stream, error) {
	connection := &v1alpha1.ClusterConnection{}
	if err := t.logs.hub.Get(ctx, client.ObjectKey{Name: t.run.Connection}, connection); err != nil {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("ClusterConnection %q, where the run is, cannot be read: %v", t.run.Connection, err))
	}
	parsed, _, err := readKubeconfig(ctx, t.logs.hub, t.logs.namespace, connection)
	if err != nil {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("ClusterConnection %q has no kubeconfig that can be used: %v", t.run.Connection, err))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	identity := identityOf(parsed)
	if t.current != nil && identity.Equal(t.identity) {
		return t.current, nil
	}
	stream, err := t.logs.streams.Open(identity, t.run.ClusterUID) //nolint:contextcheck // the connection outlives the request
	if err != nil {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("ClusterConnection %q: %v", t.run.Connection, err))
	}
	if t.current != nil {
		t.before = append(t.before, t.current)
	}
	t.identity, t.current = identity, stream
	return stream, nil
}

// Pods implements logserver.Target.
func (t *logsTarget) Pods(ctx context.Context, namespace, uid string) ([]*corev1.Pod, error) {
	stream, err := t.stream(ctx)
	if err != nil {
		return nil, err
	}
	return stream.Pods(ctx, namespace, uid)
}

// Log implements logserver.Target.
func (t *logsTarget) Log(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error) {
	stream, err := t.stream(ctx)
	if err != nil {
		return nil, err
	}
	return stream.Log(ctx, namespace, pod, options)
}

// WatchPods implements logserver.Target. A watch that fails is begun anew when there is
// another credential.
func (t *logsTarget) WatchPods(ctx context.Context, namespace, uid string, changed func([]*corev1.Pod), failed func(error)) {
	for ctx.Err() == nil {
		t.watchPods(ctx, namespace, uid, changed, failed)
	}
}

func (t *logsTarget) watchPods(ctx context.Context, namespace, uid string, changed func([]*corev1.Pod), failed func(error)) {
	t.mu.Lock()
	watched := t.current
	t.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched.WatchPods(ctx, namespace, uid, changed, func(err error) {
		failed(err)
		if now, err := t.stream(ctx); err == nil && now != watched {
			cancel()
		}
	})
}

// Close implements logserver.Target.
func (t *logsTarget) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, stream := range append(t.before, t.current) {
		if stream != nil {
			stream.Close()
		}
	}
}
