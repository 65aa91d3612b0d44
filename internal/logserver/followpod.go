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

	buffer   bytes.Buffer // what the cursor lets pass
	cursor   logcursor.Cursor
	to       *podWriter
	patience patience // with the log
	progress progress

	late     bool  // the container had begun before the request came
	wroteAny bool  // something was ever passed on
	restarts int32 // of the container, when its log was last asked for
	instance int32 // how often the container had been started again whose log is read; -1: not known
	lineOf   int32 // the same of the last line that was passed on
	excuse   error // of the target, why there is no log
}

// progress is how far the log of a Pod was read: the states of a Pod in doc.go, but those of its end.
type progress int

const (
	unread   progress = iota
	partly            // there may be more
	brokeOff          // the last stream broke: there is more
	complete          // to the end of a container that had ended
)

// outcome is that of reading a log.
type outcome int

const (
	ended      outcome = iota // to its end, as far as the answer shows
	broken                    // there is more
	notThere                  // it cannot be had: not yet, or not now
	gone                      // nor ever again: the Pod is gone
	interlaced                // something between what was read and what came is missing
)

// followPod returns when nothing more can come from the Pod.
func (r *reading) followPod(ctx context.Context, target Target, v *view, pod *corev1.Pod) error {
	container, err := containerOf(pod, r.query.container)
	if err != nil {
		return err
	}
	late := v.isLate(pod.UID, container)
	f := &podFollower{
		reading: r, target: target, view: v, pod: pod, container: container,
		to: r.out.of(pod.Name, r.query.allPods, r.query.timestamps), late: late, patience: patience{limit: r.timing.patience},
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
		case over && (!hasLog(status) || (f.progress == complete && status.RestartCount == f.restarts)):
			return f.to.end()
		case !hasLog(status):
			if err = f.out.begin(); err == nil {
				err = now.wait(ctx, 0)
			}
		default:
			err = f.readOn(ctx, status, over)
		}
		if errors.Is(err, errDone) {
			return f.to.end()
		}
		if err != nil {
			return err
		}
	}
}

// errShort is why a log is not taken for complete.
var errShort = errors.New("the answer ended before the last line that is known")

// maxExcuse bounds what of a kubelet's excuse is passed on, in bytes.
const maxExcuse = 300

// errDone is the result of a Pod that was read to its end.
var errDone = errors.New("done")

// find returns the Pod as it is now; as it was last when it is gone.
func (f *podFollower) find(now state) (*corev1.Pod, bool) {
	if pod := f.among(now.pods); pod != nil {
		f.pod = pod
		return pod, true
	}
	return f.pod, false
}

// among finds the Pod; nil if it is not there.
func (f *podFollower) among(pods []*corev1.Pod) *corev1.Pod {
	for _, pod := range pods {
		if pod.UID == f.pod.UID {
			return pod
		}
	}
	return nil
}

// readOn reads on, and then waits until there is reason to read again.
func (f *podFollower) readOn(ctx context.Context, status corev1.ContainerStatus, over bool) error {
	if ok, err := f.prepare(ctx, status, over); !ok {
		return err
	}
	hasEnded := over || status.State.Terminated != nil
	result, more, err := f.read(ctx, f.options(status.State.Terminated == nil, false))
	f.cursor.AllowGap = false
	switch {
	case err != nil:
		return err
	case result == gone && f.progress == brokeOff:
		return unavailable("Pod %s was deleted before its log was read to the end", f.pod.Name)
	case result == gone:
		return errDone
	case result == interlaced:
		_, err := f.readPrevious(ctx)
		return err
	case result == ended && hasEnded && more:
		return nil // an API server ends its answer in order, too, when it loses the kubelet
	case result == ended:
		if hasEnded {
			f.progress = complete
		}
		return f.await(ctx, status)
	case result == notThere && f.patience.failed():
		if f.query.allPods && over && !f.wroteAny {
			return errDone // what its node has removed shall not keep others from being read
		}
		return unavailable("the node of Pod %s does not give the log of container %s: %v", f.pod.Name, f.container, f.excuse)
	case result == notThere:
		pause(ctx, f.timing.recheck)
		return ctx.Err()
	}
	f.view.doubted()
	pause(ctx, f.timing.pause)
	return ctx.Err()
}

