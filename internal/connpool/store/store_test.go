package store

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/internal/connpool/budget"
)

// Names are those of the objects of a kind, with their namespaces.
func (s *Store) names(k Kind) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Keys(s.objects[k]))
}

// storeRig is a store, what its watches bring, and the keys for which that made a difference.
type storeRig struct {
	*WithT
	store      *Store
	jobs, pods *watched
	told       []string
}

// watched are the objects of one kind, as their watch tells of them.
type watched struct {
	rig  *storeRig
	kind Kind
}

func newStoreRig(t *testing.T) *storeRig {
	t.Helper()
	r := &storeRig{WithT: NewWithT(t), store: New(packLabels, loneBudget())}
	r.jobs, r.pods = &watched{r, KindJob}, &watched{r, KindPod}
	return r
}

// loneBudget returns that of a connection without others.
func loneBudget() *budget.Budget {
	const most = 16 << 20
	return budget.New(most, budget.NewPool(most), func() int64 { return 0 })
}

// Add adds an object or changes it.
func (w *watched) Add(obj any) error { return w.change(w.rig.store.Put, obj) }

// Delete takes an object out.
func (w *watched) Delete(obj any) error { return w.change(w.rig.store.Remove, obj) }

func (w *watched) change(apply func(Kind, *Record) []string, obj any) error {
	r, err := w.rig.store.Record(obj)
	if err != nil {
		return err
	}
	w.tell(apply(w.kind, r))
	return nil
}

// Replace lists anew.
func (w *watched) Replace(objects ...any) error {
	records := make([]*Record, 0, len(objects))
	for _, obj := range objects {
		r, err := w.rig.store.Record(obj)
		if err != nil {
			return err
		}
		records = append(records, r)
	}
	w.tell(w.rig.store.Replace(w.kind, records))
	return nil
}

func (w *watched) tell(keys []string) {
	w.rig.told = append(w.rig.told, slices.DeleteFunc(keys, func(key string) bool { return key == "" })...)
}

func (r *storeRig) expectTold(keys ...string) {
	for _, key := range keys {
		r.Expect(r.told).To(ContainElement(key))
	}
	r.Expect(r.told).To(HaveLen(len(keys)))
	r.told = nil
}

func jobOf(key, name string) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("job-" + name), Labels: map[string]string{"our.example/run": key}}}
}

func podOf(key, name string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("pod-" + name), Labels: map[string]string{"our.example/run": key}},
		Status:     corev1.PodStatus{Phase: phase},
	}
}

func namesOfPods(pods []*corev1.Pod) []string {
	names := []string{}
	for _, pod := range pods {
		names = append(names, pod.Name)
	}
	return names
}

func TestStoreHoldsWhatItWasGiven(t *testing.T) {
	r := newStoreRig(t)
	r.Expect(r.store.Job("ns", "one")).To(BeNil())
	r.Expect(r.jobs.Add(jobOf("a", "one"))).To(Succeed())
	for _, pod := range []*corev1.Pod{podOf("a", "p", corev1.PodPending), podOf("a", "q", corev1.PodRunning), podOf("b", "r", corev1.PodRunning)} {
		r.Expect(r.pods.Add(pod)).To(Succeed())
	}
	elsewhere := podOf("a", "p", corev1.PodRunning)
	elsewhere.Namespace = "other"
	r.Expect(r.pods.Add(elsewhere)).To(Succeed())
	r.expectTold("a", "a", "a", "b", "a")
	r.Expect(r.store.Job("ns", "one").Labels).To(HaveKeyWithValue("our.example/run", "a"))
	r.Expect(namesOfPods(r.store.PodsOf("a", "ns", MadePods{}))).To(ConsistOf("p", "q"))
	r.Expect(namesOfPods(r.store.PodsOf("a", "other", MadePods{}))).To(ConsistOf("p"))
	r.Expect(r.store.PodsOf("", "ns", MadePods{})).To(BeEmpty())
	r.Expect(r.store.Count(KindPod)).To(Equal(4))

	r.Expect(r.pods.Delete(podOf("a", "q", corev1.PodRunning))).To(Succeed())
	r.Expect(r.pods.Delete(podOf("b", "r", corev1.PodRunning))).To(Succeed())
	r.Expect(r.jobs.Delete(jobOf("a", "one"))).To(Succeed())
	r.expectTold("a", "b", "a")
	r.Expect(namesOfPods(r.store.PodsOf("a", "ns", MadePods{}))).To(ConsistOf("p"))
	r.Expect(slices.Collect(r.store.Jobs())).To(BeEmpty())
	r.Expect(r.store.runs).To(HaveLen(1), "a run without objects is kept")
}

