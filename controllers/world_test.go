package controllers

import (
	"context"
	"fmt"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gstruct"
	gtypes "github.com/onsi/gomega/types"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// world is what one spec works with: a namespace of the same name on hub and
// target, and a ClusterConnection of that name that connects them.
type world struct{ name string }

// newWorld makes the namespaces, on the hub with label team=<name>.
func newWorld(ctx context.Context) world {
	w := world{name: uniqueName("w")}
	Expect(hub.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.name, Labels: map[string]string{"team": w.name}}})).To(Succeed())
	w.createTargetNamespace(ctx, w.name)
	return w
}

func (w world) createTargetNamespace(ctx context.Context, name string) {
	Expect(target.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})).To(Succeed())
	// No controller makes it, and Pods need it.
	Expect(target.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}})).To(Succeed())
}

// createSecret stores a kubeconfig: by default one of the target's administrator.
func (w world) createSecret(ctx context.Context, kubeconfig ...byte) {
	if len(kubeconfig) == 0 {
		var err error
		kubeconfig, err = targetCluster.Kubeconfig()
		Expect(err).NotTo(HaveOccurred())
	}
	Expect(hub.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: w.name},
		Data:       map[string][]byte{"kubeconfig": kubeconfig},
	})).To(Succeed())
}

// createConnection makes a ClusterConnection that is open to w's namespace, for the
// namespaces of the target that are given, or the one of the same name.
func (w world) createConnection(ctx context.Context, targets ...string) {
	same := true
	rule := v1alpha1.AccessRule{HubNamespaces: &v1alpha1.LabelSelector{MatchLabels: map[string]string{"team": w.name}}}
	if len(targets) > 0 {
		rule.TargetNamespaces.Names = targets
	} else {
		rule.TargetNamespaces.Same = &same
	}
	Expect(hub.Create(ctx, &v1alpha1.ClusterConnection{
		ObjectMeta: metav1.ObjectMeta{Name: w.name},
		Spec: v1alpha1.ClusterConnectionSpec{
			KubeconfigSecretRef: v1alpha1.SecretKeyReference{Name: w.name},
			Access:              []v1alpha1.AccessRule{rule},
		},
	})).To(Succeed())
}

// connected returns a new world with a connection that is Ready.
func connected(ctx context.Context) world {
	w := newWorld(ctx)
	w.createSecret(ctx)
	w.createConnection(ctx)
	Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonConnected))
	return w
}

func (w world) connection(g Gomega, ctx context.Context) *v1alpha1.ClusterConnection {
	c := &v1alpha1.ClusterConnection{}
	g.Expect(hub.Get(ctx, client.ObjectKey{Name: w.name}, c)).To(Succeed())
	return c
}

// submit creates a PooledJob, after the changes.
func (w world) submit(ctx context.Context, changes ...func(*v1alpha1.PooledJob)) *v1alpha1.PooledJob {
	job, err := w.trySubmit(ctx, changes...)
	Expect(err).NotTo(HaveOccurred())
	return job
}

// trySubmit creates a PooledJob, after the changes, if the hub takes it.
func (w world) trySubmit(ctx context.Context, changes ...func(*v1alpha1.PooledJob)) (*v1alpha1.PooledJob, error) {
	named := func(job *v1alpha1.PooledJob) { job.Spec.ClusterName = w.name }
	job := w.unsent(append([]func(*v1alpha1.PooledJob){named}, changes...)...)
	return job, hub.Create(ctx, job)
}

// unsent returns a PooledJob that names no cluster, after the changes.
func (w world) unsent(changes ...func(*v1alpha1.PooledJob)) *v1alpha1.PooledJob {
	return fixtures.PooledJob(w.name, uniqueName("job"), changes...)
}

// latest reads a PooledJob from the hub.
func latest(job *v1alpha1.PooledJob) func(Gomega, context.Context) *v1alpha1.PooledJob {
	return func(g Gomega, ctx context.Context) *v1alpha1.PooledJob {
		found := &v1alpha1.PooledJob{}
		g.Expect(hub.Get(ctx, client.ObjectKeyFromObject(job), found)).To(Succeed())
		return found
	}
}

