package store

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// packOptions are those of the stores of these tests.
var packLabels = NewLabels("our.example/hub=hub", "our.example/run")

// keptMeta returns what is kept of fullMeta.
func keptMeta(name string) metav1.ObjectMeta {
	deleted := metav1.NewTime(time.Unix(1_700_000_000, 0))
	return metav1.ObjectMeta{
		Namespace: "ns", Name: name, UID: "uid", DeletionTimestamp: &deleted,
		Labels: map[string]string{"our.example/hub": "hub", "our.example/run": "run", "our.example/suspend": "true"},
	}
}

func fullMeta(name string) metav1.ObjectMeta {
	m := keptMeta(name)
	m.ResourceVersion = "7"
	m.Labels["app"] = "etl"
	m.Annotations = map[string]string{"big": "one"}
	m.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "someone"}}
	m.OwnerReferences = []metav1.OwnerReference{{Name: "owner"}}
	m.Finalizers = []string{"finalizer"}
	return m
}

// throughStore returns the Job or Pod as a store hands it out.
func throughStore[T any](g *WithT, obj T, read func(*Store, *Record) T) T {
	s := New(packLabels, loneBudget())
	r, err := s.Record(obj)
	g.Expect(err).NotTo(HaveOccurred())
	again, err := s.Record(obj)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(again).To(Equal(r), "it is not the same bytes each time")
	return read(s, r)
}

func TestOfAJobIsKeptWhatARunNeeds(t *testing.T) {
	g := NewWithT(t)
	limit, deadline, suspend, indexes := int32(4), int64(math.MaxInt64), false, "3-5"
	start, end := metav1.NewTime(time.Unix(1_600_000_000, 0)), metav1.NewTime(time.Unix(-1, 0))
	conditions := []batchv1.JobCondition{
		{Type: batchv1.JobFailureTarget, Status: corev1.ConditionTrue},
		{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: "BackoffLimitExceeded", Message: "Ünicode \xff", LastTransitionTime: end},
	}
	kept := &batchv1.Job{
		ObjectMeta: keptMeta("name"),
		Spec:       batchv1.JobSpec{BackoffLimit: &limit, ActiveDeadlineSeconds: &deadline, Suspend: &suspend, TTLSecondsAfterFinished: &limit},
		Status: batchv1.JobStatus{
			Active: 1, Succeeded: math.MaxInt32, Failed: math.MaxInt32, CompletedIndexes: "1,2", FailedIndexes: &indexes,
			StartTime: &start, CompletionTime: &end, Conditions: conditions,
		},
	}
	full := kept.DeepCopy()
	full.ObjectMeta = fullMeta("name")
	full.Spec.Parallelism, full.Spec.Template = &limit, corev1.PodTemplateSpec{Spec: onePodSpec()}
	full.Status.Ready, full.Status.Terminating = &limit, &limit
	full.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{Failed: []types.UID{"x"}}
	full.Status.Conditions[1].LastProbeTime = start
	g.Expect(cmp.Diff(throughStore(g, full, (*Store).readJob), kept)).To(BeEmpty())

	withFailureRules(&kept.Spec)
	g.Expect(cmp.Diff(throughStore(g, kept.DeepCopy(), (*Store).readJob), kept)).To(BeEmpty())

	bare := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "name", Labels: map[string]string{}}}
	g.Expect(cmp.Diff(throughStore(g, bare, (*Store).readJob), bare)).To(BeEmpty())
}

// withFailureRules adds all that a Job controller can decide an end by.
func withFailureRules(spec *batchv1.JobSpec) {
	one, main, replace, indexes := int32(1), "main", batchv1.Failed, "0-2"
	spec.BackoffLimitPerIndex, spec.MaxFailedIndexes, spec.PodReplacementPolicy = &one, &one, &replace
	spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			ContainerName: &main, Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42, 43},
		}},
		{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
			{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue},
		}},
	}}
	spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: &indexes, SucceededCount: &one}}}
}

