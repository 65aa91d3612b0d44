package controllers

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/logs"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/logserver"
)

// startLogs starts the log API's backend as a replica has it that does not lead.
func startLogs() *logs.Backend {
	pooledJobs, err := hubcache.NewReader(hubCluster.Config(), operator.scheme, false)
	Expect(err).NotTo(HaveOccurred())
	mgr, err := ctrl.NewManager(hubCluster.Config(), ctrl.Options{
		Scheme: operator.scheme, Metrics: server.Options{BindAddress: "0"}, Cache: hubcache.CacheOptions(systemNamespace, pooledJobs, false),
	})
	Expect(err).NotTo(HaveOccurred())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	DeferCleanup(func() {
		cancel()
		Eventually(ended).Should(Receive(BeNil()))
	})
	backend, err := logs.NewBackend(ctx, mgr, logs.Options{
		Namespace: systemNamespace, HubID: operator.hubID, PooledJobs: pooledJobs, Pool: connpool.Options{UserAgent: "pooledjob-test", RequestTimeout: 5 * time.Second},
	})
	Expect(err).NotTo(HaveOccurred())
	go func() { ended <- mgr.Start(ctx) }()
	Expect(mgr.GetCache().WaitForCacheSync(ctx)).To(BeTrue())
	return backend
}

