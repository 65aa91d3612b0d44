package logserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

const jobUID = "job-uid"

// fake is a hub with one PooledJob and a target with its Pods. What the containers do and
// what the Pods' statuses say of it are two things, as they are for a kubelet.
type fake struct {
	mu      sync.Mutex
	run     Run
	gone    bool // the PooledJob
	pods    []*fakePod
	changed chan struct{} // closed at each change
	broken  int           // counts what breaks all streams
	down    error         // what the target answers
	logDown error         // what it answers to who asks for a log
	hubDown error         // what the hub answers
	unknown bool          // the kubelet does not know its Pods yet
	opened  int           // streams that are open
	asked   []corev1.PodLogOptions
}

type fakePod struct {
	object    *corev1.Pod
	deleted   bool
	instances []*instance // of its container
}

// instance is one start of a container.
type instance struct {
	lines []stamped
	ended bool
	lost  bool // its log was removed
}

type stamped struct {
	at   time.Time
	text string
}

// later lets virtual time pass.
func later(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // in a bubble of synctest

func newFake() *fake {
	return &fake{
		changed: make(chan struct{}),
		run:     Run{UID: "run-uid", Connection: "target", ClusterUID: "cluster", Namespace: "ns", JobUID: jobUID},
	}
}

// do changes the world.
func (f *fake) do(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) addPod(name string) *fakePod {
	yes := true
	p := &fakePod{object: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: name, UID: types.UID("uid-" + name), CreationTimestamp: metav1.Now(),
		OwnerReferences: []metav1.OwnerReference{{UID: jobUID, Controller: &yes}},
	}}}
	p.object.Spec.Containers = []corev1.Container{{Name: "main"}}
	f.do(func() { f.pods = append(f.pods, p) })
	return p
}

// start starts the container once more, which only the kubelet knows.
func (f *fake) start(p *fakePod) {
	f.do(func() { p.instances = append(p.instances, &instance{}) })
}

func (f *fake) print(p *fakePod, texts ...string) {
	f.do(func() {
		last := p.instances[len(p.instances)-1]
		for _, text := range texts {
			last.lines = append(last.lines, stamped{time.Now(), text})
		}
	})
}

func (f *fake) exit(p *fakePod) {
	f.do(func() { p.instances[len(p.instances)-1].ended = true })
}

// publish has the Pod's status say what is so.
func (f *fake) publish(p *fakePod, phase corev1.PodPhase) {
	f.do(func() {
		object := p.object.DeepCopy()
		status := corev1.ContainerStatus{Name: object.Spec.Containers[0].Name}
		switch n := len(p.instances); {
		case n == 0:
			status.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
		case p.instances[n-1].ended:
			status.State.Terminated, status.RestartCount = &corev1.ContainerStateTerminated{FinishedAt: metav1.Now()}, int32(n-1)
		default:
			status.State.Running, status.RestartCount = &corev1.ContainerStateRunning{}, int32(n-1)
		}
		object.Status.Phase, object.Status.ContainerStatuses = phase, []corev1.ContainerStatus{status}
		p.object = object
	})
}

// Run implements Backend.
func (f *fake) Run(context.Context, string, string) (Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return Run{}, apierrors.NewNotFound(schema.GroupResource{Resource: "pooledjobs"}, "x")
	}
	return f.run, f.hubDown
}

// Watch implements Backend.
func (f *fake) Watch(string, string) (changed <-chan struct{}, stop func()) {
	told := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go f.watch(ctx, func() {
		select {
		case told <- struct{}{}:
		default:
		}
	})
	return told, cancel
}

func (f *fake) watch(ctx context.Context, changed func()) {
	for {
		f.mu.Lock()
		next := f.changed
		f.mu.Unlock()
		changed()
		select {
		case <-next:
		case <-ctx.Done():
			return
		}
	}
}

// Open implements Backend.
func (f *fake) Open(context.Context, Run) (Target, error) { return f, nil }

// Close implements Target.
func (f *fake) Close() {}

// Pods implements Target.
func (f *fake) Pods(context.Context, string, string) ([]*corev1.Pod, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list(), f.down
}

func (f *fake) list() []*corev1.Pod {
	var list []*corev1.Pod
	for _, p := range f.pods {
		if !p.deleted {
			list = append(list, p.object)
		}
	}
	return list
}

// WatchPods implements Target.
func (f *fake) WatchPods(ctx context.Context, _, _ string, changed func([]*corev1.Pod), failed func(error)) {
	f.watch(ctx, func() {
		pods, err := f.Pods(ctx, "", "")
		if err != nil {
			failed(err)
			return
		}
		changed(pods)
	})
}