func TestOfAPodIsKeptHowItEnded(t *testing.T) {
	g := NewWithT(t)
	at := metav1.NewTime(time.Unix(1_600_000_000, 0))
	end := &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error", Message: "last words", StartedAt: at, FinishedAt: at}
	wait := &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}
	unscheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "no node"}
	kept := &corev1.Pod{ObjectMeta: keptMeta("job-x7x7x"), Status: corev1.PodStatus{
		Phase: corev1.PodFailed, Reason: "Evicted", Message: "no room",
		Conditions:            []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}, unscheduled},
		InitContainerStatuses: []corev1.ContainerStatus{{Name: "init", State: corev1.ContainerState{Terminated: end}}},
		ContainerStatuses: []corev1.ContainerStatus{
			{Name: "main", State: corev1.ContainerState{Waiting: wait}, RestartCount: 9, LastTerminationState: corev1.ContainerState{Terminated: end}},
			{Name: "a-side", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
		},
	}}
	kept.Labels[batchv1.JobNameLabel] = "job"
	always, grace := corev1.ContainerRestartPolicyAlways, int64(30)
	kept.Spec = corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "init", RestartPolicy: &always}},
		Containers:     []corev1.Container{{Name: "main"}, {Name: "a-side"}},
	}
	kept.DeletionGracePeriodSeconds = &grace
	kept.Annotations = map[string]string{batchv1.JobCompletionIndexAnnotation: "12", batchv1.JobIndexFailureCountAnnotation: "1"}
	kept.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(
		&metav1.ObjectMeta{Name: "job", UID: "0c7d1a52-93a4-4f3e-8b52-7a9f1f0e1d2c"}, batchv1.SchemeGroupVersion.WithKind("Job"))}
	kept.OwnerReferences[0].BlockOwnerDeletion = nil
	disrupted := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "drained", LastTransitionTime: at}
	kept.Status.Conditions = append(kept.Status.Conditions, disrupted, corev1.PodCondition{Type: "our.example/Odd", Status: corev1.ConditionFalse})
	kept.Status.StartTime = &at
	full := kept.DeepCopy()
	meta := fullMeta("job-x7x7x")
	meta.OwnerReferences, meta.DeletionGracePeriodSeconds = append(meta.OwnerReferences, kept.OwnerReferences...), &grace
	meta.Annotations[batchv1.JobCompletionIndexAnnotation], meta.Annotations[batchv1.JobIndexFailureCountAnnotation] = "12", "1"
	full.ObjectMeta = meta
	full.Labels[batchv1.JobNameLabel] = "job"
	full.Spec.Containers[0].Image, full.Status.PodIP = "busybox", "10.0.0.1"
	slices.Reverse(full.Status.ContainerStatuses) // the kubelet sorts them by name
	full.Status.Conditions[0].Message = "all well"
	full.Status.Conditions = append(full.Status.Conditions, corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue})
	full.Status.InitContainerStatuses[0].State.Terminated.ContainerID = "containerd://1"
	full.Status.ContainerStatuses[0].State.Running.StartedAt = at
	full.Status.ContainerStatuses[1].Image = "busybox"
	g.Expect(cmp.Diff(throughStore(g, full, (*Store).readPod), kept)).To(BeEmpty())
}

func TestThatAPodIsNotReadyOrWasScheduledIsNotKept(t *testing.T) {
	g := NewWithT(t)
	pod := &corev1.Pod{ObjectMeta: keptMeta("pod"), Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionFalse}, {Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	}}}
	g.Expect(throughStore(g, pod, (*Store).readPod).Status.Conditions).To(HaveLen(1), "its node has said nothing yet")
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main"}}
	g.Expect(throughStore(g, pod, (*Store).readPod).Status.Conditions).To(BeEmpty())
}

func TestLabelsAreNeverInvented(t *testing.T) {
	for name, labels := range map[string]map[string]string{
		"none":                       {},
		"ours":                       {"our.example/hub": "hub", "our.example/run": "run"},
		"no key":                     {"our.example/hub": "hub"},
		"no hub, though asked for":   {"our.example/run": "run"},
		"another hub":                {"our.example/hub": "other", "our.example/run": "run"},
		"Job of the Pod":             {batchv1.JobNameLabel: "pod"},
		"Job of another name":        {batchv1.JobNameLabel: "other"},
		"Job of a longer name":       {batchv1.JobNameLabel: "pod-1-and-more"},
		"Job without a name":         {batchv1.JobNameLabel: ""},
		"empty values of our domain": {"our.example/a": "", "our.example/b": ""},
		"many of our domain":         {"our.example/a": "1", "our.example/b": "2", "our.example/c": "3", "our.example/d": "4", "our.example/e": "5"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod-1", UID: "uid", Labels: labels}}
			g.Expect(throughStore(g, pod, (*Store).readPod).Labels).To(Equal(labels))
		})
	}
}

func TestASelectorThatIsNoEqualityIsKeptInTheLabels(t *testing.T) {
	g := NewWithT(t)
	s := New(NewLabels("our.example/hub in (a, b)", "our.example/run"), loneBudget())
	labels := map[string]string{"our.example/hub": "a", "our.example/run": "r"}
	r, err := s.Record(&batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "job", UID: "uid", Labels: labels}})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(s.readJob(r).Labels).To(Equal(labels))
}

func TestAStrangerIsNoRecord(t *testing.T) {
	g := NewWithT(t)
	_, err := New(packLabels, loneBudget()).Record(&corev1.Service{})
	g.Expect(err).To(MatchError(ContainSubstring("*v1.Service")))
}
