package jobspec

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// The name is a function of nothing that may change while a run lives.
func TestRemoteNameDependsOnNothingThatChanges(t *testing.T) {
	r := fixtures.Random(2)
	for range 500 {
		job := pooledJob(fixtures.ObjectName(r))
		job.UID = fixtures.ObjectUID(r)
		want := binding.RemoteName("hub-1", job, 1)
		fill(reflect.ValueOf(&job.Spec).Elem(), r, 0)
		fill(reflect.ValueOf(&job.Status).Elem(), r, 0)
		job.Labels, job.Annotations = map[string]string{"a": "b"}, map[string]string{"c": "d"}
		job.ResourceVersion, job.Generation = "77", 5
		job.Namespace = "another" // a UID is unique to the hub
		if got := binding.RemoteName("hub-1", job, 1); got != want {
			t.Fatalf("binding.RemoteName was %q and is %q", want, got)
		}
	}
}

// fill sets every field of a value to something random, or leaves it alone.
func fill(v reflect.Value, r *rand.Rand, depth int) {
	switch special := v.Addr().Interface().(type) {
	case *resource.Quantity:
		*special = *resource.NewMilliQuantity(r.Int64N(1<<30), resource.DecimalSI)
		return
	case *metav1.Time:
		*special = metav1.Unix(r.Int64N(1<<31), 0)
		return
	case *metav1.FieldsV1:
		special.SetRawString(`{"f:a":{}}`)
		return
	case *intstr.IntOrString:
		*special = intstr.FromInt32(r.Int32N(9999))
		return
	}
	switch v.Kind() { //nolint:exhaustive // the other kinds are in no Kubernetes type, or do not matter
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && r.IntN(depth/3+2) == 0 {
				fill(v.Field(i), r, depth+1)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), r, depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+r.IntN(3), 3))
		for i := range v.Len() {
			fill(v.Index(i), r, depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 1 + r.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, r, depth+1)
			fill(value, r, depth+1)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		odd := []string{"", `"`, `\\`, "{", "]", ",", "\u2028", "<&>", "\t", "é"}
		v.SetString(fmt.Sprintf("v%x%s", r.Uint32(), odd[r.IntN(len(odd))]))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Int32N(1000)))
	case reflect.Uint8:
		v.SetUint(uint64(r.IntN(256)))
	default:
		panic("no random " + v.Type().String())
	}
}

// randomTemplate returns one that the hub's API server might have let through.
func randomTemplate(r *rand.Rand) *batchv1.JobTemplateSpec {
	template := &batchv1.JobTemplateSpec{}
	if r.IntN(4) > 0 {
		fill(reflect.ValueOf(&template.Labels).Elem(), r, 0)
		fill(reflect.ValueOf(&template.Annotations).Elem(), r, 0)
	}
	fill(reflect.ValueOf(&template.Spec).Elem(), r, 0)
	template.Spec.TTLSecondsAfterFinished, template.Spec.Suspend, template.Spec.ManagedBy = nil, nil, nil
	template.Spec.Selector, template.Spec.ManualSelector = nil, nil
	pod := &template.Spec.Template.Spec
	for _, containers := range []*[]corev1.Container{&pod.InitContainers, &pod.Containers} {
		if r.IntN(3) > 0 {
			fill(reflect.ValueOf(containers).Elem(), r, 2)
		}
		for i := range *containers {
			policies := []corev1.TerminationMessagePolicy{"", corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError}
			(*containers)[i].TerminationMessagePolicy = policies[r.IntN(3)]
		}
	}
	return template
}

