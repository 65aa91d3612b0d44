package jobspec

import (
	"encoding/json"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/binding"
)

// encodeJob returns what Encode makes, decoded.
func encodeJob(t testing.TB, job *v1alpha1.PooledJob, intent binding.Intent) *batchv1.Job {
	t.Helper()
	template, err := json.Marshal(job.Spec.Template)
	if err != nil {
		t.Fatal(err)
	}
	data, err := Encode(job, template, "hub-1", intent)
	if err != nil {
		t.Fatal(err)
	}
	remote := &batchv1.Job{}
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(remote); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return remote
}

func TestWhatIsNotKnownStaysInATemplate(t *testing.T) {
	g := NewWithT(t)
	job := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "run", UID: "uid"}}
	data, err := Encode(job, []byte(` { "spec" : {"new":[1, {"a" : null}],"template":{"spec":{"containers":[{"name":"a","terminationMessagePolicy":"File"} , {"cpu":"1e999999999"}]}}} }`),
		"hub", binding.Intent{Namespace: "ns", JobName: "job"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(data)).To(Equal(`{"apiVersion":"batch/v1","kind":"Job",` +
		`"metadata":{"namespace":"ns","name":"job","labels":{"pooledjob.io/hub":"hub","pooledjob.io/uid":"uid"},"annotations":{"pooledjob.io/source":"team/run"}},` +
		`"spec":{"new":[1, {"a" : null}],"template":{"spec":{"containers":[{"name":"a","terminationMessagePolicy":"File"},{"cpu":"1e999999999","terminationMessagePolicy":"FallbackToLogsOnError"}]},` +
		`"metadata":{"labels":{"pooledjob.io/hub":"hub","pooledjob.io/uid":"uid"}}}}}`))
	_, err = Encode(job, []byte(`{"spec":`), "hub", binding.Intent{})
	g.Expect(err).To(HaveOccurred())
}

func FuzzEncode(f *testing.F) {
	f.Add([]byte(`{"metadata":{"labels":{"a":"b"}},"spec":{"template":{"spec":{"containers":[{}],"initContainers":null}}}}`))
	job := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "run", UID: "uid"}}
	f.Fuzz(func(t *testing.T, template []byte) {
		data, err := Encode(job, template, "hub", binding.Intent{Namespace: "ns", JobName: "job"})
		if err == nil && !json.Valid(data) {
			t.Fatalf("%s", data)
		}
	})
}
