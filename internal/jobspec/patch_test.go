package jobspec

import (
	"encoding/json"
	"testing"
	"testing/quick"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/binding"
)

// A patch is remembered by its bytes, and the same one is not sent twice: they are
// part of what it promises.
func TestPatchesSayNoMoreThanTheyMust(t *testing.T) {
	job := pooledJob("etl-42")
	job.UID = "run"
	asking := job.DeepCopy()
	asking.Spec.Suspend = ptr(false)
	remoteWith := func(suspend *bool) *batchv1.Job {
		return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "u", ResourceVersion: "7"}, Spec: batchv1.JobSpec{Suspend: suspend}}
	}
	tests := map[string]struct {
		got  []byte
		want string
	}{
		"labels": {LabelPatch("hub-1", job, remoteWith(nil)), `{"metadata":{"labels":{"pooledjob.io/hub":"hub-1","pooledjob.io/uid":"run"},"resourceVersion":"7","uid":"u"}}`},
		"labels of a Job that is held by somebody": {LabelPatch("hub-1", job, remoteWith(ptr(true))), `{"metadata":{"labels":{"pooledjob.io/hub":"hub-1","pooledjob.io/uid":"run"},"resourceVersion":"7","uid":"u"}}`},
		"labels of a Job that we held":             {LabelPatch("hub-1", asking, remoteWith(ptr(true))), `{"metadata":{"labels":{"pooledjob.io/hub":"hub-1","pooledjob.io/suspend":"true","pooledjob.io/uid":"run"},"resourceVersion":"7","uid":"u"}}`},
		"labels of a Job that we let go on":        {LabelPatch("hub-1", asking, remoteWith(ptr(false))), `{"metadata":{"labels":{"pooledjob.io/hub":"hub-1","pooledjob.io/suspend":"false","pooledjob.io/uid":"run"},"resourceVersion":"7","uid":"u"}}`},
		"orphan":                                   {OrphanPatch("u"), `{"metadata":{"labels":{"pooledjob.io/hub":null,"pooledjob.io/suspend":null},"uid":"u"}}`},
		"suspend":                                  {SuspendPatch("u", true), `{"metadata":{"labels":{"pooledjob.io/suspend":"true"},"uid":"u"},"spec":{"suspend":true}}`},
		"resume":                                   {SuspendPatch("u", false), `{"metadata":{"labels":{"pooledjob.io/suspend":"false"},"uid":"u"},"spec":{"suspend":false}}`},
		"cancel":                                   {CancelPatch("u"), `{"metadata":{"uid":"u"},"spec":{"activeDeadlineSeconds":0}}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, string(test.got)); diff != "" {
				t.Errorf("patch (-want +got):\n%s", diff)
			}
		})
	}
}

// Whatever the UID and the hub's ID are, a patch is JSON and holds for that UID only:
// neither can add a field of its own.
func TestPatchesHoldForOneUID(t *testing.T) {
	holds := func(uid, hub, run string) bool {
		job := pooledJob("etl-42")
		job.UID = types.UID(run)
		for _, raw := range [][]byte{
			LabelPatch(hub, job, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}}), OrphanPatch(types.UID(uid)), SuspendPatch(types.UID(uid), true), CancelPatch(types.UID(uid)),
		} {
			document := map[string]map[string]any{}
			if json.Unmarshal(raw, &document) != nil || document["metadata"]["uid"] != uid {
				return false
			}
			delete(document["metadata"], "uid")
			delete(document["metadata"], "labels")
			delete(document["metadata"], "resourceVersion")
			if len(document["metadata"]) > 0 || len(document["spec"]) > 1 {
				return false
			}
		}
		return true
	}
	if err := quick.Check(holds, nil); err != nil {
		t.Error(err)
	}
}

// merged applies a JSON merge patch to a Job, as the API server does.
func merged(t *testing.T, remote *batchv1.Job, patch []byte) *batchv1.Job {
	t.Helper()
	decode := func(raw []byte) map[string]any {
		document := map[string]any{}
		if err := json.Unmarshal(raw, &document); err != nil {
			t.Fatal(err)
		}
		return document
	}
	encode := func(document any) []byte {
		raw, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var apply func(into, patch map[string]any)
	apply = func(into, patch map[string]any) {
		for key, value := range patch {
			inner, ok := value.(map[string]any)
			switch {
			case value == nil:
				delete(into, key)
			case ok:
				if into[key] == nil {
					into[key] = map[string]any{}
				}
				apply(into[key].(map[string]any), inner)
			default:
				into[key] = value
			}
		}
	}
	document := decode(encode(remote))
	apply(document, decode(patch))
	result := &batchv1.Job{}
	if err := json.Unmarshal(encode(document), result); err != nil {
		t.Fatal(err)
	}
	return result
}

func TestPatchesDoWhatTheySay(t *testing.T) {
	job := pooledJob("etl-42")
	job.Spec.Suspend = ptr(true)
	remote := encodeJob(t, job, RunOf("hub-1", job).NewIntent("prod-eu", "cluster-uid"))
	remote.UID = "u"

	resumed := merged(t, remote, SuspendPatch("u", false))
	want := remote.DeepCopy()
	want.Spec.Suspend, want.Labels[v1alpha1.LabelSuspend] = ptr(false), "false"
	if diff := cmp.Diff(want, resumed); diff != "" {
		t.Errorf("resumed (-want +got):\n%s", diff)
	}

	cancelled := merged(t, remote, CancelPatch("u"))
	want = remote.DeepCopy()
	want.Spec.ActiveDeadlineSeconds = ptr(int64(0))
	if diff := cmp.Diff(want, cancelled); diff != "" {
		t.Errorf("cancelled (-want +got):\n%s", diff)
	}
	if Cancelled(remote) || !Cancelled(cancelled) {
		t.Error("Cancelled does not tell whether CancelPatch has arrived")
	}

	orphaned := merged(t, remote, OrphanPatch("u"))
	want = remote.DeepCopy()
	want.Labels = map[string]string{"app": "etl", v1alpha1.LabelUID: string(job.UID)}
	if diff := cmp.Diff(want, orphaned); diff != "" {
		t.Errorf("orphaned (-want +got):\n%s", diff)
	}
	if binding.Owns("hub-1", job, orphaned.Labels) {
		t.Error("an orphaned Job is still ours")
	}

	recovered := merged(t, orphaned, LabelPatch("hub-1", job, orphaned))
	if !binding.Owns("hub-1", job, recovered.Labels) || recovered.Labels["app"] != "etl" {
		t.Errorf("labels that were put back: %v", recovered.Labels)
	}
}

func TestCancelledIsADeadlineOfZero(t *testing.T) {
	for name, test := range map[string]struct {
		deadline *int64
		want     bool
	}{
		"none": {nil, false}, "one of its own": {ptr(int64(60)), false}, "zero": {ptr(int64(0)), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Cancelled(&batchv1.Job{Spec: batchv1.JobSpec{ActiveDeadlineSeconds: test.deadline}}); got != test.want {
				t.Errorf("Cancelled = %v, want %v", got, test.want)
			}
		})
	}
}

// What was asked last is what the label says; what the Job is now is not ours to undo.
func TestSuspendIsAskedForOncePerChange(t *testing.T) {
	tests := map[string]struct {
		spec         *bool
		label        string
		remote       *bool
		suspend, ask bool
	}{
		"never asked":                       {nil, "", nil, false, false},
		"never asked, false":                {ptr(false), "", nil, false, false},
		"never asked, suspended by another": {nil, "", ptr(true), false, false},
		"to be suspended":                   {ptr(true), "", ptr(false), true, true},
		"to be suspended again":             {ptr(true), "false", ptr(false), true, true},
		"asked to suspend":                  {ptr(true), "true", ptr(true), true, false},
		"resumed by another":                {ptr(true), "true", ptr(false), true, false},
		"to be resumed":                     {ptr(false), "true", ptr(true), false, true},
		"to be resumed, field taken away":   {nil, "true", ptr(true), false, true},
		"asked to resume":                   {ptr(false), "false", ptr(false), false, false},
		"suspended again by another":        {ptr(false), "false", ptr(true), false, false},
		"label of somebody":                 {ptr(true), "yes", ptr(false), true, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			job := pooledJob("etl-42")
			job.Spec.Suspend = test.spec
			remote := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{}}, Spec: batchv1.JobSpec{Suspend: test.remote}}
			if test.label != "" {
				remote.Labels[v1alpha1.LabelSuspend] = test.label
			}
			suspend, ask := SuspendWanted(job, remote)
			if suspend != test.suspend || ask != test.ask {
				t.Errorf("SuspendWanted = %v, %v; want %v, %v", suspend, ask, test.suspend, test.ask)
			}
		})
	}
}

// Once the patch has arrived nothing is asked for again, whatever was before.
func TestSuspendIsSettledByItsPatch(t *testing.T) {
	for _, spec := range []*bool{nil, ptr(false), ptr(true)} {
		for _, label := range []string{"true", "false", "yes"} {
			job := pooledJob("etl-42")
			job.Spec.Suspend = spec
			remote := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelSuspend: label}}}
			suspend, ask := SuspendWanted(job, remote)
			if !ask {
				continue
			}
			after := merged(t, remote, SuspendPatch("u", suspend))
			if _, again := SuspendWanted(job, after); again || *after.Spec.Suspend != suspend {
				t.Errorf("suspend %v, label %q: asked again after %v", spec, label, after.Labels)
			}
		}
	}
}

func ptr[T any](v T) *T { return &v }