var _ = Describe("The log API's view of a run", func() {
	It("shows no Job before dispatch, then the Job, and its end", func(ctx context.Context) {
		backend, w := startLogs(), connected(ctx)
		_, err := backend.Run(ctx, w.name, "nobody")
		Expect(apierrors.IsNotFound(err)).To(BeTrue(), "%v", err)

		job := w.submit(ctx, func(job *v1alpha1.PooledJob) { job.Spec.ClusterName = "nowhere-" + w.name })
		var run logserver.Run
		Eventually(func(g Gomega) { // its cache may hear of it later than ours
			run, err = backend.Run(ctx, job.Namespace, job.Name)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(run.State).To(And(HavePrefix("It is Pending ("), ContainSubstring("nowhere-"+w.name)))
		}).WithContext(ctx).Should(Succeed())
		Expect(run).To(And(HaveField("UID", string(job.UID)), HaveField("JobUID", ""), HaveField("Ended", false)))

		job = w.submit(ctx)
		var found *v1alpha1.PooledJob
		Eventually(func(g Gomega) {
			found = latest(job)(g, ctx)
			g.Expect(found.Status.JobRef).NotTo(BeNil())
			g.Expect(found.Status.JobRef.UID).NotTo(BeEmpty())
		}).WithContext(ctx).Should(Succeed())
		Eventually(func(g Gomega) {
			run, err = backend.Run(ctx, job.Namespace, job.Name)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(run).To(Equal(logserver.Run{
				UID: string(job.UID), Connection: w.name, ClusterUID: uidOf(ctx, target),
				Namespace: w.name, JobUID: string(found.Status.JobRef.UID), State: run.State,
			}))
		}).WithContext(ctx).Should(Succeed())

		remote := remoteOf(ctx, job)
		endPod(ctx, start(ctx, remote), 0, "")
		endJob(ctx, remote, batchv1.JobComplete)
		Eventually(func(g Gomega) {
			run, err = backend.Run(ctx, job.Namespace, job.Name)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(run.Ended).To(BeTrue())
		}).WithContext(ctx).Should(Succeed())
		Expect(run.State).To(HavePrefix("It is Succeeded ("))
	})

	It("reports changes of that PooledJob only, until it is stopped", func(ctx context.Context) {
		backend, w := startLogs(), newWorld(ctx)
		watched := w.submit(ctx, func(job *v1alpha1.PooledJob) { job.Spec.ClusterName = "nowhere" })
		other := w.submit(ctx, func(job *v1alpha1.PooledJob) { job.Spec.ClusterName = "nowhere" })
		for _, job := range []*v1alpha1.PooledJob{watched, other} {
			eventually(ctx, job).Should(HaveField("Status.Reason", v1alpha1.ReasonClusterNotFound))
		}
		changed, stop := backend.Watch(watched.Namespace, watched.Name)
		Eventually(func() bool { // what the cache has still to hear of the beginning
			select {
			case <-changed:
				return false
			case <-time.After(quiet):
				return true
			}
		}).WithContext(ctx).Should(BeTrue())

		label := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"looked":"at"}}}`))
		Expect(hub.Patch(ctx, other, label)).To(Succeed())
		Consistently(changed).ShouldNot(Receive())
		Expect(hub.Patch(ctx, watched, label)).To(Succeed())
		Eventually(changed).WithContext(ctx).Should(Receive())
		Expect(hub.Delete(ctx, watched)).To(Succeed())
		Eventually(changed).WithContext(ctx).Should(Receive())
		stop()
	})
})

var _ = Describe("The log API's way to a cluster", func() {
	It("leads to the Pods of the run and to no others", func(ctx context.Context) {
		backend, w := startLogs(), newWorld(ctx)
		w.createSecret(ctx)
		w.createConnection(ctx)
		run := logserver.Run{Connection: w.name, ClusterUID: uidOf(ctx, target), Namespace: w.name}
		for name, labels := range map[string]map[string]string{
			"ours":        {v1alpha1.LabelHub: operator.hubID, v1alpha1.LabelUID: w.name},
			"another-run": {v1alpha1.LabelHub: operator.hubID, v1alpha1.LabelUID: "other"},
			"another-hub": {v1alpha1.LabelHub: "other", v1alpha1.LabelUID: w.name},
		} {
			Expect(target.Create(ctx, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: w.name, Name: name, Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
			})).To(Succeed())
		}
		Eventually(func(g Gomega) {
			way, err := backend.Open(ctx, run)
			g.Expect(err).NotTo(HaveOccurred())
			defer way.Close()
			g.Expect(way.Pods(ctx, w.name, w.name)).To(ConsistOf(HaveField("Name", "ours")))
		}).WithContext(ctx).Should(Succeed())
	})

	It("ends with an error when another cluster answers", func(ctx context.Context) {
		backend, w := startLogs(), newWorld(ctx)
		w.createSecret(ctx)
		w.createConnection(ctx)
		run := logserver.Run{Connection: w.name, ClusterUID: "that-of-another-cluster", Namespace: w.name}
		var way logserver.Target
		Eventually(func() (err error) { way, err = backend.Open(ctx, run); return err }).WithContext(ctx).Should(Succeed())
		defer way.Close()
		_, err := way.Pods(ctx, w.name, w.name)
		Expect(err).To(MatchError(ContainSubstring("another cluster")))
		_, err = way.Log(ctx, w.name, "any", &corev1.PodLogOptions{})
		Expect(err).To(MatchError(ContainSubstring("another cluster")))
		watching, cancel := context.WithCancel(ctx)
		defer cancel()
		failed := make(chan error, 10)
		go way.WatchPods(watching, w.name, w.name, func([]*corev1.Pod) { Fail("Pods of another cluster were seen") }, func(err error) {
			select {
			case failed <- err:
			default:
			}
		})
		Eventually(failed).WithContext(ctx).Should(Receive(MatchError(ContainSubstring("another cluster"))))
	})

	It("ends with an error that says what to mend when there is no connection", func(ctx context.Context) {
		backend, w := startLogs(), newWorld(ctx)
		run := logserver.Run{Connection: w.name, ClusterUID: uidOf(ctx, target)}
		refusal := func() string {
			_, err := backend.Open(ctx, run)
			if err != nil {
				Expect(apierrors.IsServiceUnavailable(err)).To(BeTrue(), "%v", err)
				return err.Error()
			}
			return ""
		}
		Expect(refusal()).To(And(ContainSubstring("ClusterConnection \"%s\"", w.name), ContainSubstring("cannot be read")))
		w.createConnection(ctx)
		Eventually(refusal).WithContext(ctx).Should(And(ContainSubstring("has no kubeconfig that can be used"), ContainSubstring("Secret pooledjob-system/"+w.name)))
		w.createSecret(ctx, []byte("none")...)
		Eventually(refusal).WithContext(ctx).Should(And(ContainSubstring("has no kubeconfig that can be used"), Not(ContainSubstring("does not exist"))))
	})

	It("uses the kubeconfig as it is now", func(ctx context.Context) {
		backend, w := startLogs(), newWorld(ctx)
		w.createConnection(ctx)
		kubeconfig, err := targetCluster.KubeconfigFor("powerless")
		Expect(err).NotTo(HaveOccurred())
		w.createSecret(ctx, kubeconfig...)
		run := logserver.Run{Connection: w.name, ClusterUID: uidOf(ctx, target), Namespace: w.name}
		list := func() error {
			way, err := backend.Open(ctx, run)
			if err != nil {
				return err
			}
			defer way.Close()
			_, err = way.Pods(ctx, w.name, w.name)
			return err
		}
		Eventually(list).WithContext(ctx).Should(MatchError(ContainSubstring("powerless")))
		open, err := backend.Open(ctx, run)
		Expect(err).NotTo(HaveOccurred())
		defer open.Close()
		watching, cancel := context.WithCancel(ctx)
		defer cancel()
		shown := make(chan []*corev1.Pod, 100)
		go open.WatchPods(watching, w.name, w.name, func(pods []*corev1.Pod) { shown <- pods }, func(error) {})

		kubeconfig, err = targetCluster.Kubeconfig()
		Expect(err).NotTo(HaveOccurred())
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: w.name}}
		Expect(hub.Get(ctx, client.ObjectKeyFromObject(secret), secret)).To(Succeed())
		secret.Data["kubeconfig"] = kubeconfig
		Expect(hub.Update(ctx, secret)).To(Succeed())
		Eventually(list).WithContext(ctx).Should(Succeed())
		Expect(open.Pods(ctx, w.name, w.name)).To(BeEmpty(), "who was there before uses it too")
		Eventually(shown).WithContext(ctx).WithTimeout(time.Minute).Should(Receive(BeEmpty()), "and so does the watch, when it is tried again")
	})

	It("stays unused while the manager knows that the cluster is away", func(ctx context.Context) {
		backend := startLogs()
		w, tap := throughTap(ctx)
		run := logserver.Run{Connection: w.name, ClusterUID: uidOf(ctx, target), Namespace: w.name}
		open := func() error {
			way, err := backend.Open(ctx, run)
			if err == nil {
				way.Close()
			}
			return err
		}
		Eventually(open).WithContext(ctx).Should(Succeed())
		w.goesAway(ctx, tap)
		Eventually(open).WithContext(ctx).Should(And(MatchError(apierrors.IsServiceUnavailable, "503"), MatchError(ContainSubstring("is not reachable"))))
		w.comesBack(ctx, tap)
		Eventually(open).WithContext(ctx).Should(Succeed())
	})
})
