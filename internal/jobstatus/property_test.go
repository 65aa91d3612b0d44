package jobstatus

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// schema is what the tests need of an OpenAPI schema.
type schema struct {
	Type          string            `json:"type"`
	Format        string            `json:"format"`
	Properties    map[string]schema `json:"properties"`
	Required      []string          `json:"required"`
	Items         *schema           `json:"items"`
	Enum          []any             `json:"enum"`
	Pattern       string            `json:"pattern"`
	Minimum       *float64          `json:"minimum"`
	Maximum       *float64          `json:"maximum"`
	MinLength     *int              `json:"minLength"`
	MaxLength     *int              `json:"maxLength"`
	MinItems      *int              `json:"minItems"`
	MaxItems      *int              `json:"maxItems"`
	MinProperties *int              `json:"minProperties"`
}

// statusSchema returns that of a PooledJob's status, as the hub's API server has it.
func statusSchema(t *testing.T) schema {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "config", "crd", "pooledjob.io_pooledjobs.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema schema `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(raw, &crd); err != nil || len(crd.Spec.Versions) != 1 {
		t.Fatalf("the CRD cannot be read: %v", err)
	}
	status := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["status"]
	if len(status.Properties) < 10 {
		t.Fatal("the CRD has no status")
	}
	return status
}

// violations returns the bounds that a value breaks.
func (s schema) violations(path string, value any) []string {
	var broken []string
	check := func(ok bool, what string, args ...any) {
		if !ok {
			broken = append(broken, path+": "+fmt.Sprintf(what, args...))
		}
	}
	within := func(n float64, low, high *float64) bool {
		return (low == nil || n >= *low) && (high == nil || n <= *high)
	}
	sized := func(n int, low, high *int) bool { return (low == nil || n >= *low) && (high == nil || n <= *high) }
	switch v := value.(type) {
	case map[string]any:
		check(s.Type == "object", "is an object")
		check(sized(len(v), s.MinProperties, nil), "has %d properties", len(v))
		for _, name := range s.Required {
			check(v[name] != nil, "lacks %s", name)
		}
		for name, inner := range v {
			known, ok := s.Properties[name]
			check(ok, "has %s, which the schema does not", name)
			broken = append(broken, known.violations(path+"."+name, inner)...)
		}
	case []any:
		check(s.Type == "array" && sized(len(v), s.MinItems, s.MaxItems), "has %d items", len(v))
		for i, item := range v {
			broken = append(broken, s.Items.violations(fmt.Sprintf("%s[%d]", path, i), item)...)
		}
	case string:
		check(s.Type == "string", "is a string")
		check(sized(utf8.RuneCountInString(v), s.MinLength, s.MaxLength), "has %d characters", utf8.RuneCountInString(v))
		// What is longer than any name breaks maxLength.
		check(s.Pattern == "" || len(v) > 2000 || regexp.MustCompile(s.Pattern).MatchString(v), "%.40q does not match %s", v, s.Pattern)
		if s.Format == "date-time" {
			_, err := time.Parse(time.RFC3339, v)
			check(err == nil, "%.40q is no time", v)
		}
		if len(s.Enum) > 0 {
			check(strings.Contains(fmt.Sprint(s.Enum), v), "%q is none of %v", v, s.Enum)
		}
	case float64:
		check(s.Type == "integer" && within(v, s.Minimum, s.Maximum), "is %v", v)
	case nil: // a merge patch takes the field away
	default:
		check(false, "is a %T", value)
	}
	return broken
}

// decoded returns a value as the API server gets it.
func decoded[T any](t *testing.T, value any) T {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var document T
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	return document
}

// walk plays the life of one run, with a target that says anything at all.
type walk struct {
	*rand.Rand
	job *v1alpha1.PooledJob
	now time.Time
	// moved is true if the last step moved the run.
	moved bool
}

func newWalk(seed uint64) *walk {
	r := rand.New(rand.NewPCG(seed, 7))
	job := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "run", UID: "uid", Generation: 1 + r.Int64N(3)}}
	if r.IntN(3) == 0 {
		job.Spec.Cancel = ptr(r.IntN(4) > 0)
	}
	return &walk{Rand: r, job: job, now: epoch}
}

// pick returns one of some values.
func pick[T any](r *walk, values ...T) T { return values[r.IntN(len(values))] }

