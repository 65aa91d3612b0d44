package hubcache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/randfill"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func filler() *randfill.Filler {
	return randfill.NewWithSeed(1).NilChance(0.3).NumElements(1, 2).MaxDepth(6).Funcs(
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(c.Int63n(1<<32), 0) },
		func(f *metav1.FieldsV1, _ randfill.Continue) { f.SetRawString(`{}`) },
		func(t *batchv1.JobTemplateSpec, c randfill.Continue) {
			t.Labels = map[string]string{c.String(9): c.String(9)}
		},
	)
}

// keptMeta returns what is kept of metadata.
func keptMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	kept := metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
		DeletionGracePeriodSeconds: m.DeletionGracePeriodSeconds, Finalizers: m.Finalizers,
	}
	for name, value := range m.Annotations {
		if name == v1alpha1.AnnotationIntent {
			metav1.SetMetaDataAnnotation(&kept, name, value)
		}
	}
	return kept
}

func TestAPooledJobIsDecodedButForItsTemplate(t *testing.T) {
	g, fill := NewWithT(t), filler()
	for range 300 {
		var whole, want v1alpha1.PooledJob
		fill.Fill(&whole)
		metav1.SetMetaDataAnnotation(&whole.ObjectMeta, v1alpha1.AnnotationIntent, `{"a":"b"}`)
		data, err := json.Marshal(&whole)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(json.Unmarshal(data, &want)).To(Succeed())
		job, raw, err := decode(data)
		g.Expect(err).NotTo(HaveOccurred())
		var template *batchv1.JobTemplateSpec
		if raw != nil {
			g.Expect(json.Unmarshal(raw, &template)).To(Succeed())
		}
		g.Expect(cmp.Diff(want.Spec.Template, template)).To(BeEmpty())
		want.Spec.Template = nil
		want.ObjectMeta = keptMeta(&want.ObjectMeta)
		meta, err := readMetadata(bytes.NewReader(data))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(cmp.Diff(&want.ObjectMeta, meta)).To(BeEmpty())
		g.Expect(cmp.Diff(&want, job)).To(BeEmpty())
	}
}

func TestAListIsReadItemByItem(t *testing.T) {
	for text, want := range map[string]string{
		`{"kind":"PooledJobList","metadata":{"continue":"next","resourceVersion":"7"},"items":[{"a":1},{"b":[2]}]}`: `next 7 {"a":1} {"b":[2]}`,
		`{"items":[],"other":{"items":[3]},"metadata":{"resourceVersion":"8"}}`:                                     ` 8`,
		`{"items":null}`: ` `,
		`{"items":{}}`:   "error",
		`{"items":[1`:    "error",
		`[]`:             "error",
		``:               "error",
	} {
		t.Run(text, func(t *testing.T) {
			items := ""
			meta, err := readList(strings.NewReader(text), func(item []byte) error {
				items += " " + string(item)
				return nil
			})
			got := meta.Continue + " " + meta.ResourceVersion + items
			if err != nil {
				got = "error"
			}
			NewWithT(t).Expect(got).To(Equal(want))
		})
	}
	stop := errors.New("stop")
	_, err := readList(strings.NewReader(`{"items":[1,2]}`), func([]byte) error { return stop })
	NewWithT(t).Expect(err).To(MatchError(stop))
}

func TestTemplatesTakeNoMoreThanTheyMay(t *testing.T) {
	g, templates := NewWithT(t), newTemplates()
	template := func() []byte { return make([]byte, maxKeptTemplate) }
	fits := maxKept / maxKeptTemplate
	for i := range fits + 1 {
		templates.keep(types.UID(fmt.Sprint(i)), template(), 1)
		g.Expect(templates.size).To(BeNumerically("<=", maxKept))
	}
	g.Expect(templates.kept("0")).To(BeNil())
	g.Expect(templates.kept(types.UID(fmt.Sprint(fits)))).NotTo(BeNil())
	templates.keep("large", make([]byte, maxKeptTemplate+1), 7)
	g.Expect(templates.kept("large")).To(BeNil())
	g.Expect(templates.sizeOf("large")).To(Equal(7))
	templates.forget("large")
	for i := range fits + 1 {
		templates.forget(types.UID(fmt.Sprint(i)))
	}
	g.Expect(templates.size).To(BeZero())
	g.Expect(templates.raw).To(BeEmpty())
	g.Expect(templates.sizes).To(BeEmpty())
}

