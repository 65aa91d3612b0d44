package controllers

import (
	"context"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/faultproxy"
)

// say plays a component of the target: it emits an Event about an object.
func say(ctx context.Context, about client.Object, kind, eventType, reason, message string, at time.Time) {
	Expect(target.Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: about.GetNamespace(), GenerateName: about.GetName() + "-"},
		InvolvedObject: corev1.ObjectReference{Kind: kind, Namespace: about.GetNamespace(), Name: about.GetName(), UID: about.GetUID()},
		Type:           eventType, Reason: reason, Message: message, FirstTimestamp: metav1.NewTime(at), LastTimestamp: metav1.NewTime(at),
	})).To(Succeed())
}

var _ = Describe("A run of which nothing happens", func() {
	saysNothing := HaveField("Status.Result", Equal(v1alpha1.Result{}))
	created := haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated)

	It("reports why its Job has no Pod, in the target's words", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		now := time.Now()
		say(ctx, remote, "Job", corev1.EventTypeWarning, "Older", "something else", now.Add(-time.Minute))
		say(ctx, remote, "Job", corev1.EventTypeWarning, "FailedCreate", `serviceaccount "robot" not found`, now)
		say(ctx, remote, "Job", corev1.EventTypeNormal, "Suspended", "no trouble", now.Add(time.Minute))
		eventually(ctx, job).Should(And(created, resultIs("FailedCreate", `serviceaccount "robot" not found`, "")))
		versions := versionsOf(ctx, job)
		passTime()
		touch(ctx, job)
		Consistently(versions).Should(HaveEach(HaveField("Status.Result.Reason", "FailedCreate")), "it stands while it is so")
		operator.restart()
		touch(ctx, job)
		consistently(ctx, job).Should(resultIs("FailedCreate", `serviceaccount "robot" not found`, ""), "a new operator does not take it back")
		start(ctx, remote)
		eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobRunning), saysNothing))
	})

	It("reports why the containers of its Pod are not created", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		pod := stuck(ctx, remoteOf(ctx, job), stuckAt("ContainerCreating", ""))
		say(ctx, pod, "Pod", corev1.EventTypeWarning, "FailedMount", `secret "s" not found`, time.Now())
		eventually(ctx, job).Should(resultIs("FailedMount", `secret "s" not found`, pod.Name))
	})

	It("withdraws what it reported of its Job when that has a Pod", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		eventually(ctx, job).Should(HaveField("Status.Result.Reason", v1alpha1.ResultNoPod))
		moveClock(time.Now().Add(time.Minute))
		stuck(ctx, remote, stuckAt("ContainerCreating", ""))
		eventually(ctx, job).Should(saysNothing)
	})

	It("reports that nobody schedules its Pod", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		pod := stuck(ctx, remoteOf(ctx, job), func(*corev1.PodStatus) {})
		eventually(ctx, job).Should(And(HaveField("Status.Result.Reason", v1alpha1.ResultNotScheduled), HaveField("Status.Result.PodName", pod.Name),
			HaveField("Status.Result.Message", ContainSubstring("spec.schedulerName"))))
	})

	It("reports which Job to look at when the Events may not be read", func(ctx context.Context) {
		w := newWorld(ctx)
		l := w.link(ctx, theTarget(ctx), "line")
		l.line.SetHook(func(_ faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
			if call.Resource == "events" {
				return faultproxy.Action{Answer: 403}
			}
			return faultproxy.Action{}
		})
		job := w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.ClusterName = l.name })
		remote := remoteOf(ctx, job)
		eventually(ctx, job).Should(And(HaveField("Status.Result.Reason", v1alpha1.ResultNoPod),
			HaveField("Status.Result.Message", And(ContainSubstring("may not list them"), ContainSubstring(l.name), ContainSubstring("involvedObject.name="+remote.Name)))))
	})

	It("has its Events read after some seconds and then rarely, and never when the run goes well", func(ctx context.Context) {
		w := newWorld(ctx)
		l := w.link(ctx, theTarget(ctx), "line")
		var reads atomic.Int32
		l.line.SetHook(func(moment faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
			if call.Resource == "events" && moment == faultproxy.Before {
				reads.Add(1)
			}
			return faultproxy.Action{}
		})
		here := func(j *v1alpha1.PooledJob) { j.Spec.ClusterName = l.name }
		well := w.submit(ctx, here)
		start(ctx, remoteOf(ctx, well))
		eventually(ctx, well).Should(havePhase(v1alpha1.PooledJobRunning))
		passTime()
		touch(ctx, well)
		consistently(ctx, well).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(reads.Load()).To(BeZero())

		still := w.submit(ctx, here)
		eventually(ctx, still).Should(HaveField("Status.Result.Reason", v1alpha1.ResultNoPod))
		for range 3 {
			touch(ctx, still)
		}
		Consistently(reads.Load).Should(BeEquivalentTo(1))
	})

	It("reports the warnings of the target", func(ctx context.Context) {
		w := connected(ctx)
		namespace := &corev1.Namespace{}
		Expect(target.Get(ctx, client.ObjectKey{Name: w.name}, namespace)).To(Succeed())
		namespace.Labels["pod-security.kubernetes.io/warn"] = "restricted"
		Expect(target.Update(ctx, namespace)).To(Succeed())
		job := w.submit(ctx)
		warned := haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated,
			ContainSubstring("The cluster warned: would violate PodSecurity"))
		eventually(ctx, job).Should(warned)
		operator.restart()
		touch(ctx, job)
		consistently(ctx, job).Should(warned)
		Expect(remoteOf(ctx, job).Spec.Template.Spec.Containers).NotTo(BeEmpty())
	})
})