// prepare does what comes before the log is read: of a container that was started again the log before. If ok
// is false, the Pod is to be looked at again.
func (f *podFollower) prepare(ctx context.Context, status corev1.ContainerStatus, over bool) (ok bool, err error) {
	if _, known := f.cursor.Since(); f.progress != unread && !known && !over {
		// No line would show that this is another container's log.
		now, err := f.statusNow(ctx)
		if err != nil || now.RestartCount != status.RestartCount {
			return false, err
		}
	}
	began := f.progress != unread || !f.late
	if f.progress != brokeOff {
		f.progress = partly
	}
	if began && status.RestartCount > f.restarts {
		if ok, err := f.readPrevious(ctx); !ok {
			return false, err
		}
	}
	f.restarts, f.instance = status.RestartCount, status.RestartCount
	return true, nil
}

// statusNow reads the status of the container from the target itself.
func (f *podFollower) statusNow(ctx context.Context) (corev1.ContainerStatus, error) {
	told := f.view.toldSoFar()
	pods, err := f.target.Pods(ctx, f.view.run.Namespace, f.view.run.UID)
	if err != nil {
		pause(ctx, f.timing.pause)
		return corev1.ContainerStatus{}, errors.Join(f.failed(err), ctx.Err())
	}
	if pod := f.among(pods); pod != nil {
		f.view.setRead(pods, told)
		return statusOf(pod, f.container), nil
	}
	return statusOf(f.pod, f.container), nil // it is gone, as the request for its log will show
}

// readPrevious reads on in the log of the container before the last restart, if it is still
// there: what that one wrote last may not have been read. If it is done, ok is true, and what is
// read next may begin with a gap.
func (f *podFollower) readPrevious(ctx context.Context) (ok bool, err error) {
	f.cursor.AllowGap, f.instance = true, -1
	defer func() { f.cursor.AllowGap = ok }()
	for more := true; more; {
		var result outcome
		if result, more, err = f.read(ctx, f.options(false, true)); err != nil {
			return false, err
		}
		if result == broken {
			pause(ctx, f.timing.pause)
			return false, ctx.Err()
		}
	}
	f.cursor.Restarted()
	return true, nil
}

// await waits until the container was started again, or has ended, or the Pod has, or the
// run. A container that runs although its log has ended is looked at again soon: its
// status comes late.
func (f *podFollower) await(ctx context.Context, read corev1.ContainerStatus) error {
	for {
		now := f.view.now()
		if now.err != nil {
			return now.err
		}
		pod, there := f.find(now)
		status := statusOf(pod, f.container)
		switch {
		case status.RestartCount > read.RestartCount && hasLog(status), now.ended, !there, isOver(pod),
			status.State.Terminated != nil && f.progress != complete:
			return nil
		case status.State.Running != nil:
			return now.wait(ctx, f.timing.recheck)
		}
		if err := now.wait(ctx, 0); err != nil {
			return err
		}
	}
}

// read reads the log, from where it was read to, until it ends or breaks. more is true if something was
// passed on.
func (f *podFollower) read(ctx context.Context, options *corev1.PodLogOptions) (result outcome, more bool, err error) {
	log, err := f.target.Log(ctx, f.pod.Namespace, f.pod.Name, options)
	switch {
	case err == nil:
	case apierrors.IsForbidden(err) && !f.out.hasBegun(): // else it may be an API server that begins
		return broken, false, targetError(f.view.run, err)
	case apierrors.IsBadRequest(err):
		f.excuse = err
		return notThere, false, ctx.Err()
	case apierrors.IsNotFound(err):
		result, err = f.notFound(ctx, err)
		return result, false, err
	default:
		return broken, false, errors.Join(f.failed(err), ctx.Err())
	}
	defer log.Close()
	if options.Follow { // else there is something at once, or an excuse
		if err := f.out.begin(); err != nil {
			return broken, false, err
		}
	}
	f.cursor.Resume()
	stream := &logStream{podFollower: f}
	readErr, writeErr := pass(stream, log)
	result, err = f.judge(ctx, stream, options, readErr, writeErr)
	return result, stream.wrote, err
}

