package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/internal/connpool/sanitize"
)

func TestAJobThatWentIsRememberedAsItWas(t *testing.T) {
	r := newStoreRig(t)
	ended := jobOf("a", "job")
	ended.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	r.Expect(r.jobs.Add(jobOf("a", "job"))).To(Succeed())
	r.Expect(r.jobs.Delete(ended)).To(Succeed()) // the last word of a watch is the newest
	gone := r.store.GoneJob("a", "ns", "job")
	r.Expect(gone.Status.Conditions).To(HaveLen(1))
	r.Expect(gone.Watched).To(BeTrue())
	for _, other := range [][3]string{{"b", "ns", "job"}, {"a", "other", "job"}, {"a", "ns", "other"}} {
		r.Expect(r.store.GoneJob(other[0], other[1], other[2])).To(BeNil())
	}

	r.Expect(r.jobs.Add(jobOf("a", "job"))).To(Succeed())
	r.Expect(r.store.GoneJob("a", "ns", "job")).To(BeNil(), "it is there again")

	r.Expect(r.jobs.Replace()).To(Succeed())
	gone = r.store.GoneJob("a", "ns", "job")
	r.Expect(gone).NotTo(BeNil())
	r.Expect(gone.Watched).To(BeFalse(), "a list does not say how the Job was when it went")
	r.store.Forget("a")
	r.Expect(r.store.GoneJob("a", "ns", "job")).To(BeNil())
}

func TestJobsThatWentAreBoundedInNumberAndAge(t *testing.T) {
	r := newStoreRig(t)
	for n := range maxGoneJobs + 10 {
		name := fmt.Sprint(n)
		r.Expect(r.jobs.Add(jobOf(name, name))).To(Succeed())
		r.Expect(r.pods.Delete(podOf(name, "pod-"+name, corev1.PodFailed))).To(Succeed())
		r.Expect(r.jobs.Delete(jobOf(name, name))).To(Succeed())
	}
	r.Expect(r.store.goneJobs).To(HaveLen(maxGoneJobs))
	r.Expect(r.store.gone).To(HaveLen(maxGoneJobs), "the Pods go with their Jobs")
	r.Expect(r.store.GoneJob("0", "ns", "0")).To(BeNil(), "the oldest goes first")

	for key := range r.store.goneJobs {
		r.makeOld(key)
	}
	r.Expect(r.store.GoneJob("99", "ns", "99")).To(BeNil(), "it is too old")
	r.Expect(r.jobs.Delete(jobOf("new", "new"))).To(Succeed())
	r.Expect(r.store.goneJobs).To(HaveLen(1))
}

func TestItIsKnownThatPodsThatWentAreMissing(t *testing.T) {
	r := newStoreRig(t)
	words := strings.Repeat("w", 4<<10)
	for run := 0; r.store.hasRoomFor(r.store.sizeOfGonePods); run++ {
		key := fmt.Sprint(run)
		r.Expect(r.jobs.Add(jobOf(key, key))).To(Succeed())
		for n := range maxWholePods {
			pod := podOf(key, fmt.Sprint(key, "-", n), corev1.PodFailed)
			pod.Status.Message = words
			r.Expect(r.pods.Delete(pod)).To(Succeed())
		}
	}
	r.Expect(r.jobs.Delete(jobOf("0", "0"))).To(Succeed())
	r.Expect(r.store.GoneJob("0", "ns", "0").PodsMissing).To(BeFalse())
	r.Expect(r.jobs.Add(jobOf("late", "late"))).To(Succeed())
	r.Expect(r.pods.Delete(podOf("late", "late", corev1.PodFailed))).To(Succeed())
	r.Expect(r.jobs.Delete(jobOf("late", "late"))).To(Succeed())
	r.Expect(r.store.GoneJob("late", "ns", "late").PodsMissing).To(BeTrue())
	r.store.Close()
	r.Expect(r.store.budget.Held() + r.store.budget.GonePods.Load() + r.store.budget.GoneJobs.Load()).To(BeZero())
}

