package hubcache

import (
	"testing"
	"unsafe"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// whole returns a PooledJob as the hub sends it.
func whole(change func(*v1alpha1.PooledJob)) *v1alpha1.PooledJob {
	job := &v1alpha1.PooledJob{
		ObjectMeta: metav1.ObjectMeta{
			Annotations:   map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "mine": "stays", v1alpha1.AnnotationIntent: "{}"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
		},
	}
	change(job)
	return job
}

func TestOfAPooledJobWhatKubectlAddsIsNotCached(t *testing.T) {
	g, job := NewWithT(t), whole(func(*v1alpha1.PooledJob) {})
	got, err := slim(job)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(got).To(BeIdenticalTo(job))
	g.Expect(job.ManagedFields).To(BeNil())
	g.Expect(job.Annotations).To(Equal(map[string]string{"mine": "stays", v1alpha1.AnnotationIntent: "{}"}))
}

func TestPooledJobsShareTheirWords(t *testing.T) {
	g := NewWithT(t)
	words := func() *byte {
		job := whole(func(j *v1alpha1.PooledJob) {
			j.Status.Conditions = []metav1.Condition{{Type: "Accepted", Message: string([]byte("the same words"))}}
		})
		_, err := slim(job)
		g.Expect(err).NotTo(HaveOccurred())
		return unsafe.StringData(job.Status.Conditions[0].Message)
	}
	g.Expect(words()).To(BeIdenticalTo(words()))
}

func TestOtherObjectsLoseTheirManagedFieldsOnly(t *testing.T) {
	g := NewWithT(t)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: "{}"}, ManagedFields: []metav1.ManagedFieldsEntry{{}},
	}}
	_, err := slim(secret)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(secret.ManagedFields).To(BeNil())
	g.Expect(secret.Annotations).To(HaveLen(1))
}