// text returns anything that a target can put where text belongs. A decoder that checks
// nothing lets bytes through that are no characters.
func (r *walk) text() string {
	return pick(r, "", "", "Error", "DeadlineExceeded", "BackoffLimitExceeded", "with spaces", "ünïcode", "trailing:", ",", "9digits", "-",
		"\xff\xfe", "\x00", strings.Repeat("x", 257), strings.Repeat("ü", 1100), strings.Repeat("y", 5000), strings.Repeat("z", 40000)+"\xc3")
}

func (r *walk) number() int32 { return pick[int32](r, 0, 0, 0, 1, 1, 2, 7, 1<<31-1, -1, -1<<31) }

func (r *walk) time() metav1.Time {
	return pick(r, metav1.Time{}, at(r.IntN(100)), metav1.Unix(0, 0), metav1.Unix(1<<33, 0))
}

func (r *walk) timePointer() *metav1.Time {
	if r.IntN(2) == 0 {
		return nil
	}
	return pick(r, ptr(at(r.IntN(100))), ptr(metav1.Unix(0, 0)), ptr(metav1.Unix(1<<33, 0)))
}

// remote returns a Job that is ours; what a target says of it besides may be nonsense.
func (r *walk) remote() *batchv1.Job {
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "etl", Name: "run-0123456789abcdef", UID: "job-uid"},
		Status: batchv1.JobStatus{
			Active: r.number(), Succeeded: r.number(), Failed: r.number(),
			StartTime: r.timePointer(), CompletionTime: r.timePointer(),
			CompletedIndexes: pick(r, "", "1,3-5", strings.Repeat("10,", 9000), strings.Repeat("7", 20000)),
		},
	}
	if r.IntN(3) == 0 {
		job.Status.FailedIndexes = ptr(pick(r, "", "0", strings.Repeat("12-14,", 9000)))
	}
	if r.IntN(3) == 0 {
		job.Spec.BackoffLimit = ptr(max(0, r.number()))
	}
	if r.IntN(3) == 0 {
		job.Spec.ActiveDeadlineSeconds = ptr(int64(r.number()))
	}
	kinds := []batchv1.JobConditionType{batchv1.JobSuspended, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet, "Odd"}
	if r.IntN(6) == 0 {
		kinds = append(kinds, batchv1.JobComplete, batchv1.JobFailed)
	}
	for _, kind := range r.Perm(len(kinds))[:r.IntN(4)] { // each once
		job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{
			Type: kinds[kind], Status: pick(r, corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown),
			Reason: r.text(), Message: r.text(), LastTransitionTime: r.time(),
		})
	}
	return job
}

func (r *walk) containers() []corev1.ContainerStatus {
	statuses := make([]corev1.ContainerStatus, r.IntN(3))
	for i := range statuses {
		switch r.IntN(4) {
		case 0:
			statuses[i].State.Waiting = &corev1.ContainerStateWaiting{Reason: pick(r, r.text(), "ErrImagePull", "ImagePullBackOff", "ContainerCreating"), Message: r.text()}
		case 1:
			statuses[i].State.Terminated = &corev1.ContainerStateTerminated{ExitCode: r.number(), Reason: r.text(), Message: r.text(), FinishedAt: r.time()}
		case 2:
			statuses[i].State.Running = &corev1.ContainerStateRunning{}
		}
	}
	return statuses
}

func (r *walk) pods() []*corev1.Pod {
	var pods []*corev1.Pod
	for range r.IntN(4) {
		p := pod(pick(r, "a", "b", "c", strings.Repeat("n", 253)), pick(r, "", corev1.PodPending, corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown))
		p.Status.Reason, p.Status.Message = r.text(), r.text()
		p.Status.InitContainerStatuses, p.Status.ContainerStatuses = r.containers(), r.containers()
		for range r.IntN(3) {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
				Type: pick(r, corev1.PodReady, corev1.PodScheduled), Status: pick(r, corev1.ConditionTrue, corev1.ConditionFalse), Reason: r.text(), Message: r.text(),
			})
		}
		if r.IntN(4) == 0 {
			p.DeletionTimestamp = ptr(at(3))
		}
		pods = append(pods, p)
	}
	return pods
}

