package controllers

import (
	"context"
	"fmt"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// installation is a hub with its operator.
type installation struct {
	cluster  *localcluster.Cluster
	client   client.Client
	operator *operatorProcess
}

// install starts another hub for the specs of an Ordered container.
func install(ctx context.Context, name string) *installation {
	i := &installation{}
	i.cluster, i.client = startCluster(ctx, name, operator.scheme)
	_, err := envtest.InstallCRDs(i.cluster.Config(), envtest.CRDInstallOptions{
		Paths: []string{filepath.Join("..", "config", "crd")}, ErrorIfPathMissing: true,
	})
	Expect(err).NotTo(HaveOccurred())
	Expect(i.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: systemNamespace}})).To(Succeed())
	return i
}

// start starts the hub's operator.
func (i *installation) start() {
	scheme := operator.scheme
	i.here(func() { operator = startOperator(scheme) })
	DeferCleanup(func() { i.operator.stop() })
}

// here has f work with this hub.
func (i *installation) here(f func()) {
	formerCluster, formerHub, formerOperator := hubCluster, hub, operator
	hubCluster, hub, operator = i.cluster, i.client, i.operator
	defer func() {
		i.operator = operator
		hubCluster, hub, operator = formerCluster, formerHub, formerOperator
	}()
	f()
}

var _ = Describe("Two hubs", Ordered, ContinueOnFailure, func() {
	var second *installation

	BeforeAll(func(ctx context.Context) {
		second = install(ctx, "second-hub")
		second.start()
	})

	// both is a world that is connected on both hubs, with the same names.
	both := func(ctx context.Context) world {
		w := connected(ctx)
		second.here(func() {
			Expect(hub.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.name, Labels: map[string]string{"team": w.name}}})).To(Succeed())
			w.createSecret(ctx)
			w.createConnection(ctx)
			Eventually(w.connection).WithContext(ctx).Should(beReady())
		})
		return w
	}
	// twins are PooledJobs of one name, the first on this hub and the other on the
	// second, and their Jobs.
	twins := func(ctx context.Context, w world) (here, there *v1alpha1.PooledJob, ours, theirs *batchv1.Job) {
		name := func(j *v1alpha1.PooledJob) { j.Name = "same" }
		here = w.submit(ctx, name)
		ours = remoteOf(ctx, here)
		second.here(func() {
			there = w.submit(ctx, name)
			theirs = remoteOf(ctx, there)
			eventually(ctx, there).Should(havePhase(v1alpha1.PooledJobPending))
		})
		return here, there, ours, theirs
	}

	It("create separate Jobs for PooledJobs of the same name, and watch only their own", func(ctx context.Context) {
		w := both(ctx)
		Expect(second.operator.hubID).NotTo(Equal(operator.hubID))
		here, there, ours, theirs := twins(ctx, w)
		Expect(theirs.Name).NotTo(Equal(ours.Name))
		Expect(ours.Labels).To(HaveKeyWithValue(v1alpha1.LabelHub, operator.hubID))
		Expect(theirs.Labels).To(HaveKeyWithValue(v1alpha1.LabelHub, second.operator.hubID))
		Expect(theirs.Annotations[v1alpha1.AnnotationSource]).To(Equal(ours.Annotations[v1alpha1.AnnotationSource]))

		pod := start(ctx, ours)
		eventually(ctx, here).Should(havePhase(v1alpha1.PooledJobRunning))
		second.here(func() { consistently(ctx, there).Should(havePhase(v1alpha1.PooledJobPending)) })
		endPod(ctx, pod, 3, "ours")
		endJob(ctx, ours, batchv1.JobFailed)
		eventually(ctx, here).Should(And(havePhase(v1alpha1.PooledJobFailed), HaveField("Status.Result.Message", "ours")))
		second.here(func() {
			consistently(ctx, there).Should(havePhase(v1alpha1.PooledJobPending))
			pod := start(ctx, theirs)
			endPod(ctx, pod, 0, "theirs")
			endJob(ctx, theirs, batchv1.JobComplete)
			eventually(ctx, there).Should(And(havePhase(v1alpha1.PooledJobSucceeded), HaveField("Status.Result.Message", "theirs")))
		})
		Expect(latest(here)(Default, ctx)).To(havePhase(v1alpha1.PooledJobFailed))
		Expect(remoteJobs(w.name)(Default, ctx)).To(ConsistOf(HaveField("UID", ours.UID), HaveField("UID", theirs.UID)))
	})

	It("delete only their own Jobs", func(ctx context.Context) {
		w := both(ctx)
		here, there, ours, theirs := twins(ctx, w)
		start(ctx, ours)
		start(ctx, theirs)
		second.here(func() { eventually(ctx, there).Should(havePhase(v1alpha1.PooledJobRunning)) })

		Expect(hub.Delete(ctx, here)).To(Succeed())
		finishDeletion(ctx, ours)
		Eventually(exists(hub, here)).WithContext(ctx).Should(BeFalse())
		operator.restart()
		second.here(func() {
			operator.restart()
			Eventually(w.connection).WithContext(ctx).Should(beReady())
			touch(ctx, there)
			consistently(ctx, there).Should(havePhase(v1alpha1.PooledJobRunning))
		})
		Expect(remoteJobs(w.name)(Default, ctx)).To(ConsistOf(And(HaveField("UID", theirs.UID), HaveField("DeletionTimestamp", BeNil()))))
		Expect((&site{client: target}).podsOf(w.name)(Default, ctx)).To(HaveLen(1))

		Expect(hub.Delete(ctx, w.connection(Default, ctx))).To(Succeed(), "it is not kept for the other hub's runs")
		Eventually(exists(hub, &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: w.name}})).WithContext(ctx).Should(BeFalse())
		second.here(func() {
			Expect(hub.Delete(ctx, there)).To(Succeed())
			finishDeletion(ctx, theirs)
			Eventually(exists(hub, there)).WithContext(ctx).Should(BeFalse())
		})
		Expect(remoteJobs(w.name)(Default, ctx)).To(BeEmpty())
	})

	It("do not take over a Job that somebody has labelled with the other's ID", func(ctx context.Context) {
		w := both(ctx)
		here, there, ours, theirs := twins(ctx, w)
		eventually(ctx, here).Should(HaveField("Status.JobRef.UID", string(ours.UID)))
		second.here(func() { eventually(ctx, there).Should(HaveField("Status.JobRef.UID", string(theirs.UID))) })
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q,%q:%q}}}`, v1alpha1.LabelHub, second.operator.hubID, v1alpha1.LabelUID, there.UID)
		Expect(target.Patch(ctx, ours, client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
		Eventually(func() map[string]string { return remoteOf(ctx, here).Labels }).Should(And(
			HaveKeyWithValue(v1alpha1.LabelHub, operator.hubID), HaveKeyWithValue(v1alpha1.LabelUID, string(here.UID))))
		endJob(ctx, ours, batchv1.JobComplete)
		eventually(ctx, here).Should(havePhase(v1alpha1.PooledJobSucceeded))
		second.here(func() {
			consistently(ctx, there).Should(And(havePhase(v1alpha1.PooledJobPending), HaveField("Status.JobRef.UID", string(theirs.UID))))
		})
	})
})