// judge returns what came of a stream that has ended.
func (f *podFollower) judge(ctx context.Context, stream *logStream, options *corev1.PodLogOptions, readErr, writeErr error) (outcome, error) {
	switch {
	case stream.content == kubeletExcuse:
		return notThere, ctx.Err()
	case errors.Is(writeErr, logcursor.ErrGap):
		return interlaced, nil
	case writeErr != nil:
		return broken, writeErr
	}
	f.progress = partly
	if readErr != nil {
		f.progress = brokeOff
	}
	switch {
	case readErr != nil && !options.Follow && !stream.wrote: // who gives nothing does not work
		return broken, errors.Join(f.failed(readErr), ctx.Err())
	case readErr == nil && !options.Follow && !options.Previous && f.lineOf == f.instance && !f.cursor.Reached():
		f.excuse = errShort
		return notThere, ctx.Err()
	}
	f.patience.works()
	if readErr != nil {
		return broken, ctx.Err()
	}
	return ended, nil
}

// notFound makes sure that a Pod is gone that was not found: a kubelet that has just
// started does not know its Pods, and a proxy knows none.
func (f *podFollower) notFound(ctx context.Context, notFound error) (outcome, error) {
	pods, err := f.target.Pods(ctx, f.view.run.Namespace, f.view.run.UID)
	if err != nil {
		return broken, errors.Join(f.failed(err), ctx.Err())
	}
	if f.among(pods) != nil {
		return broken, errors.Join(f.failed(notFound), ctx.Err())
	}
	return gone, nil
}

// failed returns the error with which to give up, if the log has failed for long enough.
func (f *podFollower) failed(err error) error {
	if f.patience.failed() {
		return targetError(f.view.run, err)
	}
	return nil
}

// excuses are what kubelets answer instead of a log that is not there, as if it were one.
var excuses = [][]byte{[]byte("unable to retrieve container logs for "), []byte("failed to try resolving symlinks in path ")}

// isExcuse reports whether a log begins with one. A log itself would begin with a time.
func isExcuse(log []byte) bool {
	return slices.ContainsFunc(excuses, func(excuse []byte) bool { return bytes.HasPrefix(log, excuse) })
}

// content is what a stream has.
type content int

const (
	empty content = iota // yet
	containerLog
	kubeletExcuse
)

// logStream is one answer with the log of a Pod.
type logStream struct {
	*podFollower
	content content
	wrote   bool // something of it was passed on
}

// Write passes on what the cursor lets pass.
func (s *logStream) Write(p []byte) (int, error) {
	if s.content == empty {
		s.content = containerLog
		if isExcuse(p) {
			s.content, s.excuse = kubeletExcuse, errors.New(string(p[:min(len(p), maxExcuse)]))
		}
	}
	if s.content == kubeletExcuse {
		return len(p), nil
	}
	s.buffer.Reset()
	if _, err := s.cursor.Write(p); err != nil {
		return 0, err
	}
	if s.buffer.Len() == 0 {
		return len(p), nil
	}
	s.wrote, s.wroteAny, s.lineOf = true, true, s.instance
	_, err := s.to.Write(s.buffer.Bytes())
	return len(p), err
}

// options ask for everything at first that the client wants, and then from where the
// log was read to. The last lines only are wanted of what there was before the request.
func (f *podFollower) options(follow, previous bool) *corev1.PodLogOptions {
	options := f.query.podLogOptions(f.container)
	options.Timestamps, options.Follow, options.Previous = true, follow, previous
	if !f.late {
		options.TailLines = nil
	}
	if since, ok := f.cursor.Since(); ok {
		options.TailLines = nil
		options.SinceTime = &metav1.Time{Time: since}
	}
	return options
}
