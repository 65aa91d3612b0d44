package connpool

import (
	"context"
	"errors"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var _ = Describe("A connection whose network or target fails", func() {
	It("resumes its watches and keeps its lease when TCP connections are cut", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		lease := r.connect(ctx, target, adminConfig(p))
		before := r.createJob(ctx)
		Eventually(ctx, r.inView(target, before)).Should(BeTrue())
		p.cut()
		after := r.createJob(ctx)
		pod := r.createPod(ctx, "after")
		deleteJob(ctx, before)
		Eventually(ctx, func(g Gomega) {
			g.Expect(lease.Job(after.Namespace, after.Name)).NotTo(BeNil())
			g.Expect(lease.Job(before.Namespace, before.Name)).To(BeNil())
			g.Expect(keyed(lease, pod.Labels[keyLabel]).Pods(metav1.NamespaceDefault)).To(HaveLen(1))
		}).Should(Succeed())
		Expect(lease.GetJob(ctx, after.Namespace, after.Name)).NotTo(BeNil())
		Consistently(ctx, r.transitions).Should(Equal([]State{Ready}))
		Eventually(ctx, p.open).Should(Equal(1))
	})

	It("becomes Unreachable when the target is gone, and Ready with a fresh view when it is back", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		old := r.connect(ctx, target, adminConfig(p))
		kept, deleted := r.createJob(ctx), r.createJob(ctx)
		Eventually(ctx, r.inView(target, deleted)).Should(BeTrue())
		Eventually(ctx, r.inView(target, kept)).Should(BeTrue())
		contact := r.status().LastContact

		p.down()
		Eventually(ctx, r.stateOf(target)).Should(Equal(Unreachable))
		status := r.status()
		Expect(status.Err).To(HaveOccurred())
		Expect(status.ClusterUID).To(Equal(clusterUID), "what was known is kept")
		Expect(status.LastContact).To(BeTemporally(">=", contact))
		_, err := r.pool.Lease(target, "")
		var notReady *NotReadyError
		Expect(errors.As(err, &notReady)).To(BeTrue(), "%v", err)
		Expect(notReady.Connection).To(Equal(target))
		Expect(notReady.Status.State).To(Equal(Unreachable))
		Expect(err).To(MatchError(ContainSubstring("connection target is Unreachable: ")))
		expectClosed(ctx, old)
		Consistently(ctx, r.transitions).Should(Equal([]State{Ready, Unreachable}), "attempts that fail as the last are no news")

		deleteJob(ctx, deleted)
		created := r.createJob(ctx)
		p.up(ctx)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		Expect(jobsIn(r.lease(target))).To(ConsistOf("default/"+kept.Name, "default/"+created.Name))
		Expect(r.status().Err).NotTo(HaveOccurred())
		Expect(r.transitions()).To(Equal([]State{Ready, Unreachable, Ready}))
		expectClosed(ctx, old)
		Eventually(ctx, p.open).Should(Equal(1))
	})

	It("becomes Unreachable when nothing is answered any more, and slows down no other connection", func(ctx context.Context) {
		hole, sound := newProxy(cluster.Config().Host), newProxy(cluster.Config().Host)
		r := newRig(func(o *Options) { o.ProbeInterval, o.ProbeTimeout = 200*time.Millisecond, 500*time.Millisecond })
		swallowed := r.connect(ctx, target, adminConfig(hole))
		lease := r.connect(ctx, "sound", adminConfig(sound))
		hole.hold()
		stuck := make(chan error, 1)
		go func() {
			_, err := swallowed.ReadClusterUID(ctx)
			stuck <- err
		}()
		held := time.Now()
		for r.stateOf(target)() == Ready {
			// Without probes the HTTP/2 ping would find out in 15 s.
			Expect(time.Since(held)).To(BeNumerically("<", 10*time.Second))
			began := time.Now()
			Expect(r.lease("sound").ReadClusterUID(ctx)).To(Equal(clusterUID))
			Expect(keyed(lease, "none").Pods(metav1.NamespaceDefault)).To(BeEmpty())
			r.pool.Connect("sound", adminConfig(sound))
			Expect(time.Since(began)).To(BeNumerically("<", 400*time.Millisecond))
		}
		Expect(r.stateOf(target)()).To(Equal(Unreachable))
		other, _ := r.pool.Status("sound")
		Expect(other.LastContact).To(BeTemporally(">", held), "its probes were held up")
		r.connect(ctx, "new", adminConfig(sound))
		Eventually(ctx, stuck).Should(Receive(HaveOccurred()), "a call in flight outlives its session")
		expectClosed(ctx, swallowed)
		job := r.createJob(ctx)
		Eventually(ctx, r.inView("sound", job)).Should(BeTrue())

		hole.release()
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		Expect(r.inView(target, job)()).To(BeTrue())
	})

	It("stays Ready when the target is slow, and slows down no other connection", func(ctx context.Context) {
		slow, sound := newProxy(cluster.Config().Host), newProxy(cluster.Config().Host)
		r := newRig(func(o *Options) { o.ProbeInterval = 200 * time.Millisecond })
		late := r.connect(ctx, target, adminConfig(slow))
		lease := r.connect(ctx, "sound", adminConfig(sound))
		slow.slow(300 * time.Millisecond)
		job := r.createJob(ctx)
		asked := make(chan error, 1)
		go func() {
			_, err := late.GetJob(ctx, job.Namespace, job.Name)
			asked <- err
		}()
		answered := 0
		Eventually(ctx, func() chan error {
			Expect(lease.ReadClusterUID(ctx)).To(Equal(clusterUID))
			answered++
			return asked
		}).Should(Receive(BeNil()))
		Expect(answered).To(BeNumerically(">", 1), "the other connection had to wait")
		Eventually(ctx, r.inView(target, job)).Should(BeTrue())
		contact := r.status().LastContact
		Eventually(ctx, func() time.Time { return r.status().LastContact }).Should(BeTemporally(">", contact))
		Expect(r.stateOf(target)()).To(Equal(Ready))
		Expect(slow.dialled()).To(Equal(1))
	})

	It("does not keep Connect, Lease or Disconnect waiting when the target never answers", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		p.hold()
		began := time.Now()
		r.pool.Connect(target, adminConfig(p))
		Eventually(ctx, p.open).Should(Equal(1))
		_, err := r.pool.Lease(target, "")
		Expect(err).To(MatchError("connection target is Connecting"))
		r.pool.Disconnect(target)
		Eventually(ctx, p.open).Should(BeZero())
		Expect(time.Since(began)).To(BeNumerically("<", 5*time.Second))
	})

	It("becomes Unreachable when something other than an API server answers", func(ctx context.Context) {
		for _, code := range []int{http.StatusOK, http.StatusNotFound, http.StatusBadGateway} {
			s := newAPIServer()
			r := newRig()
			s.answer(identityPath, answerPage(code))
			r.pool.Connect(target, s.config("token"))
			Eventually(ctx, r.stateOf(target)).Should(Equal(Unreachable))
		}
	})

	It("becomes Ready only once the target's readiness probe succeeds", func(ctx context.Context) {
		s := newAPIServer()
		s.answer(readyPath, answerPage(http.StatusInternalServerError))
		r := newRig()
		r.pool.Connect(target, s.config("token"))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Unreachable))
		Consistently(ctx, r.transitions).Should(Equal([]State{Unreachable}))
		s.answer(readyPath, answerOK)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
	})

	It("stays Ready while the target refuses its watches", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig()
		r.connect(ctx, target, s.config("token"))
		s.answer(jobsPath, answerError(apierrors.NewResourceExpired("too old")))
		s.answer(podsPath, answerPage(http.StatusBadGateway))
		asked := len(s.asked(jobsPath))
		s.CloseClientConnections()
		Eventually(ctx, func() int { return len(s.asked(jobsPath)) }).Should(BeNumerically(">=", asked+2))
		Consistently(ctx, r.transitions).Should(Equal([]State{Ready}))
	})

	DescribeTable("stays Ready and asks again for its watches when they are answered",
		func(ctx context.Context, busy *apierrors.StatusError) {
			s, r := newAPIServer(), newRig()
			asked := func() int { return len(s.asked(jobsPath)) }
			r.pool.Connect(target, s.config("token"))
			Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
			s.answer(jobsPath, answerError(busy))
			before := asked()
			s.CloseClientConnections()
			Eventually(ctx, asked).Should(BeNumerically(">=", before+2))
			Expect(r.transitions()).To(Equal([]State{Ready}))
		},
		Entry("429", apierrors.NewTooManyRequests("later", 1)),
		Entry("500", apierrors.NewInternalError(errors.New("etcd has no leader"))),
		Entry("503", apierrors.NewServiceUnavailable("not yet")),
	)

	It("waits longer between attempts when the target keeps failing after each success", func(ctx context.Context) {
		s := newAPIServer()
		sessions := func() int { return len(s.asked(versionPath)) }
		last := 0
		s.answer(readyPath, func(w http.ResponseWriter, q *http.Request) {
			if now := sessions(); now != last {
				last = now // the first probe of a session does well
				answerOK(w, q)
				return
			}
			answerPage(http.StatusBadGateway)(w, q)
		})
		r := newRig(func(o *Options) {
			o.ProbeInterval, o.MinBackoff, o.MaxBackoff = 10*time.Millisecond, 20*time.Millisecond, time.Minute
		})
		r.connect(ctx, target, s.config("token"))
		// With the shortest waits there would be about 18 sessions.
		Consistently(ctx, sessions).WithTimeout(3 * time.Second).Should(BeNumerically("<", 12))
		Expect(sessions()).To(BeNumerically(">", 2))
	})

	It("stays Ready when fewer than three probes in a row fail", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(func(o *Options) { o.ProbeInterval = 100 * time.Millisecond })
		r.connect(ctx, target, s.config("token"))
		probes := 0
		s.answer(readyPath, func(w http.ResponseWriter, q *http.Request) {
			if probes++; probes%probeFailures != 0 {
				answerPage(http.StatusInternalServerError)(w, q)
				return
			}
			answerOK(w, q)
		})
		Eventually(ctx, func() int { return len(s.asked(readyPath)) }).Should(BeNumerically(">", 4*probeFailures))
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})

	It("becomes Unreachable when the server's certificate has another name", func(ctx context.Context) {
		r := newRig()
		config := adminConfig(nil)
		config.TLSServerName = "localhost" // which the certificate has too
		r.connect(ctx, "named", config)
		config.TLSServerName = "another.example"
		r.pool.Connect(target, config)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Unreachable))
		Expect(r.status().Err).To(MatchError(ContainSubstring("not another.example")))
	})

	It("becomes Unreachable when a proxy answers the probes instead of the target", func(ctx context.Context) {
		for _, code := range []int{http.StatusForbidden, http.StatusBadGateway} {
			s := newAPIServer()
			r := newRig(func(o *Options) { o.ProbeInterval = 100 * time.Millisecond })
			r.connect(ctx, target, s.config("token"))
			s.answer(readyPath, answerPage(code))
			s.answer(identityPath, answerPage(http.StatusBadGateway)) // or it is Ready again at once
			Eventually(ctx, r.stateOf(target)).Should(Equal(Unreachable))
		}
	})
})

