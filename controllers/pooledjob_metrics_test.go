package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/metrics"
	"github.com/pooledjob/pooledjob/test/faultproxy"
)

// series returns all that a registry has now, by name and labels such as
// name{connection=c,phase=p}. Histograms have two, name_count and name_sum.
func series(g Gomega, from prometheus.Gatherer) map[string]float64 {
	families, err := from.Gather()
	g.Expect(err).NotTo(HaveOccurred())
	found := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := make([]string, 0, len(metric.GetLabel()))
			for _, pair := range metric.GetLabel() {
				labels = append(labels, pair.GetName()+"="+pair.GetValue())
			}
			of := "{" + strings.Join(labels, ",") + "}"
			if histogram := metric.GetHistogram(); histogram != nil {
				found[family.GetName()+"_count"+of] = float64(histogram.GetSampleCount())
				found[family.GetName()+"_sum"+of] = histogram.GetSampleSum()
				continue
			}
			found[family.GetName()+of] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	return found
}

// value returns one series of the operator; a name that it does not have fails the spec.
func value(name, labels string) float64 {
	GinkgoHelper()
	all, key := series(Default, operator.metrics), name+"{"+labels+"}"
	Expect(all).To(HaveKey(key))
	return all[key]
}

// of returns one series of w's connection.
func (w world) of(name string) float64 {
	GinkgoHelper()
	return value(name, "connection="+w.name)
}

// ended returns how many runs of w's connection ended in that phase.
func (w world) ended(phase v1alpha1.PooledJobPhase) float64 {
	GinkgoHelper()
	return value("pooledjob_runs_finished_total", fmt.Sprintf("connection=%s,phase=%s", w.name, phase))
}

// ofConnection returns the names of all series of w's connection.
func (w world) ofConnection(g Gomega) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(series(g, operator.metrics))), func(name string) bool {
		return !strings.Contains(name, "connection="+w.name+",") && !strings.Contains(name, "connection="+w.name+"}")
	})
}

// hubWritesMade returns the writes of PooledJobs that were counted, by kind.
func hubWritesMade() map[metrics.Write]float64 {
	GinkgoHelper()
	made := map[metrics.Write]float64{}
	for _, kind := range metrics.Writes {
		made[kind] = value("pooledjob_hub_writes_total", "kind="+string(kind))
	}
	return made
}

