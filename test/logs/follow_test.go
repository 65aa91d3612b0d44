package logs

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fakekubelet"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

var _ = Describe("Following a log", func() {
	It("begins before the run has a Job, and ends with the run", func(ctx context.Context) {
		r := submit(ctx, 1, func(job *v1alpha1.PooledJob) { job.Spec.Suspend = new(true) })
		f := followAs(ctx, editor, r, "")
		Consistently(f.ended).ShouldNot(Receive())
		r.change(ctx, func(job *v1alpha1.PooledJob) { job.Spec.Suspend = new(false) })
		pod, log := r.started(ctx)
		log.Print("one")
		Eventually(f.text).WithContext(ctx).Should(Equal("one\n"), "while the container runs")
		log.Print("two", "three")
		Eventually(f.text).WithContext(ctx).Should(Equal("one\ntwo\nthree\n"))
		Consistently(f.ended).ShouldNot(Receive())
		r.end(ctx, pod, 3)
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
		Expect(f.text()).To(Equal("one\ntwo\nthree\n"))
		Expect(r.latest(Default, ctx)).To(haveEnded(v1alpha1.PooledJobFailed), "it ends after the run")
		Expect(readAs(ctx, editor, r, "follow=true")).To(haveLog("one\ntwo\nthree\n"), "of a run that has ended")
	})

	It("waits for a container that cannot start yet", func(ctx context.Context) {
		r := submit(ctx, 1, annotated(localcluster.WaitingReasonAnnotation, "ImagePullBackOff"))
		f := followAs(ctx, editor, r, "")
		pods := []corev1.Pod{}
		Eventually(func(g Gomega) { pods = r.pods(g, ctx); g.Expect(pods).To(HaveLen(1)) }).WithContext(ctx).Should(Succeed())
		Consistently(f.ended).ShouldNot(Receive())
		before := pods[0].DeepCopy()
		delete(pods[0].Annotations, localcluster.WaitingReasonAnnotation)
		Expect(r.target.Client.Patch(ctx, &pods[0], client.MergeFrom(before))).To(Succeed())
		pod, log := r.started(ctx)
		log.Print("one")
		Eventually(f.text).WithContext(ctx).Should(Equal("one\n"))
		r.end(ctx, pod, 0)
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
	})

	It("ends when the run ends without a Pod", func(ctx context.Context) {
		r := submit(ctx, 1, func(job *v1alpha1.PooledJob) { job.Spec.ClusterName = "nowhere" })
		f := followAs(ctx, editor, r, "")
		Consistently(f.ended).ShouldNot(Receive())
		r.change(ctx, func(job *v1alpha1.PooledJob) { job.Spec.Cancel = new(true) })
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
		Expect(f.text()).To(BeEmpty())
	})

	It("starts with the last tailLines, and keeps to its parameters after the stream breaks", func(ctx context.Context) {
		r := submit(ctx, 1)
		pod, log := r.started(ctx)
		at := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
		log.PrintAt(at, "one", "two", "three")
		f := followAs(ctx, editor, r, "tailLines=2&timestamps=true")
		stamp := func(i int, line string) string {
			return at.Add(time.Duration(i)*time.Microsecond).Format("2006-01-02T15:04:05.000000000Z") + " " + line + "\n"
		}
		want := stamp(1, "two") + stamp(2, "three")
		Eventually(f.text).WithContext(ctx).Should(Equal(want))
		log.Break() // is asked for again from there, not the last two lines
		log.PrintAt(at.Add(time.Minute), "four")
		want += at.Add(time.Minute).Format("2006-01-02T15:04:05.000000000Z") + " four\n"
		Eventually(f.text).WithContext(ctx).Should(Equal(want))
		r.end(ctx, pod, 0)
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
		Expect(f.text()).To(Equal(want))
	})

	It("continues where a stream broke, with each line once and in order", func(ctx context.Context) {
		r := submit(ctx, 1)
		pod, log := r.started(ctx)
		f := followAs(ctx, editor, r, "")
		w := write(log)
		for streams := 1; streams <= 4; streams++ {
			Eventually(log.Streams).WithContext(ctx).Should(HaveLen(streams))
			w.until(ctx, f, streams*100)
			log.Break()
		}
		Expect(f.text()).NotTo(BeEmpty())
		w.stop()
		r.end(ctx, pod, 0)
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
		Expect(f.text()).To(Equal(w.all()))
	})

	It("continues when the target's API server comes back", func(ctx context.Context) {
		r := submit(ctx, 2)
		pod, log := r.started(ctx)
		f := followAs(ctx, editor, r, "")
		w := write(log)
		w.until(ctx, f, 100)
		Expect(env.Targets[1].StopProgram(localcluster.APIServer)).To(Succeed())
		Expect(env.Targets[1].StartProgram(ctx, localcluster.APIServer)).To(Succeed())
		w.until(ctx, f, 100)
		w.stop()
		Eventually(func() error { return r.target.Client.Get(ctx, client.ObjectKeyFromObject(pod), pod) }).WithContext(ctx).Should(Succeed())
		r.end(ctx, pod, 0)
		Eventually(f.ended).WithContext(ctx).WithTimeout(time.Minute).Should(Receive(BeNil()))
		Expect(f.text()).To(Equal(w.all()))
		Expect(env.WaitConnected(ctx)).To(Succeed())
	}, NodeTimeout(3*time.Minute))

	It("continues when the container restarts, with the lines that nobody could read before", func(ctx context.Context) {
		r := submit(ctx, 1)
		pod, log := r.started(ctx)
		log.Print("one")
		f := followAs(ctx, editor, r, "")
		Eventually(f.text).WithContext(ctx).Should(Equal("one\n"))
		r.restart(ctx, pod)
		log.Print("two")
		Eventually(f.text).WithContext(ctx).Should(Equal("one\ntwo\n"))
		Consistently(f.ended).ShouldNot(Receive())

		By("and what the former container wrote while nobody could read it")
		log.Refuse(http.StatusInternalServerError, "not now")
		log.Break()
		log.Print("three")
		r.restart(ctx, pod)
		log.Print("four")
		log.Refuse(0, "")
		Eventually(f.text).WithContext(ctx).Should(Equal("one\ntwo\nthree\nfour\n"))
		r.end(ctx, pod, 0)
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
		Expect(f.text()).To(Equal("one\ntwo\nthree\nfour\n"))
	})

	It("delivers the whole log of an ended container although the kubelet's stream breaks midway", func(ctx context.Context) {
		r := submit(ctx, 1)
		pod, log := r.started(ctx)
		release := writeSlowly(log, "one")
		r.end(ctx, pod, 0)
		Eventually(r.latest).WithContext(ctx).Should(haveEnded(v1alpha1.PooledJobSucceeded))
		f := followAs(ctx, editor, r, "")
		Eventually(f.text).WithContext(ctx).ShouldNot(BeEmpty())
		log.Break() // of which the API server of the target says nothing
		release()
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
		Expect(f.text()).To(Equal(strings.Repeat("one\n", slowLines)))
	})

	It("delivers the whole log of a restarted container although the kubelet's stream breaks midway", func(ctx context.Context) {
		r := submit(ctx, 1)
		pod, log := r.started(ctx)
		f := followAs(ctx, editor, r, "")
		Eventually(log.Open).WithContext(ctx).Should(Equal(1))
		log.Refuse(http.StatusInternalServerError, "not now")
		log.Break()
		release := writeSlowly(log, "one")
		r.restart(ctx, pod)
		log.Print("two")
		// The follower learns of the restart from the Pod. A stream that opened before that would be
		// taken for the first container's.
		before := log.Refused()
		Eventually(log.Refused).WithContext(ctx).Should(BeNumerically(">", before+1))
		log.Refuse(0, "")
		Eventually(f.text).WithContext(ctx).ShouldNot(BeEmpty())
		log.Break()
		release()
		Eventually(f.text).WithContext(ctx).Should(Equal(strings.Repeat("one\n", slowLines) + "two\n"))
		r.end(ctx, pod, 0)
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
		Expect(f.text()).To(Equal(strings.Repeat("one\n", slowLines) + "two\n"))
	})

	It("continues with the Pod that replaces a failed one, unless a Pod was named", func(ctx context.Context) {
		r := submit(ctx, 1, func(job *v1alpha1.PooledJob) { job.Spec.Template.Spec.BackoffLimit = new(int32(1)) })
		first, log := r.started(ctx)
		log.Print("first")
		f, all := followAs(ctx, editor, r, ""), followAs(ctx, editor, r, "allPods=true")
		only := followAs(ctx, editor, r, "pod="+first.Name)
		Eventually(f.text).WithContext(ctx).Should(Equal("first\n"))
		olderThanASecond(ctx, first)
		r.end(ctx, first, 1)
		Eventually(only.ended).WithContext(ctx).Should(Receive(BeNil()), "who named the Pod has it all")
		second := r.running(ctx, 2)
		logOf(second).Print("second")
		Eventually(f.text).WithContext(ctx).Should(Equal("first\nsecond\n"))
		Consistently(f.ended).ShouldNot(Receive())
		r.end(ctx, second, 0)
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
		Eventually(all.ended).WithContext(ctx).Should(Receive(BeNil()))
		Expect(f.text()).To(Equal("first\nsecond\n"))
		Expect(only.text()).To(Equal("first\n"))
		Expect(all.text()).To(Equal(fmt.Sprintf("[%s] first\n[%s] second\n", first.Name, second.Name)))
	}, NodeTimeout(2*time.Minute))

	It("delivers the lines of parallel Pods whole and complete with allPods", func(ctx context.Context) {
		r := submit(ctx, 1, oneAfterAnother(3), func(job *v1alpha1.PooledJob) { job.Spec.Template.Spec.Parallelism = new(int32(3)) })
		f := followAs(ctx, editor, r, "allPods=true")
		r.running(ctx, 3)
		pods := r.pods(Default, ctx)
		want := map[string]string{}
		for i := range pods {
			w := write(logOf(&pods[i]))
			DeferCleanup(w.stop)
			defer func() {
				Expect(prefixed(f.text(), pods[i].Name)).To(Equal(want[pods[i].Name]))
			}()
			w.untilWritten(ctx, 300)
			w.stop()
			want[pods[i].Name] = w.all()
		}
		for i := range pods {
			r.end(ctx, &pods[i], 0)
		}
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
	})

	It("ends when the run is cancelled, with the last lines that it wrote", func(ctx context.Context) {
		r := submit(ctx, 1)
		_, log := r.started(ctx)
		log.Print("one")
		f := followAs(ctx, editor, r, "")
		Eventually(f.text).WithContext(ctx).Should(Equal("one\n"))
		log.Print("killed")
		log.End()
		r.change(ctx, func(job *v1alpha1.PooledJob) { job.Spec.Cancel = new(true) })
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
		Expect(f.text()).To(Equal("one\nkilled\n"))
	})

	It("ends when the PooledJob is deleted, with the last lines that it wrote", func(ctx context.Context) {
		r := submit(ctx, 1)
		_, log := r.started(ctx)
		log.Print("one")
		f := followAs(ctx, editor, r, "")
		Eventually(f.text).WithContext(ctx).Should(Equal("one\n"))
		log.Print("killed")
		log.End()
		Expect(hub.Delete(ctx, r.PooledJob)).To(Succeed())
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
		Expect(f.text()).To(Equal("one\nkilled\n"))
	})

	It("fails, and does not end cleanly, when the PooledJob is deleted before it ran", func(ctx context.Context) {
		r := submit(ctx, 1, func(job *v1alpha1.PooledJob) { job.Spec.ClusterName = "nowhere" })
		f := followAs(ctx, editor, r, "")
		Expect(hub.Delete(ctx, r.PooledJob)).To(Succeed())
		Eventually(f.ended).WithContext(ctx).Should(Receive(HaveOccurred()))
	})
})

