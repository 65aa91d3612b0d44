package store

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/randfill"

	"github.com/pooledjob/pooledjob/internal/connpool/sanitize"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// anyObjects fills Jobs and Pods with what an API server could answer, within the bounds.
func anyObjects(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(0.3).NumElements(0, 3).MaxDepth(12).Funcs(
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(c.Int63n(1<<32), 0) },
		func(*metav1.FieldsV1, randfill.Continue) {},
		func(s *string, c randfill.Continue) { *s = c.String(20) },
		func(m *metav1.ObjectMeta, c randfill.Continue) {
			c.FillNoCustom(m)
			m.UID = types.UID(fmt.Sprint(c.Uint64()))
			for _, label := range []string{"our.example/run", "our.example/hub", "our.example/other", batchv1.JobNameLabel, "another"} {
				if c.Bool() {
					metav1.SetMetaDataLabel(m, label, c.String(20))
				}
			}
			if c.Bool() {
				metav1.SetMetaDataAnnotation(m, batchv1.JobCompletionIndexAnnotation, "7")
			}
			if c.Bool() {
				m.OwnerReferences = append(m.OwnerReferences, *metav1.NewControllerRef(&batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "job"}}, batchv1.SchemeGroupVersion.WithKind("Job")))
			}
			if c.Bool() {
				m.Finalizers = append(m.Finalizers, batchv1.JobTrackingFinalizer)
			}
		},
		func(p *corev1.PodPhase, c randfill.Continue) {
			*p = []corev1.PodPhase{corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed}[c.Intn(4)]
		},
		func(t *corev1.PodConditionType, c randfill.Continue) {
			*t = []corev1.PodConditionType{corev1.PodReady, corev1.PodScheduled, corev1.DisruptionTarget, "Other"}[c.Intn(4)]
		},
		func(s *corev1.ConditionStatus, c randfill.Continue) {
			*s = []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse}[c.Intn(2)]
		},
		func(p *corev1.RestartPolicy, c randfill.Continue) {
			*p = []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}[c.Intn(2)]
		},
		func(p *batchv1.PodReplacementPolicy, c randfill.Continue) {
			*p = []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}[c.Intn(2)]
		},
	)
}

func TestAnAnswerKeepsAllThatAStoreKeeps(t *testing.T) {
	g, fill := NewWithT(t), anyObjects(1)
	store, schemas := New(packLabels, loneBudget()), packLabels.Schemas()
	for range 500 {
		for k := range Kinds {
			whole, pruned := k.NewObject(), k.NewObject()
			fill.Fill(whole)
			kept, err := schemas[k].Object(bytes.NewReader(fixtures.Protobuf(whole)))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(pruned.Unmarshal(kept.Message)).To(Succeed())
			want, err := store.Record(whole)
			g.Expect(err).NotTo(HaveOccurred())
			got, err := store.Record(pruned)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(got.parts).To(BeNumerically("<=", want.parts))
			got.parts, want.parts = 0, 0 // of labels that are not kept, too
			g.Expect(got).To(Equal(want))
		}
	}
}

func TestTheMostThatIsAllowedFitsIntoTheBounds(t *testing.T) {
	g := NewWithT(t)
	schemas := packLabels.Schemas()
	long := strings.Repeat("x", 100)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: long}}
	for i := range sanitize.MaxContainers {
		name := fmt.Sprintf("%s-%d", long[:55], i)
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name})
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name})
		end := &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: long}
		status := corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: end}}
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, status)
		pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, status)
	}
	kept, err := schemas[KindPod].Object(bytes.NewReader(fixtures.Protobuf(pod)))
	g.Expect(err).NotTo(HaveOccurred())
	read := &corev1.Pod{}
	g.Expect(read.Unmarshal(kept.Message)).To(Succeed())
	g.Expect(reflect.DeepEqual(read.Status, pod.Status)).To(BeTrue())
	g.Expect(read.Spec.InitContainers).To(HaveLen(sanitize.MaxContainers))
}
