package chaos

import (
	"context"
	"fmt"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// foreignHub is the ID of another hub that uses the same targets.
const foreignHub = "another-hub"

// foreign are objects of one target that are none of our business.
type foreign struct {
	client   client.Client
	versions map[client.Object]string
}

// plantForeign puts Jobs and Pods on a target: some without labels, some of another hub.
// None of them changes by itself.
func plantForeign(ctx context.Context, c client.Client) *foreign {
	f := &foreign{client: c, versions: map[client.Object]string{}}
	f.plant(ctx, "foreign-plain", nil)
	f.plant(ctx, "foreign-hub", map[string]string{v1alpha1.LabelHub: foreignHub, v1alpha1.LabelUID: string(uuid.NewUUID())})
	return f
}

// claim adds objects of another hub that claim to belong to one of our PooledJobs.
func (f *foreign) claim(ctx context.Context, job *v1alpha1.PooledJob) {
	f.plant(ctx, "foreign-"+job.Name, map[string]string{v1alpha1.LabelHub: foreignHub, v1alpha1.LabelUID: string(job.UID)})
}

// strange returns a Job that does nothing.
func (f *foreign) strange(namespace, name string, labels map[string]string) *batchv1.Job {
	yes := true
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}, Spec: batchv1.JobSpec{
		Suspend: &yes, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
			SchedulerName: "nobody", RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{Name: "main", Image: "busybox:1.37"}},
		}},
	}}
}

func (f *foreign) plant(ctx context.Context, name string, labels map[string]string) {
	job := f.strange(team, name, labels)
	Expect(f.client.Create(ctx, job)).To(Succeed())
	Eventually(func(g Gomega) { // the Job controller says once that it does nothing
		g.Expect(f.client.Get(ctx, client.ObjectKeyFromObject(job), job)).To(Succeed())
		g.Expect(job.Status.Conditions).NotTo(BeEmpty())
	}).WithContext(ctx).Should(Succeed())
	f.versions[job] = job.ResourceVersion
	alone := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: name, Labels: labels}, Spec: job.Spec.Template.Spec}
	var account corev1.ServiceAccount
	Eventually(f.client.Get).WithArguments(ctx, client.ObjectKey{Namespace: team, Name: "default"}, &account).Should(Succeed())
	Expect(f.client.Create(ctx, alone)).To(Succeed())
	f.versions[alone] = alone.ResourceVersion
}

// touched returns those that are gone or changed.
func (f *foreign) touched(ctx context.Context) []string {
	var wrong []string
	for obj, version := range f.versions {
		err := f.client.Get(ctx, client.ObjectKeyFromObject(obj), obj)
		if err != nil || obj.GetResourceVersion() != version {
			wrong = append(wrong, fmt.Sprintf("%T %s: version %s, was %s, error %v", obj, obj.GetName(), obj.GetResourceVersion(), version, err))
		}
	}
	return wrong
}

// has reports whether an object of that name was planted.
func (f *foreign) has(name string) bool {
	for obj := range f.versions {
		if obj.GetName() == name {
			return true
		}
	}
	return false
}