func TestPodsThatWereLostBeforeTheirJobWasSeenAreMissing(t *testing.T) {
	lose := map[string]func(*storeRig){
		"because of others": func(r *storeRig) {
			for n := range maxEarly {
				r.Expect(r.pods.Delete(podOf(fmt.Sprint(n), fmt.Sprint("other-", n), corev1.PodFailed))).To(Succeed())
			}
		},
		"by age": func(r *storeRig) {
			r.store.early["a"] = time.Now().Add(-maxEarlyAge - time.Second)
			r.store.Age()
		},
		"with a Job that had its key for a while": func(r *storeRig) {
			r.Expect(r.jobs.Add(jobOf("a", "foreign"))).To(Succeed())
			r.Expect(r.jobs.Add(jobOf("b", "foreign"))).To(Succeed())
		},
		"and so many others that it is forgotten which": func(r *storeRig) {
			for n := range maxEarly + 2*maxLost {
				r.Expect(r.pods.Delete(podOf(fmt.Sprint(n), fmt.Sprint("other-", n), corev1.PodFailed))).To(Succeed())
			}
		},
	}
	for name, lose := range lose {
		t.Run(name, func(t *testing.T) {
			r := newStoreRig(t)
			r.Expect(r.pods.Delete(podOf("a", "pod", corev1.PodFailed))).To(Succeed())
			lose(r)
			r.Expect(r.store.gone).NotTo(HaveKey("a"))
			r.Expect(r.jobs.Add(jobOf("a", "job"))).To(Succeed())
			r.Expect(r.jobs.Delete(jobOf("a", "job"))).To(Succeed())
			r.Expect(r.store.GoneJob("a", "ns", "job").PodsMissing).To(BeTrue())
		})
	}
}

func TestNoPodsAreMissingOfRunsThatLostNone(t *testing.T) {
	r := newStoreRig(t)
	r.Expect(r.pods.Delete(podOf("b", "other", corev1.PodFailed))).To(Succeed())
	r.store.early["b"] = time.Now().Add(-maxEarlyAge - time.Second)
	r.store.Age()
	r.Expect(r.store.lost).To(HaveLen(1))
	r.Expect(r.jobs.Add(jobOf("a", "job"))).To(Succeed())
	r.Expect(r.pods.Delete(podOf("a", "pod", corev1.PodFailed))).To(Succeed())
	r.Expect(r.jobs.Add(jobOf("a", "foreign"))).To(Succeed())
	r.Expect(r.jobs.Add(jobOf("b", "foreign"))).To(Succeed())
	r.Expect(r.jobs.Delete(jobOf("a", "job"))).To(Succeed())
	r.Expect(r.store.GoneJob("a", "ns", "job").PodsMissing).To(BeFalse())
	r.Expect(r.store.GonePodsOf("a", "ns", MadePods{})).To(HaveLen(1))
}

func TestPodsThatWereListedAnewAfterTheirJobWentMayBeMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreRig(t)
		r.Expect(r.pods.Replace()).To(Succeed())
		<-time.After(time.Second)
		r.Expect(r.jobs.Delete(jobOf("a", "job"))).To(Succeed())
		r.Expect(r.store.GoneJob("a", "ns", "job").PodsMissing).To(BeFalse())
		<-time.After(time.Second)
		r.Expect(r.jobs.Replace()).To(Succeed())
		r.Expect(r.store.GoneJob("a", "ns", "job").PodsMissing).To(BeFalse())
		r.Expect(r.pods.Replace()).To(Succeed())
		r.Expect(r.store.GoneJob("a", "ns", "job").PodsMissing).To(BeTrue())
	})
}

func TestAnOldJobThatWentTakesNoPodsOfAnotherOfItsRun(t *testing.T) {
	r := newStoreRig(t)
	r.Expect(r.jobs.Delete(jobOf("a", "first"))).To(Succeed())
	r.Expect(r.jobs.Add(jobOf("a", "second"))).To(Succeed())
	r.Expect(r.pods.Delete(podOf("a", "pod", corev1.PodFailed))).To(Succeed())
	r.makeOld("a")
	r.store.Age()
	r.Expect(r.store.goneJobs).To(BeEmpty())
	r.Expect(r.store.GonePodsOf("a", "ns", MadePods{})).To(HaveLen(1))
}

