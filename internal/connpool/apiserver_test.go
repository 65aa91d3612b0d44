package connpool

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pooledjob/pooledjob/test/fixtures"
)

// The paths that a session asks for.
const (
	identityPath = "/api/v1/namespaces/kube-system"
	versionPath  = "/version"
	readyPath    = "/readyz"
	jobsPath     = "/apis/batch/v1/jobs"
	podsPath     = "/api/v1/pods"
	// jobPath is where lease calls for the Job default/job go.
	jobPath = "/apis/batch/v1/namespaces/default/jobs/job"
)

// apiserver plays an API server that has no objects, for the answers that no real
// one would give, and remembers what it was asked.
type apiserver struct {
	*httptest.Server

	mu       sync.Mutex
	answers  map[string]http.HandlerFunc
	requests []request
}

type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte
}

// newAPIServer starts a server that ends with the spec, after the pools that are
// made later.
func newAPIServer(changes ...func(*http.Server)) *apiserver {
	s := &apiserver{answers: map[string]http.HandlerFunc{
		identityPath: answerJSON(&corev1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: "fake"},
		}),
		versionPath: answerJSON(map[string]string{"gitVersion": "v1.99.0"}),
		readyPath:   answerOK,
		jobsPath:    answerNone(&batchv1.Job{}, &batchv1.JobList{}),
		podsPath:    answerNone(&corev1.Pod{}, &corev1.PodList{}),
	}}
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(GinkgoWriter, "apiserver: ", 0)
	for _, change := range changes {
		change(s.Config)
	}
	s.StartTLS()
	DeferCleanup(s.Close)
	return s
}

// config reaches the server with a bearer token.
func (s *apiserver) config(token string) Config {
	return Config{Identity: Identity{Server: s.URL, CAData: caOf(s.Certificate()), Token: token}}
}

// answer sets what a path is answered with.
func (s *apiserver) answer(path string, with http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = with
}

// asked returns the requests that came for paths with the prefix.
func (s *apiserver) asked(prefix string) []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.requests), func(r request) bool { return !strings.HasPrefix(r.path, prefix) })
}

func (s *apiserver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.requests = append(s.requests, request{r.Method, r.URL.Path, r.URL.Query(), r.Header.Clone(), body})
	answer := s.answers[r.URL.Path]
	s.mu.Unlock()
	if answer == nil {
		answer = answerError(apierrors.NewNotFound(schema.GroupResource{Resource: "things"}, r.URL.Path))
	}
	answer(w, r)
}

// answerOK answers as a healthy API server's /readyz does.
func answerOK(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }

// answerJSON answers 200 with an object.
func answerJSON(object any) http.HandlerFunc { return answerCode(http.StatusOK, object) }

// answerError answers as an API server does that means this error.
func answerError(err *apierrors.StatusError) http.HandlerFunc {
	status := err.Status()
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	return answerCode(int(status.Code), &status)
}

// answerCode answers with an object, in protobuf if it is one of the API and is asked for so.
func answerCode(code int, object any) http.HandlerFunc {
	inJSON, err := json.Marshal(object)
	Expect(err).NotTo(HaveOccurred())
	var inProtobuf []byte
	if o, ok := object.(runtime.Object); ok {
		inProtobuf = fixtures.Protobuf(o)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		mediaType, body := runtime.ContentTypeJSON, inJSON
		if inProtobuf != nil && r.Header.Get("Accept") == runtime.ContentTypeProtobuf {
			mediaType, body = runtime.ContentTypeProtobuf, inProtobuf
		}
		w.Header().Set("Content-Type", mediaType)
		w.WriteHeader(code)
		_, _ = w.Write(body)
	}
}

// toCreate returns a Job as it is created.
func toCreate(job *batchv1.Job) NewJob {
	data, err := json.Marshal(job)
	if err != nil {
		panic(err)
	}
	return NewJob{Namespace: job.Namespace, Name: job.Name, JSON: data}
}

// eventOf returns an event of a watch as API servers send it.
func eventOf(kind watch.EventType, object runtime.Object) string {
	return string(fixtures.Event(kind, object))
}

// bookmarkOf returns a bookmark of a watch for objects like the example.
func bookmarkOf(example runtime.Object, version int, annotations map[string]string) string {
	object := example.DeepCopyObject()
	m, err := meta.Accessor(object)
	if err != nil {
		panic(err)
	}
	m.SetResourceVersion(strconv.Itoa(version))
	m.SetAnnotations(annotations)
	return eventOf(watch.Bookmark, object)
}

// initialEventsEnd are the annotations of the bookmark after the first events of a watch.
var initialEventsEnd = map[string]string{metav1.InitialEventsAnnotationKey: "true"}

// answerPage answers as a proxy does that stands before an API server.
func answerPage(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(code)
		fmt.Fprintf(w, "<html><body>%s, says the proxy</body></html>", http.StatusText(code))
	}
}

// answerNone answers lists and watches of a kind that has no objects.
func answerNone(example, list runtime.Object) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "" {
			answerJSON(list)(w, r)
			return
		}
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
		if r.URL.Query().Get("sendInitialEvents") == "true" {
			fmt.Fprint(w, bookmarkOf(example, 1, initialEventsEnd))
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}
