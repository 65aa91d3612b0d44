package jobspec

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/binding"
)

func pooledJob(name string) *v1alpha1.PooledJob {
	return &v1alpha1.PooledJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: name, UID: "6d8f0d6a-1111-4222-8333-444455556666"},
		Spec: v1alpha1.PooledJobSpec{
			ClusterName: "prod-eu",
			Template: &batchv1.JobTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "etl"}, Annotations: map[string]string{"note": "x"}},
				Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"tier": "batch"}},
					Spec: corev1.PodSpec{
						RestartPolicy:  corev1.RestartPolicyNever,
						InitContainers: []corev1.Container{{Name: "init", Image: "i"}},
						Containers: []corev1.Container{
							{Name: "main", Image: "m"},
							{Name: "quiet", Image: "q", TerminationMessagePolicy: corev1.TerminationMessageReadFile},
						},
					},
				}},
			},
		},
	}
}

func TestBuildAddsOnlyWhatIsDocumented(t *testing.T) {
	job := pooledJob("etl-42")
	before := job.DeepCopy()
	intent := RunOf("hub-1", job).NewIntent(job.Spec.ClusterName, "cluster-uid")

	got := encodeJob(t, job, intent)

	want := &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "team-a", Name: intent.JobName,
			Labels:      map[string]string{"app": "etl", v1alpha1.LabelHub: "hub-1", v1alpha1.LabelUID: string(job.UID)},
			Annotations: map[string]string{"note": "x", v1alpha1.AnnotationSource: "team-a/etl-42"},
		},
		Spec: *job.Spec.Template.Spec.DeepCopy(),
	}
	want.Spec.Template.Labels = map[string]string{"tier": "batch", v1alpha1.LabelHub: "hub-1", v1alpha1.LabelUID: string(job.UID)}
	want.Spec.Template.Spec.InitContainers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	want.Spec.Template.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Job (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, job); diff != "" {
		t.Errorf("Build changed the PooledJob:\n%s", diff)
	}
	if !binding.Owns("hub-1", job, got.Labels) || binding.Owns("hub-2", job, got.Labels) || binding.Owns("hub-1", job, map[string]string{v1alpha1.LabelHub: "hub-1"}) {
		t.Error("binding.Owns does not tell our Job from others")
	}
}

func TestIntentSurvivesItsAnnotation(t *testing.T) {
	job := pooledJob("etl-42")
	job.Spec.TargetNamespace = "etl"
	want := RunOf("hub-1", job).NewIntent(job.Spec.ClusterName, "cluster-uid")
	if _, ok, err := RunOf("hub-1", job).Recorded(); ok || err != nil {
		t.Fatalf("without annotation: ok %v, err %v", ok, err)
	}
	job.Annotations = map[string]string{v1alpha1.AnnotationIntent: want.Encode()}
	got, ok, err := RunOf("hub-1", job).Recorded()
	if err != nil || !ok {
		t.Fatalf("IntentOf: ok %v, err %v", ok, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("intent (-want +got):\n%s", diff)
	}
}

func TestForgedIntentIsRefused(t *testing.T) {
	job := pooledJob("etl-42")
	forge := func(change func(*binding.Intent)) string {
		intent := RunOf("hub-1", job).NewIntent(job.Spec.ClusterName, "cluster-uid")
		change(&intent)
		return intent.Encode()
	}
	forgeries := map[string]string{
		"garbage":           "{",
		"another cluster":   forge(func(i *binding.Intent) { i.Cluster = "prod-us" }),
		"another namespace": forge(func(i *binding.Intent) { i.Namespace = "kube-system" }),
		"another Job":       forge(func(i *binding.Intent) { i.JobName = "payroll" }),
		"another attempt":   forge(func(i *binding.Intent) { i.Attempt = 1 }),
	}
	for name, raw := range forgeries {
		t.Run(name, func(t *testing.T) {
			job.Annotations = map[string]string{v1alpha1.AnnotationIntent: raw}
			if intent, ok, err := RunOf("hub-1", job).Recorded(); err == nil || !ok {
				t.Errorf("IntentOf accepted %s", fmt.Sprint(intent))
			}
		})
	}
}