var _ = Describe("The figures of runs", Ordered, ContinueOnFailure, func() {
	var mine *installation // whose PooledJobs are written for these specs only

	BeforeAll(func(ctx context.Context) {
		mine = install(ctx, "figures-hub")
		mine.start()
	})
	it := func(text string, body func(context.Context)) {
		It(text, func(ctx context.Context) { mine.here(func() { body(ctx) }) })
	}

	it("count each write that the hub has seen, once", func(ctx context.Context) {
		w := connected(ctx)
		first, _ := w.finished(ctx)
		versions := record[*v1alpha1.PooledJob](ctx, &v1alpha1.PooledJobList{}, client.InNamespace(w.name))
		before := hubWritesMade()

		job, remote, _ := w.running(ctx)
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		finishDeletion(ctx, remote)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())

		Eventually(func(g Gomega) {
			seen := slices.DeleteFunc(versions(), func(j *v1alpha1.PooledJob) bool { return j.Name == first.Name })
			var total float64
			made := hubWritesMade()
			for kind := range made {
				made[kind] -= before[kind]
				total += made[kind]
			}
			g.Expect(total).To(BeEquivalentTo(len(seen)-2), "without the creation and the deletion, which are this test's: %v", made)
			g.Expect(made).To(And(
				HaveKeyWithValue(metrics.WriteIntent, 1.0), HaveKeyWithValue(metrics.WriteTerminal, 1.0), HaveKeyWithValue(metrics.WriteFinalizer, 1.0),
				HaveKeyWithValue(metrics.WriteTakeover, 0.0), HaveKeyWithValue(metrics.WriteRestore, 0.0), HaveKeyWithValue(metrics.WriteExpiry, 0.0)))
		}).Should(Succeed())
		Expect(w.of("pooledjob_dispatch_duration_seconds_count")).To(Equal(2.0))
		Expect(w.of("pooledjob_status_lag_seconds_count")).To(Equal(2.0))
		Expect(w.ended(v1alpha1.PooledJobSucceeded)).To(Equal(2.0))
		Expect(w.ended(v1alpha1.PooledJobFailed)).To(BeZero())
	})

	it("count what is put back, and what is deleted after its time", func(ctx context.Context) {
		w := connected(ctx)
		before := hubWritesMade()
		job, remote, _ := w.running(ctx)
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, v1alpha1.AnnotationIntent)
		Expect(hub.Patch(ctx, job, client.RawPatch("application/merge-patch+json", patch))).To(Succeed())
		Eventually(hubWritesMade).Should(HaveKeyWithValue(metrics.WriteRestore, before[metrics.WriteRestore]+1))
		patch = []byte(`{"spec":{"ttlSecondsAfterFinished":0}}`)
		Expect(hub.Patch(ctx, job, client.RawPatch("application/merge-patch+json", patch))).To(Succeed())
		endJob(ctx, remote, batchv1.JobFailed)
		Eventually(hubWritesMade).Should(HaveKeyWithValue(metrics.WriteExpiry, before[metrics.WriteExpiry]+1))
		Expect(w.ended(v1alpha1.PooledJobFailed)).To(Equal(1.0))
		expectCollected(ctx, job, remote)
	})

	it("have runs that end without a connection, and none by a name that anybody may ask for", func(ctx context.Context) {
		w := newWorld(ctx)
		job := w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.DispatchDeadlineSeconds = 1 })
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobFailed))
		Eventually(func(g Gomega) map[string]float64 { return series(g, operator.metrics) }).Should(
			HaveKeyWithValue("pooledjob_runs_finished_total{connection=,phase=Failed}", 1.0))
		Expect(w.ofConnection(Default)).To(BeEmpty())
	})

	it("do not have a dispatch that this process did not see from its beginning", func(ctx context.Context) {
		w := newWorld(ctx)
		waiting := w.submit(ctx) // for its connection
		eventually(ctx, waiting).Should(haveCondition(v1alpha1.ConditionAccepted, "False", v1alpha1.ReasonClusterNotFound))
		operator.restart()
		w.createSecret(ctx)
		w.createConnection(ctx)
		succeeds(ctx, waiting)
		eventually(ctx, waiting).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Eventually(func() float64 { return w.ended(v1alpha1.PooledJobSucceeded) }).Should(Equal(1.0))
		Expect(w.of("pooledjob_dispatch_duration_seconds_count")).To(BeZero())
		Expect(w.of("pooledjob_status_lag_seconds_count")).To(Equal(1.0), "its end, it did see")

		seen := w.submit(ctx)
		remoteOf(ctx, seen)
		Eventually(func() float64 { return w.of("pooledjob_dispatch_duration_seconds_count") }).Should(Equal(1.0))
	})

	it("end with the connection", func(ctx context.Context) {
		w := connected(ctx)
		job, remote := w.finished(ctx)
		Eventually(w.ofConnection).Should(ContainElements(
			HavePrefix("pooledjob_dispatch_duration_seconds_count"), HavePrefix("pooledjob_status_lag_seconds_count"),
			HavePrefix("pooledjob_runs_finished_total"), HavePrefix("pooledjob_connection_up")))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		finishDeletion(ctx, remote)
		Expect(hub.Delete(ctx, w.connection(Default, ctx))).To(Succeed())
		Eventually(w.ofConnection).Should(BeEmpty())
	})

	it("have in the dispatch what a PooledJob waited, from the moment that it was seen", func(ctx context.Context) {
		w := newWorld(ctx)
		job := w.submit(ctx)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionAccepted, "False", v1alpha1.ReasonClusterNotFound))
		moveClock(time.Now().Add(time.Hour))
		w.createSecret(ctx)
		w.createConnection(ctx)
		remoteOf(ctx, job)
		Eventually(w.connection).WithContext(ctx).Should(beReady())
		Eventually(func() float64 { return w.of("pooledjob_dispatch_duration_seconds_sum") }).Should(
			And(BeNumerically(">=", 3600), BeNumerically("<", 3700)))
	})

	it("have in the status lag what it took to learn the result, from the news of the end", func(ctx context.Context) {
		w := newWorld(ctx)
		l := w.link(ctx, theTarget(ctx), "away")
		job := w.submit(ctx, l.on)
		remote := remoteOf(ctx, job)
		eventually(ctx, job).Should(HaveField("Status.JobRef.UID", string(remote.UID)))
		var asked atomic.Bool
		l.line.SetHook(func(_ faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
			if call.String() != "LIST pods" {
				return faultproxy.Action{}
			}
			asked.Store(true)
			return faultproxy.Action{Answer: 500}
		})
		endJob(ctx, remote, batchv1.JobComplete) // without Pods in view
		Eventually(asked.Load).Should(BeTrue())
		moveClock(time.Now().Add(time.Hour))
		l.mendLine()
		touch(ctx, job)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Eventually(func() float64 { return l.of("pooledjob_status_lag_seconds_sum") }).Should(
			And(BeNumerically(">=", 3600), BeNumerically("<", 3700)))
	})
})
