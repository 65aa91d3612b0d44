package connpool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// renewal is above a second: a reflector takes a watch that told nothing and ended
// sooner for a failure.
const renewal = 1200 * time.Millisecond

var _ = Describe("A watch that sends no events", func() {
	It("gets replaced by a new list and watch after WatchRenewal, in the same session", func(ctx context.Context) {
		s := newAPIServer()
		jobs, pods := s.feeds()
		r := newRig(func(o *Options) { o.WatchRenewal, o.WatchStaleness = renewal, time.Hour })
		lease := r.connect(ctx, target, s.config("token"))
		before := map[*feed]int{jobs: len(jobs.lists()), pods: len(pods.lists())}
		for f, lists := range before {
			// A watch that is granted and silent again would prove nothing.
			Eventually(ctx, func() int { return len(f.lists()) }).Should(BeNumerically(">=", lists+2))
			Eventually(ctx, f.open).Should(Equal(1), "the silent ones are still open")
		}
		Eventually(ctx, lease.session.entry.watches.Load).Should(BeEquivalentTo(2))
		Expect(lease.session.entry.sockets.Load()).To(BeEquivalentTo(1))
		Expect(r.lease(target).session).To(BeIdenticalTo(lease.session))
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})

	It("stays open as long as it sends bookmarks", func(ctx context.Context) {
		s := newAPIServer()
		jobs, pods := s.feeds()
		r := newRig(func(o *Options) { o.WatchRenewal, o.WatchStaleness = 2*time.Second, 3*time.Second })
		r.connect(ctx, target, s.config("token"))
		Eventually(ctx, func() int { return jobs.open() + pods.open() }).Should(Equal(2))
		before := len(jobs.watches()) + len(pods.watches())
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
			jobs.bookmark()
			pods.bookmark()
			Consistently(ctx, r.stateOf(target)).WithTimeout(100 * time.Millisecond).Should(Equal(Ready))
		}
		Expect(len(jobs.watches())+len(pods.watches())).To(Equal(before), "a watch was renewed for nothing")
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})

	It("makes the connection Stale while it cannot be renewed, although probes are answered", func(ctx context.Context) {
		s := newAPIServer()
		jobs, pods := s.feeds()
		r := newRig(func(o *Options) {
			o.WatchRenewal, o.WatchStaleness, o.ProbeInterval = renewal, 4*time.Second, 100*time.Millisecond
		})
		lease := r.connect(ctx, target, s.config("token"))
		jobs.refuse(true) // Pods go on
		Eventually(ctx, r.stateOf(target)).Should(Equal(Stale))
		_, err := r.pool.Lease(target, "")
		var notReady *NotReadyError
		Expect(errors.As(err, &notReady)).To(BeTrue(), "%v", err)
		Expect(notReady.Status.State).To(Equal(Stale))
		Expect(err).To(MatchError(ContainSubstring("its watches have been silent for too long")))
		stale := time.Now()
		Eventually(ctx, func() time.Time { return r.status().LastContact }).Should(BeTemporally(">", stale), "probes are answered")
		Consistently(ctx, r.stateOf(target)).Should(Equal(Stale))
		Eventually(ctx, pods.open).Should(Equal(1), "the silent watch of Pods is renewed as ever")

		jobs.refuse(false)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		Expect(r.lease(target).session).To(BeIdenticalTo(lease.session), "no new session is needed")
		Expect(r.transitions()).To(Equal([]State{Ready, Stale, Ready}))
	})

	It("gets renewed once more after the connection became Stale because a renewal was never answered", func(ctx context.Context) {
		s := newAPIServer()
		jobs, _ := s.feeds()
		r := newRig(func(o *Options) {
			o.WatchRenewal, o.WatchStaleness, o.ProbeInterval = 2*time.Second, 3*time.Second, 100*time.Millisecond
		})
		r.connect(ctx, target, s.config("token"))
		jobs.swallow() // one request, which is never answered; all others are
		Eventually(ctx, r.transitions).Should(HaveExactElements(Ready, Stale, Ready))
	})
})

var _ = Describe("A watch that the server ends", func() {
	DescribeTable("resumes in the same session, without a change of state, when it ends",
		func(ctx context.Context, end func(*feed)) {
			s := newAPIServer()
			jobs, pods := s.feeds()
			r := newRig()
			lease := r.connect(ctx, target, s.config("token"))
			for range 2 {
				Eventually(ctx, jobs.open).Should(Equal(1))
				before := len(jobs.watches())
				end(jobs)
				Eventually(ctx, func() []string { return jobs.watches() }).ShouldNot(HaveLen(before))
				Expect(lease.Job("default", "job")).To(BeNil(), "the view does not answer")
			}
			Eventually(ctx, jobs.open).Should(Equal(1))
			Consistently(ctx, r.transitions).Should(Equal([]State{Ready}))
			Expect(r.lease(target).session).To(BeIdenticalTo(lease.session))
			Expect(pods.watches()).To(HaveLen(1), "the other watch was disturbed")
		},
		Entry("without a word, as servers do every few minutes", func(f *feed) { f.end() }),
		Entry("after a bookmark", func(f *feed) {
			f.bookmark()
			f.end()
		}),
		Entry("with 410 Gone", func(f *feed) {
			expired := apierrors.NewResourceExpired("too old").Status()
			f.say(eventOf(watch.Error, &expired))
			f.end()
		}),
		Entry("and the next watch is answered 410 Gone", func(f *feed) {
			f.expire()
			f.end()
		}),
	)
})

