package connpool

import (
	"context"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// newJob returns a Job of the rig's run that does not exist yet. Its key is its name.
func (r *rig) newJob() *batchv1.Job {
	name, none := uniqueName("job"), int32(0)
	labels := map[string]string{runLabel: r.run, keyLabel: name}
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name, Labels: labels},
		Spec: batchv1.JobSpec{
			BackoffLimit: &none,
			Template:     corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec()},
		},
	}
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever,
		Containers:    []corev1.Container{{Name: "main", Image: "busybox"}},
	}
}

// createJob creates a Job of the run, after the changes.
func (r *rig) createJob(ctx context.Context, changes ...func(*batchv1.Job)) *batchv1.Job {
	job := r.newJob()
	for _, change := range changes {
		change(job)
	}
	created, err := client.BatchV1().Jobs(job.Namespace).Create(ctx, job, metav1.CreateOptions{})
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	return created
}

// createPod creates a Pod with the key.
func (r *rig) createPod(ctx context.Context, key string) *corev1.Pod {
	pod, err := client.CoreV1().Pods(metav1.NamespaceDefault).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: uniqueName("pod"), Labels: map[string]string{runLabel: r.run, keyLabel: key}},
		Spec:       podSpec(),
	}, metav1.CreateOptions{})
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	return pod
}

// failPod plays the kubelet: the Pod's container ends.
func failPod(ctx context.Context, pod *corev1.Pod, exitCode int32) {
	pod.Status.Phase = corev1.PodFailed
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "main", Image: "busybox", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: exitCode}},
	}}
	_, err := client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
}

// deletePod lets a Pod go at once.
func deletePod(ctx context.Context, pod *corev1.Pod) {
	now := int64(0)
	ExpectWithOffset(1, client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})).To(Succeed())
}

// deleteJob lets a Job go at once; the default would wait for a garbage collector.
func deleteJob(ctx context.Context, job *batchv1.Job) {
	background := metav1.DeletePropagationBackground
	ExpectWithOffset(1, client.BatchV1().Jobs(job.Namespace).Delete(ctx, job.Name, metav1.DeleteOptions{PropagationPolicy: &background})).To(Succeed())
}

// annotateJob changes a Job in a way that matters to nobody.
func annotateJob(ctx context.Context, job *batchv1.Job) {
	patchJob(ctx, job, `{"metadata":{"annotations":{"connpool.test/changed":"yes"}}}`)
}

// suspendJob changes a Job in a way that matters to its run.
func suspendJob(ctx context.Context, job *batchv1.Job) {
	patchJob(ctx, job, `{"spec":{"suspend":true}}`)
}

func patchJob(ctx context.Context, job *batchv1.Job, patch string) {
	_, err := client.BatchV1().Jobs(job.Namespace).Patch(ctx, job.Name, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{})
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
}

// inView reports whether the connection's view holds the Job now.
func (r *rig) inView(name string, job *batchv1.Job) func() (bool, error) {
	return func() (bool, error) {
		lease, err := r.pool.Lease(name, "")
		if err != nil {
			return false, err
		}
		found, err := lease.Job(job.Namespace, job.Name)
		return found != nil, err
	}
}

// userConfig reaches the cluster as a user whom RBAC has given nothing.
func userConfig(user string) Config {
	kubeconfig, err := cluster.KubeconfigFor(user)
	Expect(err).NotTo(HaveOccurred())
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	Expect(err).NotTo(HaveOccurred())
	return configOf(config, nil)
}

// grant gives the user a right in the whole cluster.
func grant(ctx context.Context, user, group, resource string, verbs ...string) {
	name := uniqueName(user)
	_, err := client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}},
	}, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
}