// makeOld makes the Job that went be one that is too old.
func (r *storeRig) makeOld(key string) {
	gone := r.store.goneJobs[key]
	before := gone.at
	gone.at = gone.at.Add(-maxGoneAge - time.Second)
	r.store.goneJobs[key] = gone
	for i := range r.store.goneOrder {
		if order := &r.store.goneOrder[i]; order.key == key && order.at.Equal(before) {
			order.at = gone.at
		}
	}
}

func TestAPodIsNotRememberedForAJobThatIsForgotten(t *testing.T) {
	r := newStoreRig(t)
	r.Expect(r.jobs.Delete(jobOf("a", "job"))).To(Succeed())
	r.makeOld("a")
	r.store.budget.Stores.Add(1)
	r.store.growGone(&r.store.sizeOfGonePods, int(r.store.budget.Limit()/goneFraction)) // there is no room
	r.Expect(r.pods.Delete(podOf("a", "pod", corev1.PodFailed))).To(Succeed())
	r.Expect(r.store.early).To(HaveKey("a"), "else it would never be forgotten")
	r.store.early["a"] = time.Now().Add(-maxEarlyAge - time.Second)
	r.store.Age()
	r.Expect(r.store.gone).To(BeEmpty())
	r.Expect(r.store.podsMissing).To(BeEmpty())
}

func TestAViewThatRemembersMuchLeavesOthersRoom(t *testing.T) {
	r := newStoreRig(t)
	other := New(packLabels, r.store.budget)
	most := int(r.store.budget.Limit() / goneFraction)
	other.growGone(&other.sizeOfGonePods, most)
	other.growGone(&other.sizeOfGoneJobs, most)
	for n := range 10 {
		key := fmt.Sprint(n)
		r.Expect(r.jobs.Add(jobOf(key, key))).To(Succeed())
		r.Expect(r.pods.Delete(podOf(key, key, corev1.PodFailed))).To(Succeed())
		r.Expect(r.jobs.Delete(jobOf(key, key))).To(Succeed())
	}
	for n := range 10 {
		key := fmt.Sprint(n)
		r.Expect(r.store.GoneJob(key, "ns", key)).NotTo(BeNil())
		r.Expect(r.store.GoneJob(key, "ns", key).PodsMissing).To(BeFalse())
	}
}

// podStep is a state of a Pod of a Job.
type podStep struct {
	tracked, deleted bool
	phase            corev1.PodPhase
}

func (s podStep) pod() *corev1.Pod {
	pod := podOf("a", "p", s.phase)
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(
		&metav1.ObjectMeta{Name: "job", UID: "uid"}, batchv1.SchemeGroupVersion.WithKind("Job"))}
	if s.tracked {
		pod.Finalizers = []string{batchv1.JobTrackingFinalizer}
	}
	if s.deleted {
		now := metav1.Now()
		pod.DeletionTimestamp = &now
	}
	return pod
}

func TestWhetherAPodCountsIsToldByItsEvents(t *testing.T) {
	running, failed := corev1.PodRunning, corev1.PodFailed
	for name, test := range map[string]struct {
		steps              []podStep
		controlled, counts bool
	}{
		"ends, then is counted":           {[]podStep{{true, false, running}, {true, false, failed}, {false, false, failed}}, true, true},
		"is deleted, and counted at once": {[]podStep{{true, false, running}, {true, true, running}, {false, true, running}, {false, true, failed}}, true, true},
		"is let go, then deleted":         {[]podStep{{true, false, running}, {false, false, running}, {false, true, running}, {false, true, failed}}, false, false},
		"is let go, and ends by itself":   {[]podStep{{true, false, running}, {false, false, running}, {false, false, failed}}, false, false},
		"was counted before":              {[]podStep{{false, false, failed}}, true, false},
		"was deleted before":              {[]podStep{{false, true, failed}}, true, false},
		"runs":                            {[]podStep{{true, false, running}}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStoreRig(t)
			r.Expect(r.jobs.Add(jobOf("a", "job"))).To(Succeed())
			for _, step := range test.steps {
				r.Expect(r.pods.Add(step.pod())).To(Succeed())
			}
			check := func(pods []*corev1.Pod) {
				r.Expect(pods).To(HaveLen(1))
				r.Expect(metav1.GetControllerOf(pods[0]) != nil).To(Equal(test.controlled))
				r.Expect(slices.Contains(pods[0].Finalizers, batchv1.JobTrackingFinalizer)).To(Equal(test.counts))
			}
			check(r.store.PodsOf("a", "ns", MadePods{}))
			last := test.steps[len(test.steps)-1]
			last.phase = failed
			r.Expect(r.pods.Delete(last.pod())).To(Succeed())
			if last != (podStep{true, false, failed}) {
				check(r.store.GonePodsOf("a", "ns", MadePods{}))
			}
		})
	}
}