func TestStoreTellsOnlyOfWhatMatters(t *testing.T) {
	r := newStoreRig(t)
	r.Expect(r.jobs.Add(jobOf("a", "one"))).To(Succeed())
	r.expectTold("a")
	same := jobOf("a", "one")
	same.ResourceVersion, same.Annotations = "8", map[string]string{"some": "thing"}
	r.Expect(r.jobs.Add(same)).To(Succeed())
	r.expectTold()
	same.Status.Active = 1
	r.Expect(r.jobs.Add(same)).To(Succeed())
	r.expectTold("a")
	r.Expect(r.store.Job("ns", "one").Status.Active).To(BeEquivalentTo(1))
	keyless := jobOf("", "two")
	r.Expect(r.jobs.Add(keyless)).To(Succeed())
	r.expectTold()
}

func TestStoreTellsBothRunsOfAChangeOfTheKey(t *testing.T) {
	r := newStoreRig(t)
	r.Expect(r.pods.Add(podOf("a", "p", corev1.PodRunning))).To(Succeed())
	r.told = nil
	r.Expect(r.pods.Add(podOf("b", "p", corev1.PodRunning))).To(Succeed())
	r.expectTold("a", "b")
	r.Expect(r.store.PodsOf("a", "ns", MadePods{})).To(BeEmpty())
	r.Expect(r.store.PodsOf("b", "ns", MadePods{})).To(HaveLen(1))
	r.Expect(r.pods.Delete(podOf("c", "p", corev1.PodRunning))).To(Succeed())
	r.expectTold("b", "c")
}

func TestANewListTellsWhatIsOtherThanBefore(t *testing.T) {
	r := newStoreRig(t)
	for _, name := range []string{"kept", "changed", "gone"} {
		r.Expect(r.jobs.Add(jobOf(name, name))).To(Succeed())
	}
	r.told = nil
	changed := jobOf("changed", "changed")
	changed.Status.Active = 1
	r.Expect(r.jobs.Replace(jobOf("kept", "kept"), changed, jobOf("new", "new"))).To(Succeed())
	r.expectTold("changed", "gone", "new")
	r.Expect(r.store.names(KindJob)).To(ConsistOf("ns/kept", "ns/changed", "ns/new"))
}

func TestEndedPodsAreRememberedWhileTheirJobLives(t *testing.T) {
	r := newStoreRig(t)
	gone := func(key string) []string { return namesOfPods(r.store.GonePodsOf(key, "ns", MadePods{})) }
	forget := func(pod *corev1.Pod) {
		r.Expect(r.pods.Add(podOf(pod.Labels["our.example/run"], pod.Name, corev1.PodRunning))).To(Succeed())
		r.Expect(r.pods.Delete(pod)).To(Succeed()) // the last word of a watch is the newest
	}
	for _, key := range []string{"a", "b"} {
		r.Expect(r.jobs.Add(jobOf(key, key))).To(Succeed())
	}
	forget(podOf("a", "failed", corev1.PodFailed))
	forget(podOf("a", "succeeded", corev1.PodSucceeded))
	for _, phase := range []corev1.PodPhase{corev1.PodPending, corev1.PodRunning, corev1.PodUnknown} {
		forget(podOf("a", "unfinished", phase))
	}
	forget(podOf("b", "of-b", corev1.PodFailed))
	forget(podOf("no-job", "late", corev1.PodFailed))
	r.Expect(gone("a")).To(HaveExactElements("failed", "succeeded"))
	r.Expect(gone("no-job")).To(HaveLen(1), "its Job may be told of later")
	r.Expect(r.jobs.Add(jobOf("no-job", "no-job"))).To(Succeed())
	r.Expect(r.jobs.Delete(jobOf("no-job", "no-job"))).To(Succeed())
	r.store.Forget("no-job")
	r.Expect(gone("no-job")).To(BeEmpty())
	r.Expect(r.store.GonePodsOf("a", "other", MadePods{})).To(BeEmpty())

	r.Expect(r.jobs.Delete(jobOf("a", "a"))).To(Succeed())
	forget(podOf("a", "after-its-Job", corev1.PodFailed))
	r.Expect(gone("a")).To(HaveExactElements("failed", "succeeded", "after-its-Job"))
	r.store.Forget("a")
	r.Expect(gone("a")).To(BeEmpty())
	r.Expect(gone("b")).To(HaveLen(1))
	r.Expect(r.store.gone).To(HaveLen(1), "a key that has nothing is kept")
	r.Expect(r.jobs.Add(jobOf("c", "b"))).To(Succeed())
	r.Expect(r.store.gone).To(BeEmpty(), "its Job is another run's now")
}

