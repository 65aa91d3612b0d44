package controllers

import (
	"testing"
	"unsafe"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// whole is a PooledJob as the hub sends it.
func whole(change func(*v1alpha1.PooledJob)) *v1alpha1.PooledJob {
	job := &v1alpha1.PooledJob{
		ObjectMeta: metav1.ObjectMeta{
			Annotations:   map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "mine": "stays", v1alpha1.AnnotationIntent: "{}"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
		},
		Spec: v1alpha1.PooledJobSpec{Template: &batchv1.JobTemplateSpec{}},
	}
	change(job)
	return job
}

func TestATemplateIsCachedAsLongAsAJobMayBeMadeOfIt(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*v1alpha1.PooledJob)
		kept   bool
	}{
		"a new one":                 {change: func(*v1alpha1.PooledJob) {}, kept: true},
		"one that is bound":         {change: func(j *v1alpha1.PooledJob) { j.Status.ClusterName = "a" }, kept: true},
		"one that was moved":        {change: func(j *v1alpha1.PooledJob) { j.Status.Attempt = 1 }, kept: true},
		"one whose Job is known":    {change: func(j *v1alpha1.PooledJob) { j.Status.JobRef.UID = "known" }},
		"one that ended without it": {change: func(j *v1alpha1.PooledJob) { j.Status.Conditions = failedCondition() }},
	} {
		t.Run(name, func(t *testing.T) {
			g, job := NewWithT(t), whole(test.change)
			got, err := slim(job)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(got).To(BeIdenticalTo(job))
			g.Expect(job.Spec.Template != nil).To(Equal(test.kept))
			g.Expect(job.ManagedFields).To(BeNil())
			g.Expect(job.Annotations).To(Equal(map[string]string{"mine": "stays", v1alpha1.AnnotationIntent: "{}"}))
		})
	}
}

func failedCondition() []metav1.Condition {
	return []metav1.Condition{{Type: v1alpha1.ConditionFailed, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonRejected}}
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