// exists reports whether an object is still there. It leaves obj as it is: the handler of a gateway may
// read it at the same time.
func exists(c client.Client, obj client.Object) func(context.Context) (bool, error) {
	key, found := client.ObjectKeyFromObject(obj), obj.DeepCopyObject().(client.Object)
	return func(ctx context.Context) (bool, error) {
		err := c.Get(ctx, key, found)
		return err == nil, client.IgnoreNotFound(err)
	}
}

// remoteKey returns where a PooledJob's Job is on the target.
func remoteKey(job *v1alpha1.PooledJob) client.ObjectKey {
	return client.ObjectKey{Namespace: jobspec.TargetNamespace(job), Name: binding.RemoteName(operator.hubID, job, 0)}
}

// remoteOf waits for a PooledJob's Job on the target.
func remoteOf(ctx context.Context, job *v1alpha1.PooledJob) *batchv1.Job {
	remote := &batchv1.Job{}
	Eventually(func() error { return target.Get(ctx, remoteKey(job), remote) }).Should(Succeed())
	return remote
}

// remoteJobs returns all Jobs of a namespace of the target.
func remoteJobs(namespace string) func(Gomega, context.Context) []batchv1.Job {
	return func(g Gomega, ctx context.Context) []batchv1.Job {
		var jobs batchv1.JobList
		g.Expect(target.List(ctx, &jobs, client.InNamespace(namespace))).To(Succeed())
		return jobs.Items
	}
}

// createPod plays the Job controller: it makes a Pod of the Job.
func createPod(ctx context.Context, remote *batchv1.Job) *corev1.Pod {
	owner := *metav1.NewControllerRef(remote, batchv1.SchemeGroupVersion.WithKind("Job"))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: remote.Namespace, GenerateName: remote.Name + "-", Labels: remote.Spec.Template.Labels,
			OwnerReferences: []metav1.OwnerReference{owner}, Finalizers: []string{batchv1.JobTrackingFinalizer},
		},
		Spec: *remote.Spec.Template.Spec.DeepCopy(),
	}
	Expect(target.Create(ctx, pod)).To(Succeed())
	return pod
}

// letPodsGo plays the Job controller: it has counted the Pods of the Job.
func letPodsGo(ctx context.Context, remote *batchv1.Job) {
	var pods corev1.PodList
	Expect(target.List(ctx, &pods, client.InNamespace(remote.Namespace), client.MatchingLabels(remote.Spec.Template.Labels))).To(Succeed())
	for i := range pods.Items {
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
		Expect(client.IgnoreNotFound(target.Patch(ctx, &pods.Items[i], patch))).To(Succeed())
	}
}

// start plays the Job controller and the kubelet: a Pod of the Job runs.
func start(ctx context.Context, remote *batchv1.Job) *corev1.Pod {
	pod := createPod(ctx, remote)
	pod.Status.Phase = corev1.PodRunning
	Expect(target.Status().Update(ctx, pod)).To(Succeed())
	one := int32(1)
	start := metav1.Now()
	remote.Status = batchv1.JobStatus{StartTime: &start, Active: 1, Ready: &one}
	Expect(target.Status().Update(ctx, remote)).To(Succeed())
	return pod
}

// stopPod plays the Job controller: it has the Pod deleted, which the finalizer delays.
func stopPod(ctx context.Context, pod *corev1.Pod) {
	Expect(target.Delete(ctx, pod)).To(Succeed())
	Expect(target.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
	Expect(pod.DeletionTimestamp).NotTo(BeNil())
}

// endPod plays the kubelet: the Pod's container ends.
func endPod(ctx context.Context, pod *corev1.Pod, exitCode int32, message string) {
	pod.Status.Phase = corev1.PodSucceeded
	if exitCode != 0 {
		pod.Status.Phase = corev1.PodFailed
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "main", Image: "busybox", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: exitCode, Message: message, StartedAt: pod.CreationTimestamp, FinishedAt: metav1.Now(),
		}},
	}}
	Expect(target.Status().Update(ctx, pod)).To(Succeed())
}