// A Pod that is deleted before it has a node goes without an end, and is counted.
func TestPodsThatNeverHadANodeAreRemembered(t *testing.T) {
	r := newStoreRig(t)
	r.Expect(r.jobs.Add(jobOf("a", "a"))).To(Succeed())
	for _, test := range []struct{ name, node string }{{"unscheduled", ""}, {"scheduled", "node-1"}} {
		pod := podOf("a", test.name, corev1.PodPending)
		pod.Spec.NodeName = test.node
		pod.Finalizers = []string{batchv1.JobTrackingFinalizer}
		r.Expect(r.pods.Add(pod.DeepCopy())).To(Succeed())
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Unix(1000, 0)}, new(int64)
		r.Expect(r.pods.Add(pod.DeepCopy())).To(Succeed())
		pod.Finalizers = nil
		r.Expect(r.pods.Delete(pod.DeepCopy())).To(Succeed())
	}
	gone := r.store.GonePodsOf("a", "ns", MadePods{})
	r.Expect(namesOfPods(gone)).To(ConsistOf("unscheduled"))
	r.Expect(gone[0].Finalizers).To(ConsistOf(batchv1.JobTrackingFinalizer))

	for n := range maxGonePods + maxWholePods { // they take no room from Pods that ran
		pod := podOf("a", fmt.Sprint(n), corev1.PodPending)
		pod.Finalizers = []string{batchv1.JobTrackingFinalizer}
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Unix(1000, 0)}, new(int64)
		r.Expect(r.pods.Delete(pod)).To(Succeed())
	}
	r.Expect(r.store.GonePodsOf("a", "ns", MadePods{})).To(HaveLen(maxGonePods))
	ran := podOf("a", "ran", corev1.PodFailed)
	ran.Status.Message = "last words"
	r.Expect(r.pods.Delete(ran)).To(Succeed())
	r.Expect(r.store.GonePodsOf("a", "ns", MadePods{})[maxGonePods].Status.Message).To(Equal("last words"))
}

func TestJobsAreMadeOneByOne(t *testing.T) {
	r := newStoreRig(t)
	for _, name := range []string{"one", "two", "three"} {
		r.Expect(r.jobs.Add(jobOf(name, name))).To(Succeed())
	}
	var seen []string
	for job := range r.store.Jobs() {
		seen = append(seen, job.Name)
		r.Expect(r.jobs.Add(jobOf("later", "later"))).To(Succeed(), "the store is not held meanwhile")
	}
	r.Expect(seen).To(ConsistOf("one", "two", "three"))
	for range r.store.Jobs() {
		break
	}
}

func TestEndedPodsThatANewListMissesAreRemembered(t *testing.T) {
	r := newStoreRig(t)
	r.Expect(r.jobs.Add(jobOf("a", "a"))).To(Succeed())
	r.Expect(r.pods.Add(podOf("a", "p", corev1.PodFailed))).To(Succeed())
	r.Expect(r.pods.Add(podOf("a", "q", corev1.PodRunning))).To(Succeed())
	r.Expect(r.pods.Replace()).To(Succeed())
	r.Expect(namesOfPods(r.store.GonePodsOf("a", "ns", MadePods{}))).To(ConsistOf("p"))
	r.Expect(r.store.PodsOf("a", "ns", MadePods{})).To(BeEmpty())
	r.Expect(r.jobs.Replace()).To(Succeed())
	r.Expect(namesOfPods(r.store.GonePodsOf("a", "ns", MadePods{}))).To(ConsistOf("p"))
	r.store.Forget("a")
	r.Expect(r.store.gone).To(BeEmpty())
}

func TestPodsWithoutAJobAreForgotten(t *testing.T) {
	r := newStoreRig(t)
	for n := range maxEarly + 10 {
		r.Expect(r.pods.Delete(podOf(fmt.Sprint(n), fmt.Sprint(n), corev1.PodFailed))).To(Succeed())
	}
	r.Expect(r.store.gone).To(HaveLen(maxEarly))
	r.Expect(r.store.early).To(HaveLen(maxEarly))
	for key := range r.store.early {
		r.store.early[key] = time.Now().Add(-2 * maxEarlyAge)
	}
	r.Expect(r.pods.Delete(podOf("new", "new", corev1.PodFailed))).To(Succeed())
	r.Expect(r.store.gone).To(HaveLen(1))
}

func TestRememberedPodsAreBounded(t *testing.T) {
	r := newStoreRig(t)
	r.Expect(r.jobs.Add(jobOf("a", "a"))).To(Succeed())
	for n := range 3 * maxGonePods {
		pod := podOf("a", fmt.Sprint(n), corev1.PodFailed)
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Message: "last words"},
		}, RestartCount: 1, LastTerminationState: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: 4, Message: "words before"},
		}}}
		r.Expect(r.pods.Delete(pod)).To(Succeed())
	}
	for i, pod := range r.store.GonePodsOf("a", "ns", MadePods{}) {
		end := pod.Status.ContainerStatuses[0].State.Terminated
		r.Expect(end.ExitCode).To(BeEquivalentTo(3))
		words := "last words"
		if i >= maxWholePods {
			words = ""
		}
		r.Expect(end.Message).To(Equal(words))
		r.Expect(pod.Status.ContainerStatuses[0].LastTerminationState.Terminated.ExitCode).To(BeEquivalentTo(4), "a restart may have decided")
	}
	r.Expect(r.store.GonePodsOf("a", "ns", MadePods{})).To(HaveLen(maxGonePods))
	r.Expect(r.store.GonePodsOf("a", "ns", MadePods{})[0].Name).To(Equal("0"))
}