func TestNoMoreLargeTemplatesAreInUseThanThereIsRoomFor(t *testing.T) {
	g, templates := NewWithT(t), newTemplates()
	var all []func()
	hold := func(namespace string, size int) bool {
		release, ok := templates.reserve(namespace, size)
		if ok {
			all = append(all, release)
		}
		return ok
	}
	g.Expect(hold("a", maxLargeOfNamespace)).To(BeTrue())
	g.Expect(hold("a", maxKeptTemplate+1)).To(BeFalse(), "its namespace has as many as it may")
	for _, namespace := range []string{"b", "c"} {
		g.Expect(hold(namespace, maxLargeOfNamespace/2)).To(BeTrue())
		g.Expect(hold(namespace, maxLargeOfNamespace/2)).To(BeTrue())
	}
	g.Expect(hold("d", largeReserve/4)).To(BeTrue())
	g.Expect(hold("d", largeReserve/4)).To(BeFalse(), "the rest is for those that have none")
	for n := range 3 {
		g.Expect(hold(fmt.Sprint(n), largeReserve/4)).To(BeTrue())
	}
	g.Expect(hold("another", maxKeptTemplate+1)).To(BeFalse())
	g.Expect(hold("another", maxKeptTemplate)).To(BeTrue(), "small ones have room always")
	all[0]()
	all[0]()
	g.Expect(hold("another", maxLargeOfNamespace+1)).To(BeFalse())
	g.Expect(hold("another", maxLargeOfNamespace)).To(BeTrue())
	for _, release := range all {
		release()
	}
	g.Expect(templates.large).To(BeZero())
	g.Expect(templates.largeOf).To(BeEmpty())
}

func TestALargeTemplateOfUnknownSizeIsCountedOnceItIsRead(t *testing.T) {
	g := NewWithT(t)
	job := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "job", UID: "uid", ResourceVersion: "1"}}
	job.Spec.Template = &batchv1.JobTemplateSpec{}
	metav1.SetMetaDataAnnotation(&job.Spec.Template.ObjectMeta, "large", strings.Repeat("x", 2*maxKeptTemplate))
	data, err := json.Marshal(job)
	g.Expect(err).NotTo(HaveOccurred())
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }))
	defer hub.Close()
	scheme := runtime.NewScheme()
	g.Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	reader, err := NewReader(&rest.Config{Host: hub.URL}, scheme, true)
	g.Expect(err).NotTo(HaveOccurred())

	free, ok := reader.templates.reserve("ns", maxLargeOfNamespace)
	g.Expect(ok).To(BeTrue())
	_, _, err = reader.Template(t.Context(), job)
	g.Expect(err).To(MatchError(ErrBusy))
	free()
	template, release, err := reader.Template(t.Context(), job)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(template).To(ContainSubstring("xxx"))
	g.Expect(reader.templates.large).To(Equal(len(data)))
	release()
	g.Expect(reader.templates.large).To(BeZero())
}

// FuzzDecode takes what the API server lets pass, and anything else.
func FuzzDecode(f *testing.F) {
	fill := filler()
	for range 20 {
		var job v1alpha1.PooledJob
		fill.Fill(&job)
		data, err := json.Marshal(&job)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		job, _, err := decode(data)
		meta, metaErr := readMetadata(bytes.NewReader(data))
		goruntime.ReadMemStats(&after)
		NewWithT(t).Expect(after.TotalAlloc - before.TotalAlloc).To(BeNumerically("<", 256<<10+400*uint64(len(data))))
		if err == nil && metaErr == nil {
			NewWithT(t).Expect(meta.Name).To(Equal(job.Name))
		}
	})
}

func TestMetadataTakeNoMoreThanTheyMay(t *testing.T) {
	g, m := NewWithT(t), &metav1.ObjectMeta{Name: "job", Labels: map[string]string{}, Annotations: map[string]string{}}
	for i := range 10_000 {
		m.Labels[fmt.Sprint("label-", i)] = "value"
		m.Finalizers = append(m.Finalizers, fmt.Sprint("some.example/", i))
	}
	m.Annotations["pooledjob.io/other"] = "of nobody"
	m.Annotations[v1alpha1.AnnotationIntent] = strings.Repeat("x", maxAnnotation+1)
	data, err := json.Marshal(&v1alpha1.PooledJob{ObjectMeta: *m})
	g.Expect(err).NotTo(HaveOccurred())
	job, _, err := decode(data)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(job.Labels).To(BeEmpty())
	g.Expect(job.Annotations).To(BeEmpty())
	g.Expect(job.Finalizers).To(HaveLen(MaxFinalizers+1), "it is known that there are too many")
	meta, err := readMetadata(bytes.NewReader(data))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(meta).To(Equal(&job.ObjectMeta), "and an answer is read as an object of a list is")
	_, err = (&Reader{}).Patch(t.Context(), &job.ObjectMeta, nil)
	g.Expect(err).To(MatchError(ErrTooManyFinalizers))
}
