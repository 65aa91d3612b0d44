package controllers

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/test/faultproxy"
)

// aDay is longer than every time that a spec gives a cluster to come back.
const aDay = 24 * time.Hour

var _ = Describe("Failover", Ordered, ContinueOnFailure, func() {
	var north, south *site

	BeforeAll(func(ctx context.Context) {
		north, south = startSite(ctx, "north"), startSite(ctx, "south")
	})

	// two is a new world with a connection a to north and b to south.
	two := func(ctx context.Context, changes ...func(*v1alpha1.ClusterConnection)) (w world, a, b *link) {
		w = newWorld(ctx)
		w.createNamespaces(ctx, north, south)
		return w, w.link(ctx, north, "a", changes...), w.link(ctx, south, "b")
	}
	// running is a PooledJob of which a Pod runs on a.
	running := func(ctx context.Context, w world, a *link, changes ...func(*v1alpha1.PooledJob)) (*v1alpha1.PooledJob, *batchv1.Job) {
		job := w.submit(ctx, append([]func(*v1alpha1.PooledJob){w.anywhere}, changes...)...)
		remote := a.remote(ctx, job, 0)
		a.here(func() { start(ctx, remote) })
		eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobRunning), beOn(a.world, 0)))
		return job, remote
	}
	// untouched is true if a Job of the site is as it was.
	untouched := func(ctx context.Context, on *site, remote *batchv1.Job) {
		GinkgoHelper()
		is := &batchv1.Job{}
		Expect(on.client.Get(ctx, client.ObjectKeyFromObject(remote), is)).To(Succeed())
		Expect(is).To(And(HaveField("UID", remote.UID), HaveField("ResourceVersion", remote.ResourceVersion), HaveField("DeletionTimestamp", BeNil())))
	}

	Context("of a run that was never sent", func() {
		It("moves a run that was never sent when its cluster was not Ready for afterSeconds, not before", func(ctx context.Context) {
			w := newWorld(ctx)
			w.createNamespaces(ctx, north, south)
			one := int32(1)
			a := w.link(ctx, north, "a", func(c *v1alpha1.ClusterConnection) { c.Spec.IdleTimeoutSeconds = &one })
			a.expectIdle(ctx)
			a.breakLine() // nobody notices
			b := w.link(ctx, south, "b")
			job := w.submit(ctx, w.anywhere, failsOver(3600))
			a.expectAway(ctx)
			eventually(ctx, job).Should(And(beOn(a.world, 0),
				haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady, Not(ContainSubstring(v1alpha1.AnnotationFenced)))))
			moveClock(time.Now().Add(3000 * time.Second))
			touch(ctx, job)
			consistently(ctx, job).Should(beOn(a.world, 0))
			Expect(south.jobs(w.name)(Default, ctx)).To(BeEmpty())

			clockOffset.Store(int64(4000 * time.Second))
			touch(ctx, job)
			eventually(ctx, job).Should(And(beOn(b.world, 1), haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated)))
			remote := south.remote(ctx, job, 1)
			a.mendLine()
			Eventually(func(g Gomega) { g.Expect(readyStatus(a.connection(g, ctx))).To(HavePrefix("True/")) }).Should(Succeed())
			consistently(ctx, job).Should(beOn(b.world, 1))
			Expect(north.jobs(w.name)(Default, ctx)).To(BeEmpty())
			south.here(func() { endJob(ctx, remote, batchv1.JobComplete) })
			eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
			Expect(south.jobs(w.name)(Default, ctx)).To(HaveLen(1))
		})

		It("moves a run that was never sent without further events, and after a refusal of its cluster", func(ctx context.Context) {
			w := newWorld(ctx)
			w.createNamespaces(ctx, south) // north refuses, for now
			a, b := w.link(ctx, north, "a"), w.link(ctx, south, "b")
			var asked atomic.Int32
			a.onCreate(func(moment faultproxy.Moment) faultproxy.Action {
				if moment == faultproxy.After {
					asked.Add(1)
				}
				return faultproxy.Action{}
			})
			job := w.submit(ctx, w.anywhere, failsOver(3))
			// After the third refusal it is not asked again before it is known to be away.
			Eventually(asked.Load).Should(BeEquivalentTo(3))
			eventually(ctx, job).Should(And(beOn(a.world, 0), haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotFound)))
			b.setLabel(ctx, nil) // there is no other cluster at first
			a.breakLine()
			a.expectAway(ctx)
			eventually(ctx, job).Should(And(HaveField("Status.Attempt", BeEquivalentTo(1)), waitForCluster(ContainSubstring(a.name+": "+v1alpha1.ReasonUnreachable)),
				haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonFailedOver,
					ContainSubstring(a.name), ContainSubstring("no request that could have created"))))
			away := meta.FindStatusCondition(a.connection(Default, ctx).Status.Conditions, v1alpha1.ConditionReady).LastTransitionTime
			Expect(time.Since(away.Time)).To(BeNumerically(">=", 3*time.Second))
			b.setLabel(ctx, w.name)
			eventually(ctx, job).Should(beOn(b.world, 1))
			south.remote(ctx, job, 1)
			Expect(south.jobs(w.name)(Default, ctx)).To(HaveLen(1))
		})

		It("does not move a run that was never sent without spec.failover", func(ctx context.Context) {
			w := newWorld(ctx)
			w.createNamespaces(ctx, south)
			a := w.link(ctx, north, "a")
			w.link(ctx, south, "b")
			job := w.submit(ctx, w.anywhere)
			eventually(ctx, job).Should(And(beOn(a.world, 0), haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotFound)))
			a.breakLine()
			a.expectAway(ctx)
			moveClock(time.Now().Add(aDay))
			touch(ctx, job)
			eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady))
			consistently(ctx, job).Should(beOn(a.world, 0))
			Expect(south.jobs(w.name)(Default, ctx)).To(BeEmpty())
		})

		It("does not move a run that its Ready cluster refuses", func(ctx context.Context) {
			w := newWorld(ctx)
			w.createNamespaces(ctx, south)
			a := w.link(ctx, north, "a")
			w.link(ctx, south, "b")
			job := w.submit(ctx, w.anywhere, failsOver(1))
			eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotFound))
			moveClock(time.Now().Add(aDay))
			touch(ctx, job)
			consistently(ctx, job).Should(beOn(a.world, 0))
			w.createNamespaces(ctx, north)
			north.remote(ctx, job, 0)
		})
	})

	Context("of a run that may have been sent", func() {
		It("keeps a run waiting that may have been sent, and names the annotation that moves it", func(ctx context.Context) {
			w, a, b := two(ctx)
			a.onCreate(func(moment faultproxy.Moment) faultproxy.Action {
				if moment == faultproxy.Before {
					a.line.BlackHole() // for the watch may be faster than the answer
					return faultproxy.Action{}
				}
				a.breakLine() // the Job is there, and nobody hears of it
				a.line.Heal()
				return faultproxy.Action{Cut: true}
			})
			job := w.submit(ctx, w.anywhere, failsOver(1))
			first := north.remote(ctx, job, 0)
			a.expectAway(ctx)
			moveClock(time.Now().Add(aDay))
			touch(ctx, job)
			waits := And(beOn(a.world, 0), haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady,
				ContainSubstring("%s=%s", v1alpha1.AnnotationFenced, north.uid), ContainSubstring(a.name)))
			eventually(ctx, job).Should(waits)
			operator.restart()
			Eventually(b.connection).WithContext(ctx).Should(beReady())
			touch(ctx, job)
			Consistently(latest(job)).WithContext(ctx).WithTimeout(3 * time.Second).Should(waits)
			Expect(south.jobs(w.name)(Default, ctx)).To(BeEmpty())

			a.mendLine()
			eventually(ctx, job).Should(And(beOn(a.world, 0), HaveField("Status.JobRef.UID", string(first.UID))))
			Expect(north.jobs(w.name)(Default, ctx)).To(HaveLen(1))
		})

		It("keeps a run waiting that may have been sent after a restart of the operator", func(ctx context.Context) {
			w := newWorld(ctx)
			w.createNamespaces(ctx, south)
			a := w.link(ctx, north, "a")
			w.link(ctx, south, "b")
			job := w.submit(ctx, w.anywhere, failsOver(1))
			eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotFound))
			a.breakLine()
			operator.restart()
			a.expectAway(ctx)
			moveClock(time.Now().Add(aDay))
			touch(ctx, job)
			eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady,
				ContainSubstring("%s=%s", v1alpha1.AnnotationFenced, north.uid)))
			consistently(ctx, job).Should(beOn(a.world, 0))
			Expect(south.jobs(w.name)(Default, ctx)).To(BeEmpty())
		})

		It("moves a run that may have been sent once its cluster is fenced, and leaves the first Job alone", func(ctx context.Context) {
			w, a, b := two(ctx)
			job, first := running(ctx, w, a, failsOver(3600))
			a.breakLine()
			eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady,
				ContainSubstring("%s=%s", v1alpha1.AnnotationFenced, north.uid)))
			a.annotate(ctx, v1alpha1.AnnotationFenced, south.uid)
			consistently(ctx, job).Should(beOn(a.world, 0), "that is another cluster")
			Expect(north.client.Get(ctx, client.ObjectKeyFromObject(first), first)).To(Succeed())
			a.fence(ctx)
			eventually(ctx, job).Should(And(beOn(b.world, 1), havePhase(v1alpha1.PooledJobPending),
				haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated),
				haveCondition(v1alpha1.ConditionSynced, metav1.ConditionTrue, v1alpha1.ReasonSynced)))
			second := south.remote(ctx, job, 1)
			Expect(second.Name).NotTo(Equal(first.Name))
			Expect(latest(job)(Default, ctx)).To(And(
				HaveField("Status.JobRef.UID", string(second.UID)), HaveField("Status.JobRef.Name", second.Name),
				HaveField("Status.StartTime", BeNil()), HaveField("Status.Active", HaveValue(BeZero()))))

			// The first comes back, runs, and has another verdict.
			a.mendLine()
			a.unfence(ctx)
			Eventually(a.connection).WithContext(ctx).Should(beReady())
			untouched(ctx, north, first)
			north.here(func() {
				for _, pod := range north.podsOf(w.name)(Default, ctx) {
					endPod(ctx, &pod, 3, "from the first copy")
				}
				endJob(ctx, first, batchv1.JobFailed)
			})
			touch(ctx, job)
			consistently(ctx, job).Should(And(beOn(b.world, 1), havePhase(v1alpha1.PooledJobPending), HaveField("Status.JobRef.UID", string(second.UID))))
			operator.restart()
			consistently(ctx, job).Should(And(beOn(b.world, 1), havePhase(v1alpha1.PooledJobPending)))
			south.here(func() {
				pod := start(ctx, second)
				endPod(ctx, pod, 0, "")
				endJob(ctx, second, batchv1.JobComplete)
			})
			eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobSucceeded), HaveField("Status.Result.ExitCode", HaveValue(BeZero()))))

			// Its deletion is that of the last attempt only.
			Expect(hub.Delete(ctx, job)).To(Succeed())
			Eventually(func() *metav1.Time { return south.remote(ctx, job, 1).DeletionTimestamp }).ShouldNot(BeNil())
			south.here(func() { finishDeletion(ctx, second) })
			Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
			Expect(north.jobs(w.name)(Default, ctx)).To(ConsistOf(And(HaveField("UID", first.UID), HaveField("DeletionTimestamp", BeNil()))))
			Expect(south.jobs(w.name)(Default, ctx)).To(BeEmpty())
		})

		It("releases the ClusterConnection that the run was moved away from", func(ctx context.Context) {
			w, a, b := two(ctx)
			job, first := running(ctx, w, a, failsOver(3600))
			connection := a.connection(Default, ctx)
			Expect(hub.Delete(ctx, connection)).To(Succeed())
			Eventually(a.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeleting, ContainSubstring(job.Name)))
			a.fence(ctx)
			Eventually(exists(hub, connection)).WithContext(ctx).Should(BeFalse())
			eventually(ctx, job).Should(beOn(b.world, 1))
			Expect(north.jobs(w.name)(Default, ctx)).To(ConsistOf(HaveField("UID", first.UID)))
		})

		// back is a run of which a Pod runs on a, and that is there a second time.
		back := func(ctx context.Context) (w world, job *v1alpha1.PooledJob, first, second *batchv1.Job) {
			w = newWorld(ctx)
			w.createNamespaces(ctx, north)
			a := w.link(ctx, north, "a")
			job, first = running(ctx, w, a, failsOver(3600))
			a.fence(ctx)
			eventually(ctx, job).Should(And(HaveField("Status.Attempt", BeEquivalentTo(1)), waitForCluster(ContainSubstring(a.name+": is fenced"))))
			a.unfence(ctx)
			eventually(ctx, job).Should(And(beOn(a.world, 1), haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated)))
			return w, job, first, north.remote(ctx, job, 1)
		}

		It("can move a run back to its first cluster, where it gets another Job", func(ctx context.Context) {
			w, job, first, second := back(ctx)
			consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobPending), "the Pod that runs is of the first attempt")
			north.here(func() {
				pod := start(ctx, second)
				eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
				endPod(ctx, pod, 0, "")
				endJob(ctx, second, batchv1.JobComplete)
			})
			eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobSucceeded), HaveField("Status.JobRef.UID", string(second.UID)),
				HaveField("Status.Result.ExitCode", HaveValue(BeZero()))))
			Expect(north.jobs(w.name)(Default, ctx)).To(ConsistOf(HaveField("UID", first.UID), HaveField("UID", second.UID)))
		})

		It("does not report the exit code of the first attempt for the second", func(ctx context.Context) {
			w, job, _, second := back(ctx)
			north.here(func() {
				for _, pod := range north.podsOf(w.name)(Default, ctx) {
					endPod(ctx, &pod, 3, "from the first copy")
				}
				endJob(ctx, second, batchv1.JobFailed)
			})
			eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobFailed))
			Expect(latest(job)(Default, ctx)).To(And(HaveField("Status.Result.ExitCode", BeNil()), HaveField("Status.Result.Message", BeEmpty())))
		})
	})

	It("moves a run that was never sent as soon as its cluster is fenced", func(ctx context.Context) {
		w := newWorld(ctx)
		w.createNamespaces(ctx, south) // north refuses
		a, b := w.link(ctx, north, "a"), w.link(ctx, south, "b")
		job := w.submit(ctx, w.anywhere, failsOver(3600))
		eventually(ctx, job).Should(And(beOn(a.world, 0), haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotFound)))
		a.fence(ctx)
		eventually(ctx, job).Should(And(beOn(b.world, 1), haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated)))
		Expect(south.jobs(w.name)(Default, ctx)).To(HaveLen(1))
	})

	// forge overwrites the intent of a run; nil takes it off.
	forge := func(ctx context.Context, job *v1alpha1.PooledJob, intent any) {
		text, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationIntent: intent}}})
		Expect(err).NotTo(HaveOccurred())
		Expect(hub.Patch(ctx, job.DeepCopy(), client.RawPatch("application/merge-patch+json", text))).To(Succeed())
	}

	DescribeTable("does not follow an intent that the author overwrites once the Job was seen", func(ctx context.Context, forged func(job *v1alpha1.PooledJob, a, b *link) any) {
		w, a, b := two(ctx)
		job, first := running(ctx, w, a, failsOver(3600))
		forge(ctx, job, forged(job, a, b))
		consistently(ctx, job).Should(And(beOn(a.world, 0), havePhase(v1alpha1.PooledJobRunning), HaveField("Status.JobRef.UID", string(first.UID))))
		operator.restart()
		for _, l := range []*link{a, b} {
			Eventually(l.connection).WithContext(ctx).Should(beReady())
		}
		touch(ctx, job)
		consistently(ctx, job).Should(And(beOn(a.world, 0), havePhase(v1alpha1.PooledJobRunning), HaveField("Status.JobRef.UID", string(first.UID))))
		Expect(south.jobs(w.name)(Default, ctx)).To(BeEmpty())
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(func() *metav1.Time { return north.remote(ctx, job, 0).DeletionTimestamp }).ShouldNot(BeNil())
		north.here(func() { finishDeletion(ctx, first) })
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	},
		Entry("with nothing", func(*v1alpha1.PooledJob, *link, *link) any { return nil }),
		Entry("with garbage", func(*v1alpha1.PooledJob, *link, *link) any { return "{" }),
		Entry("with one of the next attempt", func(job *v1alpha1.PooledJob, _, b *link) any {
			return binding.Intent{Cluster: b.name, ClusterUID: b.uid, Namespace: job.Namespace, JobName: binding.RemoteName(operator.hubID, job, 1), Attempt: 1}.Encode()
		}),
		Entry("with another name", func(job *v1alpha1.PooledJob, a, _ *link) any {
			return binding.Intent{Cluster: a.name, ClusterUID: a.uid, Namespace: job.Namespace, JobName: "another"}.Encode()
		}),
		Entry("with one for another cluster", func(job *v1alpha1.PooledJob, _, b *link) any {
			return jobspec.RunOf(operator.hubID, job).NewIntent(b.name, b.uid).Encode()
		}),
	)

	It("follows from a fence also when dispatchDeadlineSeconds is over", func(ctx context.Context) {
		w, a, _ := two(ctx)
		a.onCreate(func(faultproxy.Moment) faultproxy.Action {
			a.breakLine()
			return faultproxy.Action{Cut: true}
		})
		job := w.submit(ctx, w.anywhere, failsOver(3600), func(j *v1alpha1.PooledJob) { j.Spec.DispatchDeadlineSeconds = 4 })
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady,
			ContainSubstring("is to end ("+v1alpha1.ReasonDispatchDeadlineExceeded), ContainSubstring(v1alpha1.AnnotationFenced+"="+a.uid)))
		a.fence(ctx)
		moveClock(time.Now().Add(2 * decision.RequestLifetime))
		touch(ctx, job)
		eventually(ctx, job).Should(Or(havePhase(v1alpha1.PooledJobFailed), HaveField("Status.Attempt", BeEquivalentTo(1))))
	})

	It("does not move a run to the fenced cluster through another ClusterConnection", func(ctx context.Context) {
		w, a, b := two(ctx)
		job, _ := running(ctx, w, a, failsOver(3600))
		b.setLabel(ctx, nil)
		w.link(ctx, north, "same")
		a.fence(ctx)
		eventually(ctx, job).Should(And(HaveField("Status.Attempt", BeEquivalentTo(1)), waitForCluster(ContainSubstring(w.name+"-same: is fenced"))))
		consistently(ctx, job).Should(waitForCluster())
		Expect(north.jobs(w.name)(Default, ctx)).To(HaveLen(1))
	})

	It("never moves a run that has ended", func(ctx context.Context) {
		w, a, _ := two(ctx)
		job, remote := running(ctx, w, a, failsOver(1))
		north.here(func() { endJob(ctx, remote, batchv1.JobFailed) })
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobFailed))
		before := latest(job)(Default, ctx).Status
		a.breakLine()
		a.expectAway(ctx)
		a.fence(ctx)
		moveClock(time.Now().Add(aDay))
		touch(ctx, job)
		consistently(ctx, job).Should(HaveField("Status", before))
		operator.restart()
		touch(ctx, job)
		consistently(ctx, job).Should(HaveField("Status", before))
		Expect(south.jobs(w.name)(Default, ctx)).To(BeEmpty())
	})

	Context("and a new operator", func() {
		It("lead to one Job of the next attempt, wherever the last operator stopped", func(ctx context.Context) {
			w, a, b := two(ctx)
			job, first := running(ctx, w, a, failsOver(3600))
			b.setLabel(ctx, nil)
			a.breakLine()
			a.fence(ctx)
			// After the status was written.
			eventually(ctx, job).Should(And(HaveField("Status.Attempt", BeEquivalentTo(1)), waitForCluster()))
			intent := intentOf(latest(job)(Default, ctx))
			operator.restart()
			touch(ctx, job)
			consistently(ctx, job).Should(And(HaveField("Status.Attempt", BeEquivalentTo(1)), waitForCluster(),
				HaveField("Annotations", HaveKeyWithValue(v1alpha1.AnnotationIntent, intent))))

			// After the intent was written: whether a creation was sent is not known.
			var mode atomic.Value
			mode.Store("lose the request")
			b.onCreate(func(moment faultproxy.Moment) faultproxy.Action {
				switch mode.Load() {
				case "lose the request":
					return faultproxy.Action{Cut: moment == faultproxy.Before}
				case "lose the answer":
					return faultproxy.Action{Cut: moment == faultproxy.After}
				}
				return faultproxy.Action{}
			})
			b.setLabel(ctx, w.name)
			want := binding.Intent{Cluster: b.name, ClusterUID: south.uid, Namespace: w.name, JobName: binding.RemoteName(operator.hubID, job, 1), Attempt: 1}
			eventually(ctx, job).Should(HaveField("Annotations", HaveKeyWithValue(v1alpha1.AnnotationIntent, want.Encode())))
			operator.restart()
			mode.Store("lose the answer")
			second := south.remote(ctx, job, 1)
			operator.restart()
			mode.Store("")
			eventually(ctx, job).Should(And(beOn(b.world, 1), HaveField("Status.JobRef.UID", string(second.UID))))

			// And once it is back.
			a.mendLine()
			a.unfence(ctx)
			operator.restart()
			Eventually(a.connection).WithContext(ctx).Should(beReady())
			touch(ctx, job)
			consistently(ctx, job).Should(beOn(b.world, 1))
			Expect(south.jobs(w.name)(Default, ctx)).To(ConsistOf(HaveField("UID", second.UID)))
			Expect(north.jobs(w.name)(Default, ctx)).To(ConsistOf(HaveField("UID", first.UID)))
			south.here(func() { endJob(ctx, second, batchv1.JobComplete) })
			eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		})

		It("lead to the same Job when only the intent of the attempt before was written", func(ctx context.Context) {
			w, a, b := two(ctx)
			job, _ := running(ctx, w, a, failsOver(3600))
			operator.stop()
			a.breakLine()
			a.fence(ctx)
			*operator = *startOperator(operator.scheme)
			eventually(ctx, job).Should(beOn(b.world, 1))
			second := south.remote(ctx, job, 1)
			Expect(south.jobs(w.name)(Default, ctx)).To(ConsistOf(HaveField("UID", second.UID)))
		})
	})

	DescribeTable("does not move a run whose Job was deleted while the cluster was away",
		func(ctx context.Context, away time.Duration) {
			w, a, _ := two(ctx)
			job, remote := running(ctx, w, a, failsOver(600))
			a.breakLine()
			eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady))
			north.here(func() {
				endJob(ctx, remote, batchv1.JobComplete)
				Expect(target.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
			})
			moveClock(time.Now().Add(away))
			touch(ctx, job)
			consistently(ctx, job).Should(And(beOn(a.world, 0), havePhase(v1alpha1.PooledJobRunning)), "as long as nothing is proven")
			a.mendLine()
			eventually(ctx, job).Should(And(beOn(a.world, 0), haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRemoteJobEndUnknown)))
			Expect(append(north.jobs(w.name)(Default, ctx), south.jobs(w.name)(Default, ctx)...)).To(BeEmpty())
		},
		Entry("for longer than afterSeconds", 700*time.Second),
		Entry("for less than that", 300*time.Second),
	)

	DescribeTable("decides about a run whose Job was deleted before the cluster was away, and", func(ctx context.Context, started, moves bool) {
		w, a, _ := two(ctx)
		job := w.submit(ctx, w.anywhere, failsOver(600))
		eventually(ctx, job).Should(And(beOn(a.world, 0), haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated)))
		remote := a.remote(ctx, job, 0)
		if started {
			a.here(func() { start(ctx, remote) })
			eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		}
		var first, last atomic.Int64 // look for the Job, Unix nanoseconds
		a.line.SetHook(func(_ faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
			looks := call.String() == "GET jobs"
			if looks {
				first.CompareAndSwap(0, time.Now().UnixNano())
				last.Store(time.Now().UnixNano())
			}
			if looks { // the watch tells of it, and nothing can be proven
				return faultproxy.Action{Answer: http.StatusInternalServerError}
			}
			return faultproxy.Action{}
		})
		Expect(a.client.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationForeground))).To(Succeed())
		a.here(func() { finishDeletion(ctx, remote) })
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonTargetError))
		Eventually(func() time.Duration { return time.Duration(last.Load() - first.Load()) }).Should(BeNumerically(">", decision.PodsPause),
			"the watch of Pods must have had time to catch up")
		a.breakLine()
		a.expectAway(ctx)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady))
		moveClock(time.Now().Add(700 * time.Second))
		a.mendLine()
		if !moves {
			eventually(ctx, job).Should(And(beOn(a.world, 0), haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRemoteJobDeleted)))
			Expect(append(north.jobs(w.name)(Default, ctx), south.jobs(w.name)(Default, ctx)...)).To(BeEmpty())
			return
		}
		eventually(ctx, job).Should(And(HaveField("Status.Attempt", BeEquivalentTo(1)), HaveField("Status.JobRef.UID", Not(Or(BeEmpty(), Equal(string(remote.UID)))))))
		told := func(g Gomega, ctx context.Context) []eventsv1.Event {
			var list eventsv1.EventList
			g.Expect(hub.List(ctx, &list, client.InNamespace(job.Namespace))).To(Succeed())
			return slices.DeleteFunc(list.Items, func(e eventsv1.Event) bool {
				return e.Regarding.UID != job.UID || e.Reason != v1alpha1.ReasonFailedOver
			})
		}
		Eventually(told).WithContext(ctx).Should(ConsistOf(HaveField("Note", ContainSubstring("Moved away"))))
		Expect(append(north.jobs(w.name)(Default, ctx), south.jobs(w.name)(Default, ctx)...)).To(ConsistOf(
			HaveField("Name", binding.RemoteName(operator.hubID, job, 1))))
	},
		Entry("moves it when it had not started", false, true),
		Entry("ends it when it had started", true, false),
	)

	It("does not create a second Job of a run whose Job has another UID now", func(ctx context.Context) {
		w, a, _ := two(ctx)
		job, remote := running(ctx, w, a, failsOver(600))
		a.breakLine()
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady))
		again := &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Namespace: remote.Namespace, Name: remote.Name, Labels: remote.Labels},
			Spec:       job.Spec.Template.Spec,
		}
		Expect(north.client.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		Expect(north.client.Create(ctx, again)).To(Succeed())
		moveClock(time.Now().Add(700 * time.Second))
		a.mendLine()
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady,
			ContainSubstring("another one of this run has its name")))
		consistently(ctx, job).Should(HaveField("Status.Attempt", BeZero()), "as long as that Job is there, being deleted or not")
		Expect(append(north.jobs(w.name)(Default, ctx), south.jobs(w.name)(Default, ctx)...)).To(ConsistOf(HaveField("UID", again.UID)))
	})

	It("ends a run whose Job is deleted long after the cluster was away", func(ctx context.Context) {
		w, a, _ := two(ctx)
		job, remote := running(ctx, w, a, failsOver(600))
		a.breakLine()
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady))
		moveClock(time.Now().Add(aDay))
		a.mendLine()
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionTrue, v1alpha1.ReasonSynced))
		Expect(north.client.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		eventually(ctx, job).Should(And(beOn(a.world, 0), haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRemoteJobDeleted)))
	})

	Context("of a run that is being deleted", func() {
		It("releases a deleted run in the middle of a move, and leaves its first Job", func(ctx context.Context) {
			w, a, b := two(ctx)
			job, first := running(ctx, w, a, failsOver(3600))
			b.setLabel(ctx, nil)
			a.breakLine()
			a.fence(ctx)
			eventually(ctx, job).Should(And(HaveField("Status.Attempt", BeEquivalentTo(1)), waitForCluster()))
			Expect(hub.Delete(ctx, job)).To(Succeed())
			Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
			b.setLabel(ctx, w.name)
			Expect(south.jobs(w.name)(Default, ctx)).To(BeEmpty())
			Expect(north.jobs(w.name)(Default, ctx)).To(ConsistOf(And(HaveField("UID", first.UID), HaveField("DeletionTimestamp", BeNil()))))
		})

		It("releases a deleted run that was moved and has no Job yet", func(ctx context.Context) {
			w := newWorld(ctx)
			w.createNamespaces(ctx, north) // south refuses
			a := w.link(ctx, north, "a")
			b := w.link(ctx, south, "b")
			job, _ := running(ctx, w, a, failsOver(3600))
			a.fence(ctx)
			eventually(ctx, job).Should(And(beOn(b.world, 1), haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotFound)))
			Expect(hub.Delete(ctx, job)).To(Succeed())
			Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
			Expect(north.jobs(w.name)(Default, ctx)).To(HaveLen(1))
		})

		It("keeps a deleted run on its fenced cluster until the fence is removed, and cleans up there", func(ctx context.Context) {
			w, a, _ := two(ctx)
			job, first := running(ctx, w, a, failsOver(1))
			a.breakLine()
			Expect(hub.Delete(ctx, job)).To(Succeed())
			a.fence(ctx)
			eventually(ctx, job).Should(And(beOn(a.world, 0), haveCondition(v1alpha1.ConditionDeleting, metav1.ConditionTrue, v1alpha1.ReasonClusterFenced)))
			a.mendLine()
			Eventually(func(g Gomega, ctx context.Context) *metav1.Condition {
				return meta.FindStatusCondition(a.connection(g, ctx).Status.Conditions, v1alpha1.ConditionReachable)
			}).WithContext(ctx).Should(HaveField("Status", metav1.ConditionTrue))
			consistently(ctx, job).Should(haveCondition(v1alpha1.ConditionDeleting, metav1.ConditionTrue, v1alpha1.ReasonClusterFenced))
			Expect(north.remote(ctx, job, 0).DeletionTimestamp).To(BeNil(), "nothing is sent to a fenced cluster")
			a.unfence(ctx)
			Eventually(func() *metav1.Time { return north.remote(ctx, job, 0).DeletionTimestamp }).ShouldNot(BeNil())
			north.here(func() { finishDeletion(ctx, first) })
			Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
			Expect(south.jobs(w.name)(Default, ctx)).To(BeEmpty())
		})
	})

	Context("that was not asked for", func() {
		It("keeps a run waiting for a fenced cluster, and resumes when the fence is removed", func(ctx context.Context) {
			w, a, _ := two(ctx)
			job, remote := running(ctx, w, a)
			a.fence(ctx)
			waits := And(beOn(a.world, 0), havePhase(v1alpha1.PooledJobRunning),
				haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterFenced, ContainSubstring(a.name), ContainSubstring(v1alpha1.AnnotationFenced)))
			eventually(ctx, job).Should(waits)
			north.here(func() { endJob(ctx, remote, batchv1.JobComplete) })
			moveClock(time.Now().Add(aDay))
			touch(ctx, job)
			consistently(ctx, job).Should(waits)
			operator.restart()
			touch(ctx, job)
			consistently(ctx, job).Should(waits)
			Expect(south.jobs(w.name)(Default, ctx)).To(BeEmpty())
			a.unfence(ctx)
			eventually(ctx, job).Should(And(beOn(a.world, 0), havePhase(v1alpha1.PooledJobSucceeded)))
		})

		It("keeps a run waiting that names a fenced cluster, and sends nothing", func(ctx context.Context) {
			w, a, _ := two(ctx)
			a.fence(ctx)
			job := w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.ClusterName = a.name })
			eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterFenced, ContainSubstring(a.name)))
			Consistently(north.jobs(w.name)).WithContext(ctx).Should(BeEmpty())
			a.unfence(ctx)
			north.remote(ctx, job, 0)
		})
	})
})