var _ = Describe("Following the log of a run that is moved to another cluster", func() {
	It("continues with the Pod on the new cluster", func(ctx context.Context) {
		for i := range env.Targets {
			connection := &v1alpha1.ClusterConnection{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("either-%d", i+1), Labels: map[string]string{"either": "yes"}},
				Spec: v1alpha1.ClusterConnectionSpec{
					KubeconfigSecretRef: v1alpha1.SecretKeyReference{Name: env.Targets[i].Name()},
					Access: []v1alpha1.AccessRule{{
						HubNamespaces:    &v1alpha1.LabelSelector{MatchLabels: map[string]string{"team": "a"}},
						TargetNamespaces: v1alpha1.TargetNamespaces{Names: []string{"team-a"}},
					}},
				},
			}
			Expect(hub.Create(ctx, connection)).To(Succeed())
			DeferCleanup(func(ctx context.Context) { Expect(hub.Delete(ctx, connection)).To(Succeed()) })
		}
		Expect(env.WaitConnected(ctx)).To(Succeed())
		r := submit(ctx, 1, func(job *v1alpha1.PooledJob) {
			job.Spec.ClusterName, job.Spec.ClusterSelector = "", &v1alpha1.LabelSelector{MatchLabels: map[string]string{"either": "yes"}}
			job.Spec.Failover.AfterSeconds = 1
		})
		Eventually(r.latest).WithContext(ctx).Should(HaveField("Status.ClusterName", Not(BeEmpty())))
		left, there := env.Targets[0], env.Targets[1]
		if r.Status.ClusterName == "either-2" {
			left, there = there, left
		}
		r.target = left
		_, log := r.started(ctx)
		former := r.Status.ClusterName
		log.Print("one")
		f := followAs(ctx, editor, r, "")
		Eventually(f.text).WithContext(ctx).Should(Equal("one\n"))

		By("the cluster is lost, and said to be fenced")
		remote := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: r.Status.JobRef.Name}}
		Expect(left.StopProgram(localcluster.APIServer)).To(Succeed())
		connection := &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: former}}
		fence := func(ctx context.Context, value string) {
			patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, v1alpha1.AnnotationFenced, value)
			Expect(hub.Patch(ctx, connection, client.RawPatch("application/merge-patch+json", patch))).To(Succeed())
		}
		DeferCleanup(func(ctx context.Context) {
			fence(ctx, "null")
			Expect(left.StartProgram(ctx, localcluster.APIServer)).To(Succeed())
			Expect(left.Client.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
			Expect(env.WaitConnected(ctx)).To(Succeed())
		})
		fence(ctx, strconv.Quote(string(r.Status.ClusterUID)))
		Eventually(r.latest).WithContext(ctx).WithTimeout(time.Minute).Should(HaveField("Status.ClusterName", Not(Equal(former))))
		r.target = there
		pod, log := r.started(ctx)
		log.Print("two")
		Eventually(f.text).WithContext(ctx).Should(Equal("one\ntwo\n"))
		r.end(ctx, pod, 0)
		Eventually(f.ended).WithContext(ctx).Should(Receive(BeNil()))
		Expect(f.text()).To(Equal("one\ntwo\n"))
	}, NodeTimeout(4*time.Minute))
})

