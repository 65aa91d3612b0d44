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
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
		jobsPath:    answerNone("batch/v1", "Job", &batchv1.JobList{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "JobList"}}),
		podsPath:    answerNone("v1", "Pod", &corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}),
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

// asked are the requests that came for paths with the prefix.
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
	return answerCode(int(status.Code), status)
}

func answerCode(code int, object any) http.HandlerFunc {
	body, err := json.Marshal(object)
	Expect(err).NotTo(HaveOccurred())
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write(body)
	}
}

// answerPage answers as a proxy does that stands before an API server.
func answerPage(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(code)
		fmt.Fprintf(w, "<html><body>%s, says the proxy</body></html>", http.StatusText(code))
	}
}

// answerNone answers lists and watches of a kind that has no objects.
func answerNone(apiVersion, kind string, list any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "" {
			answerJSON(list)(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("sendInitialEvents") == "true" {
			fmt.Fprintf(w, `{"type":"BOOKMARK","object":{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"1","annotations":{%q:"true"}}}}`+"\n",
				apiVersion, kind, metav1.InitialEventsAnnotationKey)
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}