// step does one of the things that happen to a status, and names it.
func (r *walk) step() string {
	r.now = r.now.Add(time.Duration(r.IntN(5000)) * time.Millisecond)
	w := NewWriter(r.job, r.now)
	defer w.Seal()
	r.moved = false
	switch r.IntN(15) {
	case 0:
		w.Accepted(metav1.ConditionTrue, v1alpha1.ReasonAccepted, r.text())
		return "Accepted"
	case 1:
		w.Waiting(v1alpha1.ReasonTargetError, r.text())
		return "Waiting"
	case 2:
		w.NotSynced(v1alpha1.ReasonTargetError, r.text())
		return "NotSynced"
	case 3:
		r.job.Generation++
		return "the spec changes"
	case 4:
		if r.IntN(8) == 0 {
			w.Fail(v1alpha1.ReasonRemoteJobDeleted, r.text())
			return "Fail"
		}
		return "nothing"
	case 5:
		if r.IntN(4) == 0 {
			r.moved = !Finished(&r.job.Status)
			w.Move(r.text())
			return "Move"
		}
		return "nothing"
	case 6:
		w.Observe(r.remote(), r.pods())
		w.Unfulfilled(v1alpha1.ReasonChangeRefused, r.text())
		return "Observe and Unfulfilled"
	default:
		w.Observe(r.remote(), r.pods())
		return "Observe"
	}
}

// walks plays many lives, and lets check judge every step of them.
func walks(t *testing.T, check func(t *testing.T, r *walk, before *v1alpha1.PooledJob)) {
	t.Helper()
	for seed := range uint64(250) {
		r := newWalk(seed)
		for i := range 20 {
			before := r.job.DeepCopy()
			what := r.step()
			check(t, r, before)
			if t.Failed() {
				t.Fatalf("seed %d, step %d: %s", seed, i, what)
			}
		}
	}
}

func TestATerminalStatusNeverChanges(t *testing.T) {
	ended := 0
	walks(t, func(t *testing.T, r *walk, before *v1alpha1.PooledJob) {
		if !Finished(&before.Status) {
			return
		}
		ended++
		if diff := cmp.Diff(before.Status, r.job.Status, cmpopts.IgnoreFields(metav1.Condition{}, "ObservedGeneration"),
			cmpopts.IgnoreFields(v1alpha1.PooledJobStatus{}, "ObservedGeneration")); diff != "" {
			t.Errorf("the status changed after its end:\n%s", diff)
		}
	})
	if ended < 500 {
		t.Errorf("only %d steps were after an end", ended)
	}
}

func TestPhasesNeverGoBack(t *testing.T) {
	rank := map[v1alpha1.PooledJobPhase]int{
		"": 0, v1alpha1.PooledJobPending: 1, v1alpha1.PooledJobRunning: 2, v1alpha1.PooledJobSucceeded: 3, v1alpha1.PooledJobFailed: 3,
	}
	suspensions := 0
	walks(t, func(t *testing.T, r *walk, before *v1alpha1.PooledJob) {
		was, is := before.Status.Phase, r.job.Status.Phase
		if is == v1alpha1.PooledJobSuspended || was == v1alpha1.PooledJobSuspended {
			suspensions++
			return
		}
		if rank[is] < rank[was] && !r.moved {
			t.Errorf("the phase went from %s back to %s", was, is)
		}
		if rank[was] == 3 && is != was {
			t.Errorf("%s became %s", was, is)
		}
	})
	if suspensions < 100 {
		t.Errorf("only %d steps were in or out of suspension", suspensions)
	}
}

// The phase is what the conditions say, always: nobody writes it by itself.
func TestPhasesFollowTheConditions(t *testing.T) {
	walks(t, func(t *testing.T, r *walk, _ *v1alpha1.PooledJob) {
		status := &r.job.Status
		if want := Phase(status); len(status.Conditions) > 0 && status.Phase != want {
			t.Errorf("phase is %s, and the conditions say %s", status.Phase, want)
		}
		complete := meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionComplete)
		if complete && meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionFailed) != nil {
			t.Error("the run is Complete and Failed")
		}
		at, ok := FinishedAt(status)
		if ok != Finished(status) || ok && (at.Before(epoch) || at.After(r.now)) {
			t.Errorf("FinishedAt = %v, %v", at, ok)
		}
	})
}

