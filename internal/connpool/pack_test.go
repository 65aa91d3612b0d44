package connpool

import (
	"math"
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
var packOptions = Options{Selector: "our.example/hub=hub", KeyLabel: "our.example/run"}

// keptMeta is what is kept of fullMeta.
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

// throughStore is the Job or Pod as a store hands it out.
func throughStore[T any](g *WithT, obj T, read func(*store, *record) T) T {
	s := newStore(packOptions)
	r, err := s.record(obj)
	g.Expect(err).NotTo(HaveOccurred())
	again, err := s.record(obj)
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
		Spec:       batchv1.JobSpec{BackoffLimit: &limit, ActiveDeadlineSeconds: &deadline, Suspend: &suspend},
		Status: batchv1.JobStatus{
			Active: 1, Succeeded: math.MaxInt32, Failed: math.MinInt32, CompletedIndexes: "1,2", FailedIndexes: &indexes,
			StartTime: &start, CompletionTime: &end, Conditions: conditions,
		},
	}
	full := kept.DeepCopy()
	full.ObjectMeta = fullMeta("name")
	full.Spec.Parallelism, full.Spec.Template = &limit, corev1.PodTemplateSpec{Spec: podSpec()}
	full.Status.Ready, full.Status.Terminating = &limit, &limit
	full.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{Failed: []types.UID{"x"}}
	full.Status.Conditions[1].LastProbeTime = start
	g.Expect(cmp.Diff(throughStore(g, full, (*store).readJob), kept)).To(BeEmpty())

	bare := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "name", Labels: map[string]string{}}}
	g.Expect(cmp.Diff(throughStore(g, bare, (*store).readJob), bare)).To(BeEmpty())
}

func TestOfAPodIsKeptHowItEnded(t *testing.T) {
	g := NewWithT(t)
	at := metav1.NewTime(time.Unix(1_600_000_000, 0))
	end := &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error", Message: "last words", FinishedAt: at}
	wait := &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}
	unscheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "no node"}
	kept := &corev1.Pod{ObjectMeta: keptMeta("job-x7x7x"), Status: corev1.PodStatus{
		Phase: corev1.PodFailed, Reason: "Evicted", Message: "no room",
		Conditions:            []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}, unscheduled},
		InitContainerStatuses: []corev1.ContainerStatus{{Name: "init", State: corev1.ContainerState{Terminated: end}}},
		ContainerStatuses:     []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Waiting: wait}}, {Name: "side"}},
	}}
	kept.Labels[batchv1.JobNameLabel] = "job"
	full := kept.DeepCopy()
	full.ObjectMeta = fullMeta("job-x7x7x")
	full.Labels[batchv1.JobNameLabel] = "job"
	full.Spec, full.Status.PodIP = podSpec(), "10.0.0.1"
	full.Status.Conditions[0].Message = "all well"
	full.Status.Conditions = append(full.Status.Conditions, corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue})
	full.Status.InitContainerStatuses[0].State.Terminated.ContainerID = "containerd://1"
	full.Status.ContainerStatuses[0].RestartCount = 9
	full.Status.ContainerStatuses[1].State.Running = &corev1.ContainerStateRunning{StartedAt: at}
	g.Expect(cmp.Diff(throughStore(g, full, (*store).readPod), kept)).To(BeEmpty())
}

func TestThatAPodIsNotReadyOrWasScheduledIsNotKept(t *testing.T) {
	g := NewWithT(t)
	pod := &corev1.Pod{ObjectMeta: keptMeta("pod"), Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionFalse}, {Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	}}}
	g.Expect(throughStore(g, pod, (*store).readPod).Status.Conditions).To(BeEmpty())
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
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod-1", Labels: labels}}
			g.Expect(throughStore(g, pod, (*store).readPod).Labels).To(Equal(labels))
		})
	}
}

func TestASelectorThatIsNoEqualityIsKeptInTheLabels(t *testing.T) {
	g := NewWithT(t)
	s := newStore(Options{Selector: "our.example/hub in (a, b)", KeyLabel: packOptions.KeyLabel})
	labels := map[string]string{"our.example/hub": "a", "our.example/run": "r"}
	r, err := s.record(&batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "job", Labels: labels}})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(s.readJob(r).Labels).To(Equal(labels))
}

func TestAStrangerIsNoRecord(t *testing.T) {
	g := NewWithT(t)
	_, err := newStore(packOptions).record(&corev1.Service{})
	g.Expect(err).To(MatchError(ContainSubstring("*v1.Service")))
}
