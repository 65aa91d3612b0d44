package controllers

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob"
)

// etcdLimit is how large a request etcd takes.
const etcdLimit = 1536 << 10

// sized gives a PooledJob's container so many bytes of environment.
func sized(bytes int) func(*v1alpha1.PooledJob) {
	return func(j *v1alpha1.PooledJob) {
		j.Spec.Template.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "LARGE", Value: strings.Repeat("x", bytes)}}
	}
}

var _ = Describe("A PooledJob that is large", func() {
	It("runs while its status fits into it", func(ctx context.Context) {
		job := connected(ctx).submit(ctx, sized(pooledjob.MaxObjectSize-8<<10))
		succeeds(ctx, job)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		finishDeletion(ctx, remoteOf(ctx, job))
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	It("does not run when its status might not fit, and can be deleted", func(ctx context.Context) {
		job := connected(ctx).submit(ctx, sized(pooledjob.MaxObjectSize))
		eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobFailed), haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonTooLarge)))
		Expect(latest(job)(Default, ctx).Finalizers).To(BeEmpty())
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	It("gets an Event when not even its status can be written", func(ctx context.Context) {
		w, job := connected(ctx), &v1alpha1.PooledJob{}
		Expect(func() (err error) { // the largest that the hub takes, to some bytes
			for size := etcdLimit; size > pooledjob.MaxObjectSize; size -= 128 {
				if job, err = w.trySubmit(ctx, sized(size)); err == nil {
					return nil
				}
				Expect(err).To(MatchError(ContainSubstring("request is too large")))
			}
			return err
		}()).To(Succeed())
		Eventually(func(g Gomega) {
			var events eventsv1.EventList
			g.Expect(hub.List(ctx, &events, client.InNamespace(job.Namespace))).To(Succeed())
			g.Expect(events.Items).To(ContainElement(And(
				HaveField("Regarding.Name", job.Name), HaveField("Reason", v1alpha1.ReasonTooLarge), HaveField("Note", ContainSubstring("shorten spec.template")))))
		}).Should(Succeed())
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})
})