// expectClosed calls every method of a lease whose session has ended.
func expectClosed(ctx context.Context, l *Lease) {
	for name, call := range map[string]func() error{
		"Job":            func() error { _, err := l.Job("default", "job"); return err },
		"Pods":           func() error { _, err := keyed(l, "key").Pods(metav1.NamespaceDefault); return err },
		"CreateJob":      func() error { _, _, err := l.CreateJob(ctx, toCreate((&rig{run: "none"}).newJob())); return err },
		"GetJob":         func() error { _, err := l.GetJob(ctx, "default", "job"); return err },
		"PatchJob":       func() error { _, err := l.PatchJob(ctx, "default", "job", []byte("{}")); return err },
		"TryJob":         func() error { _, err := l.TryJob(ctx, toCreate((&rig{run: "none"}).newJob())); return err },
		"DeleteJob":      func() error { return l.DeleteJob(ctx, "default", "job", "uid", "") },
		"DeletePod":      func() error { return l.DeletePod(ctx, "default", "pod", "uid") },
		"ListPods":       func() error { _, err := keyed(l, "key").ListPods(ctx, metav1.NamespaceDefault); return err },
		"Warnings":       func() error { _, err := l.Warnings(ctx, metav1.NamespaceDefault, "Job", "job", "uid"); return err },
		"ReadClusterUID": func() error { _, err := l.ReadClusterUID(ctx); return err },
	} {
		ExpectWithOffset(1, call()).To(BeIdenticalTo(ErrClosed), name)
	}
}