// What is seen again, later, by a process that reads the status from the hub, is no news.
func TestObserveTwiceIsOnce(t *testing.T) {
	for seed := range uint64(1000) {
		r := newWalk(seed)
		for range r.IntN(6) {
			r.step()
		}
		remote, pods := r.remote(), r.pods()
		NewWriter(r.job, r.now).Observe(remote, pods)
		once := r.job.DeepCopy()
		once.Status = decoded[v1alpha1.PooledJobStatus](t, once.Status)
		again := once.DeepCopy()
		NewWriter(again, r.now.Add(time.Hour)).Observe(remote.DeepCopy(), pods)
		if !equality.Semantic.DeepEqual(once.Status, again.Status) {
			t.Fatalf("seed %d: a second look changed the status:\n%s", seed, cmp.Diff(once.Status, again.Status))
		}
	}
}

// The hub's API server refuses a status that breaks a bound, and then the run would
// never end: whatever a target says must fit.
func TestStatusIsWithinTheBoundsOfTheAPI(t *testing.T) {
	bounds := statusSchema(t)
	walks(t, func(t *testing.T, r *walk, _ *v1alpha1.PooledJob) {
		if len(r.job.Status.Conditions) == 0 {
			return // never written
		}
		for _, broken := range bounds.violations("status", decoded[any](t, r.job.Status)) {
			t.Error(broken)
		}
	})
}

// Whatever a target says, no verdict is invented: a run ends as the Job's own first
// terminal condition says, or by Fail.
func TestNoVerdictIsInvented(t *testing.T) {
	for seed := range uint64(3000) {
		r := newWalk(seed)
		remote := r.remote()
		NewWriter(r.job, r.now).Observe(remote, r.pods())
		verdict, want := Verdict(remote), v1alpha1.PooledJobPhase("")
		if verdict != nil {
			want = map[batchv1.JobConditionType]v1alpha1.PooledJobPhase{batchv1.JobComplete: v1alpha1.PooledJobSucceeded, batchv1.JobFailed: v1alpha1.PooledJobFailed}[verdict.Type]
		}
		phase := r.job.Status.Phase
		if ended := phase == v1alpha1.PooledJobSucceeded || phase == v1alpha1.PooledJobFailed; ended != (verdict != nil) || (ended && phase != want) {
			t.Fatalf("seed %d: phase %s for conditions %+v", seed, phase, remote.Status.Conditions)
		}
		failed := meta.FindStatusCondition(r.job.Status.Conditions, v1alpha1.ConditionFailed)
		if failed == nil || failed.Reason != v1alpha1.ReasonCancelled {
			continue
		}
		deadline := remote.Spec.ActiveDeadlineSeconds
		if r.job.Spec.Cancel == nil || !*r.job.Spec.Cancel || deadline == nil || *deadline != 0 || verdict.Reason != batchv1.JobReasonDeadlineExceeded {
			t.Fatalf("seed %d: Cancelled, with cancel %v, deadline %v, and verdict %+v", seed, r.job.Spec.Cancel, deadline, verdict)
		}
	}
}

// A run is Cancelled when all of it is true, and only then: it was to be, its deadline
// is 0, and that is what it failed by.
func TestCancelledNeedsEveryPartOfIt(t *testing.T) {
	for _, cancel := range []*bool{nil, ptr(false), ptr(true)} {
		for _, deadline := range []*int64{nil, ptr(int64(0)), ptr(int64(60))} {
			for _, kind := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed} {
				for _, why := range []string{batchv1.JobReasonDeadlineExceeded, batchv1.JobReasonBackoffLimitExceeded} {
					remote := remoteJob(0, 0, 0, kind)
					remote.Spec.ActiveDeadlineSeconds = deadline
					Verdict(remote).Reason = why
					job := &v1alpha1.PooledJob{Spec: v1alpha1.PooledJobSpec{Cancel: cancel}}
					observe(job, remote)
					want := why
					if cancel != nil && *cancel && deadline != nil && *deadline == 0 && kind == batchv1.JobFailed && why == batchv1.JobReasonDeadlineExceeded {
						want = v1alpha1.ReasonCancelled
					}
					if got := meta.FindStatusCondition(job.Status.Conditions, string(kind)); got == nil || got.Reason != want {
						t.Errorf("cancel %v, deadline %v, %s %s: %+v, want reason %s", cancel, deadline, kind, why, got, want)
					}
				}
			}
		}
	}
}