// takeBack undoes what the documentation says that Encode adds, and reports what is not
// as documented.
func takeBack(t *testing.T, job *v1alpha1.PooledJob, remote *batchv1.Job) *batchv1.JobTemplateSpec {
	t.Helper()
	take := func(from map[string]string, key, want string) {
		if from[key] != want {
			t.Errorf("%s = %q, want %q", key, from[key], want)
		}
		delete(from, key)
	}
	for _, labels := range []map[string]string{remote.Labels, remote.Spec.Template.Labels} {
		take(labels, v1alpha1.LabelHub, "hub-1")
		take(labels, v1alpha1.LabelUID, string(job.UID))
	}
	take(remote.Annotations, v1alpha1.AnnotationSource, job.Namespace+"/"+job.Name)
	if job.Spec.Suspend != nil && *job.Spec.Suspend {
		take(remote.Labels, v1alpha1.LabelSuspend, "true")
		if remote.Spec.Suspend == nil || !*remote.Spec.Suspend {
			t.Error("the Job is not suspended")
		}
		remote.Spec.Suspend = nil
	}
	original := &job.Spec.Template.Spec.Template.Spec
	restore := func(wrote, got []corev1.Container) {
		for i := range min(len(wrote), len(got)) {
			if wrote[i].TerminationMessagePolicy == "" && got[i].TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError {
				got[i].TerminationMessagePolicy = ""
			}
		}
	}
	for i, containers := range [][]corev1.Container{remote.Spec.Template.Spec.InitContainers, remote.Spec.Template.Spec.Containers} {
		for j := range containers {
			if containers[j].TerminationMessagePolicy == "" {
				t.Errorf("container %d of list %d has no terminationMessagePolicy", j, i)
			}
		}
	}
	restore(original.InitContainers, remote.Spec.Template.Spec.InitContainers)
	restore(original.Containers, remote.Spec.Template.Spec.Containers)
	return &batchv1.JobTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: remote.Labels, Annotations: remote.Annotations}, Spec: remote.Spec,
	}
}

func TestTemplatesArriveUnchanged(t *testing.T) {
	for seed := range uint64(3000) {
		r := fixtures.Random(seed)
		job := pooledJob(fixtures.ObjectName(r))
		job.UID = fixtures.ObjectUID(r)
		job.Spec.Template = randomTemplate(r)
		job.Spec.Suspend = []*bool{nil, ptr(false), ptr(true)}[r.IntN(3)]
		job.Spec.Cancel = []*bool{nil, ptr(false), ptr(true)}[r.IntN(3)]
		before := job.DeepCopy()

		intent := RunOf("hub-1", job).NewIntent("prod-eu", "cluster-uid")
		remote := encodeJob(t, job, intent)
		if again := encodeJob(t, job, intent); !equality.Semantic.DeepEqual(remote, again) {
			t.Fatalf("seed %d: Encode is not the same twice:\n%s", seed, cmp.Diff(remote, again))
		}
		meta := remote.ObjectMeta
		meta.Labels, meta.Annotations = nil, nil
		if want := (metav1.ObjectMeta{Namespace: "team-a", Name: intent.JobName}); !equality.Semantic.DeepEqual(meta, want) {
			t.Errorf("seed %d: metadata besides labels and annotations:\n%s", seed, cmp.Diff(want, meta))
		}
		got := takeBack(t, job, remote)
		if !equality.Semantic.DeepEqual(before.Spec.Template, got) {
			t.Errorf("seed %d: what the author wrote (-) and what arrived (+):\n%s", seed, cmp.Diff(before.Spec.Template, got))
		}
		if t.Failed() {
			return
		}
	}
}

// Whoever reads an intent back finds what was written, and nothing that another run, hub
// or attempt wrote.
func TestIntentsAreBelievedOnlyByTheirRun(t *testing.T) {
	r := fixtures.Random(3)
	newRun := func() *v1alpha1.PooledJob {
		job := pooledJob(fixtures.ObjectName(r))
		job.UID = fixtures.ObjectUID(r)
		job.Status.Attempt = r.Int32N(3)
		if r.IntN(2) == 0 {
			job.Spec.ClusterName, job.Spec.ClusterSelector = "", &v1alpha1.LabelSelector{}
		}
		if r.IntN(2) == 0 {
			job.Spec.TargetNamespace = "etl"
		}
		return job
	}
	for range 2000 {
		job, other := newRun(), newRun()
		want := RunOf("hub-1", job).NewIntent("prod-eu", string(fixtures.ObjectUID(r)))
		written := map[string]string{v1alpha1.AnnotationIntent: want.Encode()}
		job.Annotations, other.Annotations = written, written
		got, ok, err := RunOf("hub-1", job).Recorded()
		if !ok || err != nil || got != want {
			t.Fatalf("IntentOf = %+v, %v, %v; want %+v", got, ok, err, want)
		}
		if RunOf("hub-1", job).ClusterName() != "prod-eu" {
			t.Fatalf("ClusterOf = %q", RunOf("hub-1", job).ClusterName())
		}
		if _, _, err := RunOf("hub-1", other).Recorded(); err == nil {
			t.Fatalf("the intent of %s is believed by %s", job.UID, other.UID)
		}
		if _, _, err := RunOf("hub-2", job).Recorded(); err == nil {
			t.Fatal("the intent of another hub is believed")
		}
		if job.Spec.ClusterName == "" {
			job.Status.ClusterName = "another"
			if _, _, err := RunOf("hub-1", job).Recorded(); err == nil || RunOf("hub-1", job).ClusterName() != "another" {
				t.Fatal("the intent of another cluster than the status has is believed")
			}
			job.Status.ClusterName = ""
		}
		job.Status.Attempt++
		if _, _, err := RunOf("hub-1", job).Recorded(); err == nil {
			t.Fatal("the intent of an earlier attempt is believed")
		}
		if job.Spec.ClusterName == "" && RunOf("hub-1", job).ClusterName() != "" {
			t.Fatalf("a run that was moved away is still at %q", RunOf("hub-1", job).ClusterName())
		}
	}
}

