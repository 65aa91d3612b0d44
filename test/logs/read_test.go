package logs

import (
	"context"
	"fmt"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fakekubelet"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

const (
	// soon is how fast an error must come.
	soon = 5 * time.Second
	// hung is how long a cluster may say nothing: that of one request, --target-request-timeout.
	hung = 35 * time.Second
)

var _ = Describe("Reading a log", func() {
	Context("of a run with two Pods of three containers", Ordered, func() {
		var (
			r          *run
			old, young *corev1.Pod
			log        *fakekubelet.Log // of the younger
			at         = time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
		)

		BeforeAll(func(ctx context.Context) {
			r = submit(ctx, 1, oneAfterAnother(2), func(job *v1alpha1.PooledJob) {
				spec := &job.Spec.Template.Spec.Template.Spec
				spec.Containers = append(spec.Containers, corev1.Container{Name: "side", Image: "busybox"})
				spec.InitContainers = []corev1.Container{{Name: "setup", Image: "busybox"}}
			})
			old, log = r.started(ctx)
			log.Print("of the older")
			olderThanASecond(ctx, old)
			r.end(ctx, old, 0)
			young = r.running(ctx, 2)
			Expect(young.Name).NotTo(Equal(old.Name))
			log = logOf(young)
			log.Print("before")
			r.restart(ctx, young)
			log.PrintAt(at, "one", "two")
			log.PrintAt(at.Add(30*time.Minute), "three")
			kubelet.Log(young.Namespace, young.Name, "side").Print("at the side")
			kubelet.Log(young.Namespace, young.Name, "setup").Print("set up")
		})

		DescribeTable("returns the lines that the parameters ask for:",
			func(ctx context.Context, query func() string, want func() string) {
				Expect(readAs(ctx, editor, r, query())).To(haveLog(want()))
			},
			Entry("no parameter", say(""), say("one\ntwo\nthree\n")),
			Entry("container", say("container=side"), say("at the side\n")),
			Entry("an init container", say("container=setup"), say("set up\n")),
			Entry("tailLines", say("tailLines=2"), say("two\nthree\n")),
			Entry("tailLines=0", say("tailLines=0"), say("")),
			Entry("limitBytes", say("limitBytes=5"), say("one\nt")),
			Entry("sinceTime", func() string { return "sinceTime=" + at.Add(time.Second).Format(time.RFC3339) }, say("three\n")),
			Entry("sinceSeconds", say("sinceSeconds=2700"), say("three\n")),
			Entry("timestamps", say("timestamps=true&tailLines=1"), func() string {
				return at.Add(30*time.Minute).Format("2006-01-02T15:04:05.000000000Z") + " three\n"
			}),
			Entry("previous", say("previous=true"), say("before\n")),
			Entry("pod", func() string { return "pod=" + old.Name }, say("of the older\n")),
			Entry("allPods", say("allPods=true&tailLines=2"), func() string {
				return fmt.Sprintf("[%s] of the older\n[%s] two\n[%s] three\n", old.Name, young.Name, young.Name)
			}),
			Entry("allPods with limitBytes, which bounds the whole", say("allPods=true&limitBytes=70"), func() string {
				return fmt.Sprintf("[%s] of the older\n[%s] one\n[%s] two\n", old.Name, young.Name, young.Name)[:70]
			}),
			Entry("follow with tailLines and limitBytes, which ends it", say("follow=true&tailLines=2&limitBytes=5"), say("two\nt")),
		)

		DescribeTable("refuses parameters that are wrong:",
			func(ctx context.Context, query string, code int, words ...string) {
				for _, follow := range []string{"", "&follow=true"} {
					Expect(readAs(ctx, editor, r, query+follow)).To(beRefused(code, words...))
				}
			},
			Entry("a container that does not exist", "container=nope", http.StatusBadRequest, `no container "nope"; it has main, side, setup`),
			Entry("a Pod that does not exist", "pod=nope", http.StatusNotFound, "has no Pod nope"),
			Entry("an unknown parameter", "tail=1", http.StatusBadRequest, `no parameter "tail"`, "tailLines"),
			Entry("a parameter twice", "pod=a&pod=b", http.StatusBadRequest, "pod is given 2 times"),
			Entry("a number that is not one", "tailLines=many", http.StatusBadRequest, `tailLines is "many"`),
			Entry("a negative number", "tailLines=-1", http.StatusBadRequest, "at least 0"),
			Entry("a bound of 0 bytes", "limitBytes=0", http.StatusBadRequest, "at least 1"),
			Entry("an invalid time", "sinceTime=today", http.StatusBadRequest, "2006-01-02T15:04:05Z"),
			Entry("an invalid boolean", "timestamps=perhaps", http.StatusBadRequest, "true or false"),
			Entry("pod with allPods", "pod=a&allPods=true", http.StatusBadRequest, "exclude each other"),
			Entry("sinceSeconds with sinceTime", "sinceSeconds=1&sinceTime=2006-01-02T15:04:05Z", http.StatusBadRequest, "exclude each other"),
		)

		It("refuses follow together with previous", func(ctx context.Context) {
			Expect(readAs(ctx, editor, r, "previous=true&follow=true")).To(beRefused(http.StatusBadRequest, "cannot be followed"))
		})

		It("passes on the target's error for a previous container that does not exist", func(ctx context.Context) {
			Expect(readAs(ctx, editor, r, "container=side&previous=true")).To(beRefused(http.StatusBadRequest, "previous terminated container"))
		})
	})

	It("reports that the run has not started, or that it never had a Pod", func(ctx context.Context) {
		r := submit(ctx, 1, func(job *v1alpha1.PooledJob) { job.Spec.ClusterName = "nowhere" })
		Eventually(r.latest).WithContext(ctx).Should(HaveField("Status.Reason", v1alpha1.ReasonClusterNotFound))
		Expect(readAs(ctx, editor, r, "")).To(beRefused(http.StatusBadRequest, "has not started yet; follow waits for it", "Pending", "nowhere"))

		By("and that it never will")
		r.change(ctx, func(job *v1alpha1.PooledJob) { job.Spec.Cancel = new(true) })
		Eventually(r.latest).WithContext(ctx).Should(haveEnded(v1alpha1.PooledJobFailed))
		for _, query := range []string{"", "follow=true"} {
			Expect(readAs(ctx, editor, r, query)).To(beRefused(http.StatusNotFound, "it never had a Pod", "Cancelled"))
		}
	})

	It("reports that a container has not started, and why", func(ctx context.Context) {
		r := submit(ctx, 1, annotated(localcluster.WaitingReasonAnnotation, "ImagePullBackOff"))
		Eventually(func() answer { return readAs(ctx, editor, r, "") }).WithContext(ctx).Should(
			beRefused(http.StatusBadRequest, "container main of Pod "+r.Name, "has not started yet (ImagePullBackOff)"))
	})

	It("reports that the Pods of the run are gone", func(ctx context.Context) {
		r := submit(ctx, 1)
		pod, _ := r.started(ctx)
		r.end(ctx, pod, 0)
		Eventually(r.latest).WithContext(ctx).Should(haveEnded(v1alpha1.PooledJobSucceeded))
		Expect(r.target.Client.Delete(ctx, pod)).To(Succeed())
		Eventually(r.pods).WithContext(ctx).Should(BeEmpty())
		for _, query := range []string{"", "follow=true"} {
			Expect(readAs(ctx, editor, r, query)).To(beRefused(http.StatusNotFound, "are gone from the cluster", "status.result"))
		}
	})

	It("leaves out foreign Pods that have the labels of the run", func(ctx context.Context) {
		r := submit(ctx, 1)
		pod, log := r.started(ctx)
		log.Print("ours")
		olderThanASecond(ctx, pod)
		foreign := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: "foreign", Labels: pod.Labels, Annotations: pod.Annotations},
			Spec:       *pod.Spec.DeepCopy(),
		}
		foreign.Labels = map[string]string{}
		for name, value := range pod.Labels {
			if name == v1alpha1.LabelHub || name == v1alpha1.LabelUID {
				foreign.Labels[name] = value
			}
		}
		Expect(r.target.Client.Create(ctx, foreign)).To(Succeed())
		DeferCleanup(func(ctx context.Context) {
			Expect(client.IgnoreNotFound(r.target.Client.Delete(ctx, foreign))).To(Succeed())
		})
		r.running(ctx, 2)
		logOf(foreign).Print("not ours")
		Expect(readAs(ctx, editor, r, "allPods=true")).To(haveLog(fmt.Sprintf("[%s] ours\n", pod.Name)))
		Expect(readAs(ctx, editor, r, "pod=foreign")).To(beRefused(http.StatusNotFound, "has no Pod foreign"))
	})
})