// onePodSpec returns that of a Pod with one container.
func onePodSpec() corev1.PodSpec {
	return corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "busybox"}}}
}

// liveHeap returns the live heap, in bytes.
func liveHeap() int {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

// runningPair returns a Job that runs and its Pod, as API servers send them.
func runningPair(n int) (*batchv1.Job, *corev1.Pod) {
	name := fmt.Sprintf("nightly-report-%d-0123456789abcdef", n)
	limit, active := int32(0), int32(1)
	uid := func(kind int) string { return fmt.Sprintf("%08x-%04x-4000-8000-0123456789ab", n, kind) }
	labels := map[string]string{"our.example/hub": "hub", "our.example/run": uid(0), "app": "etl"}
	start := metav1.NewTime(time.Unix(1_700_000_000, 0))
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "etl", Name: name, UID: types.UID(uid(1)), Labels: labels},
		Spec:       batchv1.JobSpec{BackoffLimit: &limit, Template: corev1.PodTemplateSpec{Spec: onePodSpec()}},
		Status:     batchv1.JobStatus{Active: active, Ready: &active, StartTime: &start},
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "etl", Name: name + "-x7x7x", UID: types.UID(uid(2)), Labels: maps.Clone(labels)},
		Spec:       onePodSpec(),
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1", StartTime: &start,
			Conditions:        []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Image: "busybox", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: start}}}},
		},
	}
	pod.Labels[batchv1.JobNameLabel] = name
	return job.DeepCopy(), pod
}

// maxBytesPerRun is the most live heap that a Job and its Pod may take in a view.
const maxBytesPerRun = 900

func TestAJobAndItsPodTakeLittle(t *testing.T) {
	const runs = 10_000
	r := newStoreRig(t)
	before := liveHeap()
	for n := range runs {
		job, pod := runningPair(n)
		r.Expect(r.jobs.Add(job)).To(Succeed())
		r.Expect(r.pods.Add(pod)).To(Succeed())
	}
	bytes := (liveHeap() - before) / runs
	t.Logf("%d bytes of live heap per Job and Pod", bytes)
	r.Expect(bytes).To(BeNumerically("<", maxBytesPerRun))
	runtime.KeepAlive(r)
}

func BenchmarkStoreRead(b *testing.B) {
	s := New(packLabels, loneBudget())
	job, _ := runningPair(1)
	r, _ := s.Record(job)
	s.Put(KindJob, r)
	b.ReportAllocs()
	for range b.N {
		_ = s.Job("etl", job.Name)
	}
}

func TestARunCountsWhatALookAtItTakes(t *testing.T) {
	r := newStoreRig(t)
	records := 0
	add := func(n int) {
		pod := podOf("a", fmt.Sprint(n), corev1.PodFailed)
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}}}
		r.Expect(r.pods.Add(pod)).To(Succeed())
		records += r.store.objects[KindPod]["ns/"+fmt.Sprint(n)].Size()
	}
	for n := range 20 {
		add(n)
	}
	r.Expect(r.store.budget.Held()).To(BeEquivalentTo(records), "a small one counts its records only")
	for n := 20; n < 1000; n++ {
		add(n)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	pods := r.store.PodsOf("a", "ns", MadePods{})
	runtime.GC()
	runtime.ReadMemStats(&after)
	look := int(r.store.budget.Held()) - records
	taken := int(after.HeapAlloc) - int(before.HeapAlloc)
	r.Expect(look).To(BeNumerically("~", taken, taken/2), "of %d Pods", len(pods))
	runtime.KeepAlive(pods)
	for n := range 1000 {
		r.Expect(r.pods.Delete(podOf("a", fmt.Sprint(n), corev1.PodRunning))).To(Succeed())
	}
	r.store.Close()
	r.Expect(r.store.budget.Held()).To(BeZero())
}

func BenchmarkStoreUpdate(b *testing.B) {
	s := New(packLabels, loneBudget())
	job, _ := runningPair(1)
	b.ReportAllocs()
	for n := range b.N {
		job.Status.Active = int32(n % 2) //nolint:gosec // 0 or 1
		r, _ := s.Record(job)
		s.Put(KindJob, r)
	}
}