// slowLines is how many lines writeSlowly writes.
const slowLines = 20000

// writeSlowly has a container have written lines, of which the kubelet finds the second
// half only after release.
func writeSlowly(log *fakekubelet.Log, line string) (release func()) {
	held := make(chan struct{})
	log.Generate(time.Now().Add(-time.Minute), slowLines, func(i int) string {
		if i == slowLines/2 {
			<-held
		}
		return line
	})
	return func() { close(held) }
}

// prefixed returns the lines of a Pod in a log of several.
func prefixed(text, pod string) string {
	var own strings.Builder
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "["+pod+"] "); ok {
			own.WriteString(rest)
		}
	}
	return own.String()
}

// writer writes numbered lines to a log, until it is stopped.
type writer struct {
	log     *fakekubelet.Log
	written chan string // has what was written, always one
	done    chan struct{}
	stopped chan struct{}
}

func write(log *fakekubelet.Log) *writer {
	w := &writer{log: log, written: make(chan string, 1), done: make(chan struct{}), stopped: make(chan struct{})}
	w.written <- ""
	go func() {
		defer close(w.stopped)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i += 3 {
			lines := []string{fmt.Sprint("line ", i), fmt.Sprint("line ", i+1), ""}
			log.Print(lines...)
			w.written <- <-w.written + strings.Join(lines, "\n") + "\n"
			select {
			case <-tick.C:
			case <-w.done:
				return
			}
		}
	}()
	return w
}

// all returns what was written.
func (w *writer) all() string {
	text := <-w.written
	w.written <- text
	return text
}

// untilWritten waits until that many more lines are written.
func (w *writer) untilWritten(ctx context.Context, lines int) {
	have := strings.Count(w.all(), "\n")
	Eventually(func() int { return strings.Count(w.all(), "\n") }).WithContext(ctx).Should(BeNumerically(">", have+lines))
}

// until waits until a follower has that many more lines, and they are what was written.
func (w *writer) until(ctx context.Context, f *follower, lines int) {
	GinkgoHelper()
	have := strings.Count(f.text(), "\n")
	Eventually(func() int { return strings.Count(f.text(), "\n") }).WithContext(ctx).Should(BeNumerically(">", have+lines))
	text := f.text()
	Eventually(w.all).Should(HavePrefix(text))
}

// stop ends the writing.
func (w *writer) stop() {
	select {
	case <-w.done:
	default:
		close(w.done)
	}
	<-w.stopped
}
