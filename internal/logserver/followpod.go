package logserver

import (
	"bytes"
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/internal/logcursor"
)

// podFollower reads the log of one Pod to its end.
type podFollower struct {
	*reading
	target    Target
	view      *view
	pod       *corev1.Pod // as it was found
	container string

	buffer bytes.Buffer // what the cursor lets pass
	cursor logcursor.Cursor
	to     *podWriter
	asked  bool  // the log was asked for, or has yet to begin
	first  bool  // nothing of it has come
	none   bool  // what came is the kubelet's excuse
	more   bool  // something was passed on of what came
	count  int32 // how often the container had been started again then
}

// The outcomes of reading a log.
type outcome int

const (
	ended      outcome = iota // the container ended, as far as the log tells
	broken                    // there is more
	notStarted                // there is no log yet
	gone                      // nor will there be
)

// followPod returns when nothing more can come from the Pod.
func (r *reading) followPod(ctx context.Context, target Target, v *view, pod *corev1.Pod) error {
	container, err := containerOf(pod, r.query.container)
	if err != nil {
		return err
	}
	f := &podFollower{
		reading: r, target: target, view: v, pod: pod, container: container,
		to: r.out.of(pod.Name, r.query.allPods), asked: !v.isLate(pod.UID, container),
	}
	f.cursor.Output, f.cursor.Timestamps = &f.buffer, r.query.timestamps
	for {
		now := v.now()
		if now.err != nil {
			return now.err
		}
		pod, there := f.find(now)
		status := statusOf(pod, container)
		over := now.ended || !there || isOver(pod)
		switch {
		case !hasLog(status) && over:
			return f.to.end()
		case !hasLog(status):
			err = now.wait(ctx, 0)
		default:
			err = f.step(ctx, status, over)
		}
		if errors.Is(err, errDone) {
			return f.to.end()
		}
		if err != nil {
			return err
		}
	}
}

// errDone tells that a Pod is read.
var errDone = errors.New("done")

// find is the Pod as it is now; as it was last when it is gone.
func (f *podFollower) find(now state) (*corev1.Pod, bool) {
	for _, pod := range now.pods {
		if pod.UID == f.pod.UID {
			f.pod = pod
			return pod, true
		}
	}
	return f.pod, !now.synced
}

// step reads on, and then waits until there is reason to read again.
func (f *podFollower) step(ctx context.Context, status corev1.ContainerStatus, over bool) error {
	if f.asked && status.RestartCount > f.count {
		// What the container before wrote last may not have been read.
		for f.more = true; f.more; {
			if _, err := f.read(ctx, true); err != nil {
				return err
			}
		}
		f.cursor.Restarted()
	}
	f.asked, f.count = true, status.RestartCount
	result, err := f.read(ctx, false)
	if err != nil {
		return err
	}
	switch {
	case over && result == ended && f.more:
		return nil // an API server ends its answer in order, too, when it loses the kubelet
	case result == gone, over && result != broken:
		return errDone
	case result == ended, result == notStarted && status.State.Terminated != nil:
		return f.await(ctx, status)
	}
	pause(ctx, f.timing.pause)
	return ctx.Err()
}

// await waits until the container was started again, or the Pod has ended, or the run.
// A container that runs although its log has ended is looked at again soon: its status
// comes late.
func (f *podFollower) await(ctx context.Context, read corev1.ContainerStatus) error {
	for {
		now := f.view.now()
		if now.err != nil {
			return now.err
		}
		pod, there := f.find(now)
		status := statusOf(pod, f.container)
		switch {
		case status.RestartCount > read.RestartCount && hasLog(status), now.ended, !there, isOver(pod):
			return nil // if only to make sure that nothing came after the end
		}
		if status.State.Running == nil {
			if err := now.wait(ctx, 0); err != nil {
				return err
			}
			continue
		}
		return now.wait(ctx, f.timing.recheck)
	}
}

// read reads the log, from where it was read to, until it ends or breaks.
func (f *podFollower) read(ctx context.Context, previous bool) (outcome, error) {
	f.more = false
	options := f.options(previous)
	options.Follow = !previous && statusOf(f.pod, f.container).State.Terminated == nil
	log, err := f.target.Log(ctx, f.pod.Namespace, f.pod.Name, options)
	switch {
	case previous && err != nil:
		return gone, ctx.Err() // it need not be there
	case apierrors.IsBadRequest(err):
		return notStarted, nil
	case apierrors.IsNotFound(err):
		return gone, nil
	case err != nil:
		f.view.failed(err)
		return broken, ctx.Err()
	}
	defer log.Close()
	f.view.works()
	f.cursor.Resume()
	f.none, f.first = false, true
	readErr, writeErr := pass(f, log)
	switch {
	case f.none:
		return notStarted, ctx.Err()
	case writeErr != nil:
		return broken, writeErr
	case readErr != nil:
		return broken, ctx.Err()
	}
	return ended, nil
}

// excuses are what kubelets answer instead of a log that is not there, as if it were one.
var excuses = [][]byte{[]byte("unable to retrieve container logs for "), []byte("failed to try resolving symlinks in path ")}

// isExcuse tells whether a log begins with one. A log itself would begin with a time.
func isExcuse(log []byte) bool {
	return slices.ContainsFunc(excuses, func(excuse []byte) bool { return bytes.HasPrefix(log, excuse) })
}

// Write passes on what the cursor lets pass.
func (f *podFollower) Write(p []byte) (int, error) {
	if f.first {
		f.first, f.none = false, isExcuse(p)
	}
	if f.none {
		return len(p), nil
	}
	f.buffer.Reset()
	if _, err := f.cursor.Write(p); err != nil {
		return 0, err
	}
	if f.buffer.Len() == 0 {
		return len(p), nil
	}
	f.more = true
	_, err := f.to.Write(f.buffer.Bytes())
	return len(p), err
}

// options ask for everything at first that the client wants, and then from where the
// log was read to.
func (f *podFollower) options(previous bool) *corev1.PodLogOptions {
	options := f.query.podLogOptions(f.container)
	options.Timestamps, options.Previous = true, previous
	if since, ok := f.cursor.Since(); ok {
		options.TailLines, options.SinceSeconds = nil, nil
		options.SinceTime = &metav1.Time{Time: since}
	}
	return options
}