// Log implements Target, as a kubelet does: of the latest container, or with Previous of
// the one before.
func (f *fake) Log(ctx context.Context, _, name string, options *corev1.PodLogOptions) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, *options)
	if err := cmp.Or(f.down, f.logDown); err != nil {
		return nil, err
	}
	if f.unknown {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name)
	}
	i := slices.IndexFunc(f.pods, func(p *fakePod) bool { return p.object.Name == name && !p.deleted })
	if i < 0 {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name)
	}
	n := len(f.pods[i].instances) - 1
	if options.Previous {
		n--
	}
	if n < 0 {
		return nil, apierrors.NewBadRequest("container is waiting to start")
	}
	if f.pods[i].instances[n].lost {
		return io.NopCloser(strings.NewReader("failed to try resolving symlinks in path \"/var/log/pods/a\": lstat: no such file or directory")), nil
	}
	f.opened++
	first := 0
	if options.TailLines != nil {
		first = max(0, len(f.pods[i].instances[n].lines)-int(*options.TailLines))
	}
	return &fakeLog{next: first, ctx: ctx, fake: f, instance: f.pods[i].instances[n], options: options, broken: f.broken}, nil
}

// requests returns how many logs were asked for.
func (f *fake) requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

// fakeLog is a stream of one container's log.
type fakeLog struct {
	ctx      context.Context
	fake     *fake
	instance *instance
	options  *corev1.PodLogOptions
	broken   int
	next     int
	rest     string
	cut      bool
}

// Read implements io.Reader.
func (l *fakeLog) Read(p []byte) (int, error) {
	for {
		l.fake.mu.Lock()
		n, done, err := l.read(p)
		changed := l.fake.changed
		l.fake.mu.Unlock()
		if done {
			return n, err
		}
		select {
		case <-changed:
		case <-l.ctx.Done():
			return 0, l.ctx.Err()
		}
	}
}

var errBroken = errors.New("the stream is broken")

func (l *fakeLog) read(p []byte) (n int, done bool, err error) {
	if l.cut {
		return 0, true, errBroken
	}
	for l.rest == "" && l.next < len(l.instance.lines) {
		l.rest = l.served(l.instance.lines[l.next])
		l.next++
	}
	isBroken := l.broken != l.fake.broken
	switch {
	case isBroken && len(l.rest) <= 3:
		return 0, true, errBroken
	case isBroken: // in the middle of a line
		l.cut = true
		return copy(p, l.rest[:len(l.rest)/2]), true, nil
	case l.rest != "":
		n = copy(p, l.rest)
		l.rest = l.rest[n:]
		return n, true, nil
	case l.instance.ended || !l.options.Follow:
		return 0, true, io.EOF
	}
	return 0, false, nil
}

// served returns a line as it is asked for; empty if it is older.
func (l *fakeLog) served(line stamped) string {
	switch since := l.options.SinceTime; {
	case since != nil && line.at.Before(since.Time):
		return ""
	case l.options.Timestamps:
		return line.at.Format("2006-01-02T15:04:05.000000000Z07:00") + " " + line.text + "\n"
	}
	return line.text + "\n"
}

// Close implements io.Closer.
func (l *fakeLog) Close() error {
	l.fake.mu.Lock()
	defer l.fake.mu.Unlock()
	l.fake.opened--
	return nil
}

// client is one request.
type client struct {
	response *httptest.ResponseRecorder
	cancel   context.CancelFunc
	done     chan struct{}
	err      error
	out      *output
}

// get makes a request and returns while it is served.
func (f *fake) get(parameters string) *client {
	values := map[string][]string{}
	for _, p := range strings.FieldsFunc(parameters, func(r rune) bool { return r == '&' }) {
		name, value, _ := strings.Cut(p, "=")
		values[name] = append(values[name], value)
	}
	c := &client{response: httptest.NewRecorder(), done: make(chan struct{})}
	q, err := parseQuery(values, time.Now())
	if err != nil {
		c.err = err
		close(c.done)
		return c
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.out = cancel, newOutput(c.response, q.limitBytes)
	limits := newLimits(Limits{PerConnection: 9})
	r := &reading{
		backend: f, namespace: "hub-ns", name: "x", query: q, run: f.run, out: c.out, timing: defaultTiming,
		enter: func(name string) (func(), error) { return limits.enterConnection(name, q.logsAtOnce()) },
	}
	go func() {
		defer close(c.done)
		if q.follow {
			c.err = r.follow(ctx)
		} else {
			c.err = r.read(ctx)
		}
	}()
	return c
}

// body waits for the end, and tells what came and how it ended.
func (c *client) body() string {
	<-c.done
	text := ""
	if c.out != nil {
		text = c.response.Body.String()
	}
	if c.err != nil && !errors.Is(c.err, errLimit) {
		text += fmt.Sprintf("(%v)", c.err)
	}
	return text
}