// endJob plays the Job controller: the Job gets its verdict.
func endJob(ctx context.Context, remote *batchv1.Job, verdict batchv1.JobConditionType) {
	Expect(target.Get(ctx, client.ObjectKeyFromObject(remote), remote)).To(Succeed())
	now := metav1.Now()
	if remote.Status.StartTime == nil {
		remote.Status.StartTime = &now
	}
	early := batchv1.JobSuccessCriteriaMet
	if verdict == batchv1.JobFailed {
		early = batchv1.JobFailureTarget
		remote.Status.Failed = 1
	} else {
		remote.Status.Succeeded = 1
		remote.Status.CompletionTime = &now
	}
	none := int32(0)
	remote.Status.Active, remote.Status.Ready = 0, &none
	for _, kind := range []batchv1.JobConditionType{early, verdict} {
		remote.Status.Conditions = append(remote.Status.Conditions, batchv1.JobCondition{
			Type: kind, Status: corev1.ConditionTrue, Reason: "AsTold", Message: "as the test told", LastTransitionTime: now,
		})
	}
	Expect(target.Status().Update(ctx, remote)).To(Succeed())
}

// finishDeletion plays the garbage collector: the Job's Pods are gone, so it goes.
func finishDeletion(ctx context.Context, remote *batchv1.Job) {
	Eventually(func(g Gomega) {
		g.Expect(target.Get(ctx, client.ObjectKeyFromObject(remote), remote)).To(Succeed())
		g.Expect(remote.DeletionTimestamp).NotTo(BeNil(), "the operator deletes it first")
	}).Should(Succeed())
	letPodsGo(ctx, remote)
	Expect(target.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(remote.Namespace),
		client.MatchingLabels(remote.Spec.Template.Labels), client.GracePeriodSeconds(0))).To(Succeed())
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
	Expect(target.Patch(ctx, remote, patch)).To(Succeed())
}

// stripLabels takes our labels off a Job. Another one must stay: the API server gives
// a Job without any label those of its Pods, which are ours.
func stripLabels(ctx context.Context, remote *batchv1.Job) {
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:null,%q:null,"stripped":"yes"}}}`, v1alpha1.LabelHub, v1alpha1.LabelUID)
	Expect(target.Patch(ctx, remote, client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
	Expect(remote.Labels).NotTo(HaveKey(v1alpha1.LabelUID))
}

// haveCondition matches an object of ours that has the condition.
func haveCondition(kind string, status metav1.ConditionStatus, reason string, message ...gtypes.GomegaMatcher) gtypes.GomegaMatcher {
	fields := gstruct.Fields{"Status": Equal(status), "Reason": Equal(reason)}
	if len(message) > 0 {
		fields["Message"] = And(message...)
	}
	return WithTransform(func(obj any) *metav1.Condition {
		switch o := obj.(type) {
		case *v1alpha1.PooledJob:
			return meta.FindStatusCondition(o.Status.Conditions, kind)
		case *v1alpha1.ClusterConnection:
			return meta.FindStatusCondition(o.Status.Conditions, kind)
		}
		return nil
	}, gstruct.PointTo(gstruct.MatchFields(gstruct.IgnoreExtras, fields)))
}

func havePhase(phase v1alpha1.PooledJobPhase) gtypes.GomegaMatcher {
	return HaveField("Status.Phase", phase)
}

// eventually and consistently read an object until, or while, it matches.
func eventually(ctx context.Context, job *v1alpha1.PooledJob) AsyncAssertion {
	return Eventually(latest(job)).WithContext(ctx)
}

func consistently(ctx context.Context, job *v1alpha1.PooledJob) AsyncAssertion {
	return Consistently(latest(job)).WithContext(ctx)
}