var _ = Describe("A log that cannot be read", func() {
	// refused reads and follows, and expects an error soon.
	refused := func(ctx context.Context, r *run, words ...string) {
		GinkgoHelper()
		for _, query := range []string{"", "follow=true"} {
			began := time.Now()
			Expect(readAs(ctx, editor, r, query)).To(beRefused(http.StatusServiceUnavailable, words...))
			Expect(time.Since(began)).To(BeNumerically("<", soon))
		}
	}

	It("gets 503 within 5 seconds when the cluster is down", func(ctx context.Context) {
		r := submit(ctx, 2)
		_, log := r.started(ctx)
		log.Print("one")
		Expect(readAs(ctx, editor, r, "")).To(haveLog("one\n"))
		Expect(env.Targets[1].StopProgram(localcluster.APIServer)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(env.WaitConnected(ctx)).To(Succeed()) })
		DeferCleanup(env.Targets[1].StartProgram, localcluster.APIServer)
		refused(ctx, r, `the cluster of ClusterConnection "target-2" cannot be reached`)
	}, NodeTimeout(2*time.Minute))

	It("gets 503 within 35 seconds when the cluster hangs", func(ctx context.Context) {
		r := submit(ctx, 2)
		_, log := r.started(ctx)
		log.Print("one")
		Expect(readAs(ctx, editor, r, "")).To(haveLog("one\n"))
		Expect(env.Targets[1].PauseProgram(localcluster.APIServer)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(env.WaitConnected(ctx)).To(Succeed()) })
		DeferCleanup(env.Targets[1].ResumeProgram, localcluster.APIServer)
		began := time.Now()
		Expect(readAs(ctx, editor, r, "")).To(beRefused(http.StatusServiceUnavailable, `the cluster of ClusterConnection "target-2" cannot be reached`))
		AddReportEntry(fmt.Sprintf("a cluster that hangs is given up after %s", time.Since(began).Round(time.Second)))
		Expect(time.Since(began)).To(BeNumerically("<", hung))
	}, NodeTimeout(2*time.Minute))

	It("gets 503 that names pods/log when the connection's identity lacks this right", func(ctx context.Context) {
		r := submit(ctx, 2)
		_, log := r.started(ctx)
		log.Print("one")
		role := &rbacv1.ClusterRole{}
		Expect(r.target.Client.Get(ctx, client.ObjectKey{Name: "pooledjob-target"}, role)).To(Succeed())
		whole := role.DeepCopy()
		DeferCleanup(func(ctx context.Context) {
			Eventually(func(g Gomega) {
				g.Expect(r.target.Client.Get(ctx, client.ObjectKeyFromObject(role), role)).To(Succeed())
				role.Rules = whole.Rules
				g.Expect(r.target.Client.Update(ctx, role)).To(Succeed())
			}).WithContext(ctx).Should(Succeed())
			Eventually(func() answer { return readAs(ctx, editor, r, "") }).WithContext(ctx).Should(haveLog("one\n"))
		})
		before := role.DeepCopy()
		for i, rule := range role.Rules {
			if rule.Resources[0] == "pods/log" {
				role.Rules = append(role.Rules[:i:i], role.Rules[i+1:]...)
				break
			}
		}
		Expect(r.target.Client.Patch(ctx, role, client.MergeFrom(before))).To(Succeed())
		Eventually(func() answer { return readAs(ctx, editor, r, "") }).WithContext(ctx).Should(
			beRefused(http.StatusServiceUnavailable, `the identity of ClusterConnection "target-2" lacks a right`, "config/target/role.yaml", "pods/log"))
	})

	It("gets 503 when the ClusterConnection or its Secret is deleted", func(ctx context.Context) {
		kubeconfig, err := env.Targets[0].KubeconfigFor("pooledjob")
		Expect(err).NotTo(HaveOccurred())
		name := uniqueName("passing")
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "pooledjob-system", Name: name}, Data: map[string][]byte{"kubeconfig": kubeconfig},
		}
		connection := &v1alpha1.ClusterConnection{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: v1alpha1.ClusterConnectionSpec{
				KubeconfigSecretRef: v1alpha1.SecretKeyReference{Name: name},
				Access: []v1alpha1.AccessRule{{
					HubNamespaces:    &v1alpha1.LabelSelector{MatchLabels: map[string]string{"team": "a"}},
					TargetNamespaces: v1alpha1.TargetNamespaces{Names: []string{"team-a"}},
				}},
			},
		}
		for _, obj := range []client.Object{secret, connection} {
			Expect(hub.Create(ctx, obj)).To(Succeed())
			DeferCleanup(func(ctx context.Context) { Expect(client.IgnoreNotFound(hub.Delete(ctx, obj))).To(Succeed()) })
		}
		r := submit(ctx, 1, func(job *v1alpha1.PooledJob) { job.Spec.ClusterName = name })
		pod, log := r.started(ctx)
		log.Print("one")
		Expect(readAs(ctx, editor, r, "")).To(haveLog("one\n"))
		r.end(ctx, pod, 0)
		Eventually(r.latest).WithContext(ctx).Should(haveEnded(v1alpha1.PooledJobSucceeded))

		Expect(hub.Delete(ctx, secret)).To(Succeed())
		Eventually(func() answer { return readAs(ctx, editor, r, "") }).WithContext(ctx).Should(
			beRefused(http.StatusServiceUnavailable, fmt.Sprintf("ClusterConnection %q has no kubeconfig", name)))
		Expect(hub.Delete(ctx, connection)).To(Succeed())
		// It stays as long as there is a run on its cluster, unless somebody is rude.
		Expect(hub.Patch(ctx, connection, noFinalizers)).To(Succeed())
		Eventually(func() answer { return readAs(ctx, editor, r, "") }).WithContext(ctx).Should(
			beRefused(http.StatusServiceUnavailable, fmt.Sprintf("ClusterConnection %q", name), "cannot be read"))
		refused(ctx, r, name)
		r.abandon(ctx)
	})
})

// say returns a text that is known from the beginning.
func say(text string) func() string { return func() string { return text } }