// The kubelet asks for the deletion again, without grace, when the containers have ended.
func TestWhenADeletionWasFirstAskedForIsKept(t *testing.T) {
	r := newStoreRig(t)
	at := func(pod *corev1.Pod, second, grace int64) *corev1.Pod {
		when := metav1.Unix(second, 0)
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &when, &grace
		return pod
	}
	step := podStep{true, true, corev1.PodRunning}
	r.Expect(r.pods.Add(at(step.pod(), 1030, 30))).To(Succeed())
	step.phase = corev1.PodFailed
	r.Expect(r.pods.Add(at(step.pod(), 1002, 0))).To(Succeed())
	pod := r.store.PodsOf("a", "ns", MadePods{})[0]
	r.Expect(pod.DeletionTimestamp.Unix() - *pod.DeletionGracePeriodSeconds).To(BeEquivalentTo(1000))
}

func TestAnObjectWithAnImpossibleUIDIsNobodys(t *testing.T) {
	for _, uid := range []string{strings.Repeat("u", sanitize.MaxUID+1), "\xff", "a\nb"} {
		r := newStoreRig(t)
		job, pod := jobOf("a", "job"), podOf("a", "p", corev1.PodRunning)
		job.UID, pod.UID = types.UID(uid), types.UID(uid)
		r.Expect(r.jobs.Add(job)).To(Succeed())
		r.Expect(r.pods.Add(pod)).To(Succeed())
		r.Expect(r.store.Job("ns", "job").Labels).NotTo(HaveKey("our.example/run"))
		r.Expect(r.store.PodsOf("a", "ns", MadePods{})).To(BeEmpty())
		r.Expect(sanitize.CheckUID(job.UID)).To(MatchError(ContainSubstring("UID")))
	}
}

func TestValuesThatCannotBeAreNone(t *testing.T) {
	g := NewWithT(t)
	never, negative := metav1.NewTime(time.Date(318857, 1, 1, 0, 0, 0, 0, time.UTC)), int32(-5)
	job := jobOf("a", "job")
	job.DeletionTimestamp, job.Spec.BackoffLimit, job.Spec.TTLSecondsAfterFinished = never.DeepCopy(), &negative, new(int32)
	job.Status = batchv1.JobStatus{
		Active: -1, Succeeded: -1, Failed: -1, StartTime: never.DeepCopy(), CompletionTime: never.DeepCopy(),
		Conditions: []batchv1.JobCondition{{Type: batchv1.JobFailed, LastTransitionTime: never}},
	}
	kept := throughStore(g, job, (*Store).readJob)
	g.Expect(kept.DeletionTimestamp).NotTo(BeNil(), "that there is a deletion stays known")
	g.Expect(*kept.Spec.BackoffLimit).To(BeZero())
	g.Expect([]int32{kept.Status.Active, kept.Status.Succeeded, kept.Status.Failed}).To(HaveEach(int32(0)))
	g.Expect(kept.Status.StartTime).To(BeNil())
	g.Expect(kept.Status.CompletionTime).To(BeNil())
	g.Expect(kept.Status.Conditions[0].LastTransitionTime.IsZero()).To(BeTrue())

	pod := podOf("a", "p", corev1.PodFailed)
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{StartedAt: never, FinishedAt: never},
	}}}
	end := throughStore(g, pod, (*Store).readPod).Status.ContainerStatuses[0].State.Terminated
	g.Expect(end.StartedAt.IsZero() && end.FinishedAt.IsZero()).To(BeTrue())
}
