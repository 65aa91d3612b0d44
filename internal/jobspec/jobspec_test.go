package jobspec

import (
	"fmt"
	"strings"
	"testing"
	"testing/quick"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
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

// The name decides whether a second creation is refused: a change of this value
// would let a new version of the program run every unfinished job again.
func TestRemoteNameIsFixedForEver(t *testing.T) {
	got := RemoteName("hub-1", pooledJob("etl-42"), 0)
	if want := "etl-42-92041b2dddb53659"; got != want {
		t.Errorf("RemoteName = %q, want %q", got, want)
	}
}

func TestRemoteNameIsAValidNameForAnyPooledJob(t *testing.T) {
	for _, name := range []string{
		"a", "etl.42", strings.Repeat("x", 253), strings.Repeat("a.", 60) + "b", strings.Repeat("x", 34) + ".y", "0",
	} {
		got := RemoteName("hub-1", pooledJob(name), 0)
		if errs := validation.IsDNS1123Label(got); len(errs) > 0 || len(got) > maxNameLength {
			t.Errorf("RemoteName of %q = %q (%d characters): %v", name, got, len(got), errs)
		}
	}
}

func TestRemoteNameDependsOnHubUIDAndAttempt(t *testing.T) {
	unique := func(hub, uid string, attempt int32) bool {
		base, other := pooledJob("same"), pooledJob("same")
		other.UID = types.UID(uid)
		name := RemoteName("hub-1", base, 0)
		return (RemoteName(hub, base, 0) == name) == (hub == "hub-1") &&
			(RemoteName("hub-1", other, 0) == name) == (other.UID == base.UID) &&
			(RemoteName("hub-1", base, attempt) == name) == (attempt == 0)
	}
	if err := quick.Check(unique, nil); err != nil {
		t.Error(err)
	}
}

func TestBuildAddsOnlyWhatIsDocumented(t *testing.T) {
	job := pooledJob("etl-42")
	before := job.DeepCopy()
	intent := NewIntent(job, "hub-1", job.Spec.ClusterName, "cluster-uid")

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
	if !Owns("hub-1", job, got.Labels) || Owns("hub-2", job, got.Labels) || Owns("hub-1", job, map[string]string{v1alpha1.LabelHub: "hub-1"}) {
		t.Error("Owns does not tell our Job from others")
	}
}

func TestIntentSurvivesItsAnnotation(t *testing.T) {
	job := pooledJob("etl-42")
	job.Spec.TargetNamespace = "etl"
	want := NewIntent(job, "hub-1", job.Spec.ClusterName, "cluster-uid")
	if _, ok, err := IntentOf(job, "hub-1"); ok || err != nil {
		t.Fatalf("without annotation: ok %v, err %v", ok, err)
	}
	job.Annotations = map[string]string{v1alpha1.AnnotationIntent: want.Encode()}
	got, ok, err := IntentOf(job, "hub-1")
	if err != nil || !ok {
		t.Fatalf("IntentOf: ok %v, err %v", ok, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("intent (-want +got):\n%s", diff)
	}
}

func TestForgedIntentIsRefused(t *testing.T) {
	job := pooledJob("etl-42")
	forge := func(change func(*Intent)) string {
		intent := NewIntent(job, "hub-1", job.Spec.ClusterName, "cluster-uid")
		change(&intent)
		return intent.Encode()
	}
	forgeries := map[string]string{
		"garbage":           "{",
		"another cluster":   forge(func(i *Intent) { i.Cluster = "prod-us" }),
		"another namespace": forge(func(i *Intent) { i.Namespace = "kube-system" }),
		"another Job":       forge(func(i *Intent) { i.JobName = "payroll" }),
		"another attempt":   forge(func(i *Intent) { i.Attempt = 1 }),
	}
	for name, raw := range forgeries {
		t.Run(name, func(t *testing.T) {
			job.Annotations = map[string]string{v1alpha1.AnnotationIntent: raw}
			if intent, ok, err := IntentOf(job, "hub-1"); err == nil || !ok {
				t.Errorf("IntentOf accepted %s", fmt.Sprint(intent))
			}
		})
	}
}