// Whatever its author does to finalizer and annotations, a run is bound as before for
// whoever has the status or a memory of the intent, and they tell that it was done.
func TestBoundByStandsWhateverTheAuthorWrites(t *testing.T) {
	newRun := func() (*v1alpha1.PooledJob, binding.Intent) {
		job := pooledJob("run")
		job.Spec.ClusterName, job.Spec.ClusterSelector = "", &v1alpha1.LabelSelector{}
		intent := RunOf("hub-1", job).NewIntent("prod-eu", "cluster-1")
		job.Finalizers = []string{v1alpha1.FinalizerPooledJob}
		job.Annotations = map[string]string{v1alpha1.AnnotationIntent: intent.Encode()}
		return job, intent
	}
	elsewhere := func(job *v1alpha1.PooledJob, cluster, uid string) {
		job.Annotations[v1alpha1.AnnotationIntent] = RunOf("hub-1", job).NewIntent(cluster, uid).Encode()
	}
	authors := map[string]func(*v1alpha1.PooledJob){
		"nothing":        func(*v1alpha1.PooledJob) {},
		"replace":        func(job *v1alpha1.PooledJob) { job.Finalizers, job.Annotations = nil, nil },
		"no finalizer":   func(job *v1alpha1.PooledJob) { job.Finalizers = nil },
		"no annotation":  func(job *v1alpha1.PooledJob) { job.Annotations = nil },
		"garbage":        func(job *v1alpha1.PooledJob) { job.Annotations[v1alpha1.AnnotationIntent] = "{" },
		"another name":   func(job *v1alpha1.PooledJob) { elsewhere(job, "prod-us", "cluster-1") },
		"another target": func(job *v1alpha1.PooledJob) { elsewhere(job, "prod-eu", "cluster-2") },
	}
	for name, write := range authors {
		t.Run(name, func(t *testing.T) {
			job, intent := newRun()
			write(job)
			if got, bound, intact := RunOf("hub-1", job).Bound(intent); got != intent || !bound || intact != (name == "nothing") {
				t.Errorf("by memory: %+v, bound %v, intact %v", got, bound, intact)
			}
			job.Status.ClusterName, job.Status.ClusterUID = "prod-eu", "cluster-1"
			if got, bound, intact := RunOf("hub-1", job).Bound(binding.Intent{}); got != intent || !bound || intact != (name == "nothing") {
				t.Errorf("by status: %+v, bound %v, intact %v", got, bound, intact)
			}
			restored := job.DeepCopy()
			restored.Finalizers = []string{v1alpha1.FinalizerPooledJob}
			restored.Annotations = map[string]string{v1alpha1.AnnotationIntent: intent.Encode()}
			if _, _, intact := RunOf("hub-1", restored).Bound(binding.Intent{}); !intact {
				t.Error("it is not intact when it was written again")
			}
		})
	}
	job, intent := newRun()
	if got, bound, intact := RunOf("hub-1", job).Bound(binding.Intent{}); got != intent || !bound || !intact {
		t.Errorf("before the first status: %+v, bound %v, intact %v", got, bound, intact)
	}
	authors["no finalizer"](job)
	if got, bound, intact := RunOf("hub-1", job).Bound(binding.Intent{}); got != intent || !bound || intact {
		t.Errorf("before the first status, without finalizer: %+v, bound %v, intact %v", got, bound, intact)
	}
	authors["replace"](job)
	if _, bound, _ := RunOf("hub-1", job).Bound(binding.Intent{}); bound {
		t.Error("a run that nobody knows of is bound")
	}
}