var _ = Describe("A view whose watch of Pods is not open", func() {
	It("makes the lease report the Pods as late", func(ctx context.Context) {
		s := newAPIServer()
		_, pods := s.feeds()
		r := newRig()
		lease := r.connect(ctx, target, s.config("token"))
		lateFor := func() time.Duration { return time.Since(lease.PodsLateAt("default")) }
		Eventually(ctx, lateFor).Should(BeNumerically(">", time.Second))
		pods.refuse(true)
		pods.end()
		Eventually(ctx, lateFor).Should(BeNumerically("<", 100*time.Millisecond))
		Consistently(ctx, lateFor).Should(BeNumerically("<", 100*time.Millisecond))
		pods.refuse(false)
		Eventually(ctx, lateFor).Should(BeNumerically(">", time.Second))
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})
})

var _ = Describe("A target that sends more than is read", func() {
	It("makes the lease report the Pods as late until everything is read", func(ctx context.Context) {
		s := newAPIServer()
		_, pods := s.feeds()
		r := newRig(func(o *Options) { o.Pace = 1 << 20 })
		lease := r.connect(ctx, target, s.config("token"))
		Eventually(ctx, pods.open).Should(Equal(1))
		lateFor := func() time.Duration { return time.Since(lease.PodsLateAt("default")) }
		Eventually(ctx, lateFor).Should(BeNumerically(">", time.Second))
		large := bookmarkOf(&corev1.Pod{}, 2, map[string]string{"large": strings.Repeat("x", 1<<20)})
		for range 8 { // the first 4 MiB are read at once
			pods.say(large)
		}
		Eventually(ctx, lateFor).WithPolling(10 * time.Millisecond).Should(BeNumerically("<", 100*time.Millisecond))
		Eventually(ctx, lateFor).Should(BeNumerically(">", time.Second))
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})
})

// feed answers lists and watches of a kind that has no objects. Its watches say what
// they are told to.
type feed struct {
	example runtime.Object
	list    func(version int) runtime.Object // an empty one

	mu      sync.Mutex
	version int                  // of the last bookmark
	streams map[*stream]struct{} // the open watches
	listed  []string             // the resource versions of lists that were asked for
	watched []string             // and of watches
	refused bool                 // watches and lists are
	missed  bool                 // the next watch is
	expired bool                 // the next watch is
}

// stream is an open watch.
type stream struct {
	lines chan string
	ended chan struct{}
}

// feeds has the server answer for Jobs and Pods with two feeds.
func (s *apiserver) feeds() (jobs, pods *feed) {
	at := func(version int) metav1.ListMeta { return metav1.ListMeta{ResourceVersion: strconv.Itoa(version)} }
	jobs = &feed{example: &batchv1.Job{}, version: 1, streams: map[*stream]struct{}{}}
	jobs.list = func(version int) runtime.Object { return &batchv1.JobList{ListMeta: at(version)} }
	pods = &feed{example: &corev1.Pod{}, version: 1, streams: map[*stream]struct{}{}}
	pods.list = func(version int) runtime.Object { return &corev1.PodList{ListMeta: at(version)} }
	s.answer(jobsPath, jobs.answer)
	s.answer(podsPath, pods.answer)
	return jobs, pods
}

func (f *feed) answer(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	f.mu.Lock()
	version, refused, initial := f.version, f.refused, query.Get("sendInitialEvents") == "true"
	if query.Get("watch") == "" {
		f.listed = append(f.listed, query.Get("resourceVersion"))
		f.mu.Unlock()
		if refused {
			answerPage(http.StatusBadGateway)(w, r)
			return
		}
		answerJSON(f.list(version))(w, r)
		return
	}
	if initial {
		f.listed = append(f.listed, query.Get("resourceVersion"))
	}
	f.watched = append(f.watched, query.Get("resourceVersion"))
	missed, expired := f.missed, f.expired
	f.missed, f.expired = false, false
	if refused || missed || expired {
		f.mu.Unlock()
		switch {
		case refused:
			answerPage(http.StatusBadGateway)(w, r)
		case missed:
			<-r.Context().Done()
		default:
			answerError(apierrors.NewResourceExpired("too old"))(w, r)
		}
		return
	}
	open := &stream{lines: make(chan string, 100), ended: make(chan struct{})}
	f.streams[open] = struct{}{}
	f.mu.Unlock()
	f.serve(w, r, open, initial, version)
}

func (f *feed) serve(w http.ResponseWriter, r *http.Request, open *stream, initial bool, version int) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.streams, open)
	}()
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	if initial {
		fmt.Fprint(w, bookmarkOf(f.example, version, initialEventsEnd))
	}
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case line := <-open.lines:
			fmt.Fprint(w, line)
			continue
		default:
		}
		select {
		case line := <-open.lines:
			fmt.Fprint(w, line)
		case <-open.ended:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// say sends a line over every open watch.
func (f *feed) say(line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.streams {
		s.lines <- line
	}
}

func (f *feed) bookmark() {
	f.mu.Lock()
	f.version++
	line := bookmarkOf(f.example, f.version, nil)
	f.mu.Unlock()
	f.say(line)
}

// end ends every open watch, after what it was told to say.
func (f *feed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.streams {
		close(s.ended)
		delete(f.streams, s)
	}
}

// refuse has all lists and watches that come from now on refused, or not.
func (f *feed) refuse(refused bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = refused
}

// swallow leaves the next watch without an answer.
func (f *feed) swallow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missed = true
}

// expire has the next watch answered with 410 Gone.
func (f *feed) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expired = true
}

// open counts the open watches.
func (f *feed) open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.streams)
}

// watches returns the resource versions from which watches were asked for, lists those
// of the lists, also of those by watch.
func (f *feed) watches() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.watched...)
}

func (f *feed) lists() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.listed...)
}
