package hostile

import (
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pooledjob/pooledjob/test/fixtures"
)

// team is the namespace of the tenant that is at work, and on targets that of all runs.
const team = "team-a"

// The paths that a connection asks for.
const (
	versionPath  = "/version"
	readyPath    = "/readyz"
	identityPath = "/api/v1/namespaces/kube-system"
	jobsPath     = "/apis/batch/v1/jobs"
	podsPath     = "/api/v1/pods"
	reviewsPath  = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
)

// target plays an API server without objects, but for the answers that an attack replaces.
type target struct {
	*httptest.Server

	mu      sync.Mutex
	answers map[string]http.HandlerFunc
}

// newTarget starts a target that attack has changed. The caller closes it.
func newTarget(attack func(*target)) *target {
	t := &target{answers: map[string]http.HandlerFunc{
		versionPath:  answerText("application/json", `{"gitVersion":"v1.99.0"}`),
		readyPath:    answerText("text/plain", "ok"),
		identityPath: answerObject(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: "hostile"}}),
		reviewsPath: answerObject(&authorizationv1.SelfSubjectAccessReview{
			Status: authorizationv1.SubjectAccessReviewStatus{Allowed: true},
		}),
		jobsPath: answerNone(&batchv1.Job{}, &batchv1.JobList{}),
		podsPath: answerNone(&corev1.Pod{}, &corev1.PodList{}),
	}}
	t.Server = httptest.NewUnstartedServer(t)
	t.EnableHTTP2 = true
	t.Config.ErrorLog = log.New(io.Discard, "", 0)
	attack(t)
	t.StartTLS()
	return t
}

// on replaces the answer to a path.
func (t *target) on(path string, answer http.HandlerFunc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers[path] = answer
}

// ServeHTTP implements http.Handler.
func (t *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	answer := t.answers[r.URL.Path]
	if answer == nil {
		answer = t.answers[r.Method] // any path
	}
	t.mu.Unlock()
	if answer == nil {
		http.NotFound(w, r)
		return
	}
	answer(w, r)
}

// kubeconfig reaches the target.
func (t *target) kubeconfig() []byte {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: t.Certificate().Raw})
	config := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "it",
		"contexts": []any{map[string]any{"name": "it", "context": map[string]any{"cluster": "it", "user": "it"}}},
		"clusters": []any{map[string]any{"name": "it", "cluster": map[string]any{"server": t.URL, "certificate-authority-data": ca}}},
		"users":    []any{map[string]any{"name": "it", "user": map[string]any{"token": "hostile-token"}}},
	}
	data, err := json.Marshal(config)
	if err != nil {
		panic(err)
	}
	return data
}

func answerText(mediaType, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		fmt.Fprint(w, text)
	}
}

func answerObject(object runtime.Object) http.HandlerFunc {
	return answerText(runtime.ContentTypeProtobuf, string(fixtures.Protobuf(object)))
}

// answerNone answers lists and watches of a kind without objects.
func answerNone(example, list runtime.Object) http.HandlerFunc {
	return answerWatch(example, answerObject(list), func(http.ResponseWriter) {})
}

// answerWatch answers lists by list, and watches with the end of the first events and what events
// writes.
func answerWatch(example runtime.Object, list http.HandlerFunc, events func(http.ResponseWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "" {
			list(w, r)
			return
		}
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
		if r.URL.Query().Get("sendInitialEvents") == "true" {
			_, _ = w.Write(bookmark(example, true))
		}
		_ = http.NewResponseController(w).Flush()
		events(w)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

func bookmark(example runtime.Object, initial bool) []byte {
	object := example.DeepCopyObject()
	m, ok := object.(metav1.Object)
	if !ok {
		panic("not an object of the API")
	}
	m.SetResourceVersion("1")
	if initial {
		m.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return fixtures.Event(watch.Bookmark, object)
}

// envelope begins an answer of that kind whose object has length bytes.
func envelope(apiVersion, kind string, length uint64) []byte {
	typeMeta := append(field(1, []byte(apiVersion)), field(2, []byte(kind))...)
	begin := append([]byte("k8s\x00"), field(1, typeMeta)...)
	return binary.AppendUvarint(binary.AppendUvarint(begin, 2<<3|2), length)
}

// field returns a field of a protobuf message.
func field(number uint64, value []byte) []byte {
	begin := binary.AppendUvarint(binary.AppendUvarint(nil, number<<3|2), uint64(len(value)))
	return append(begin, value...)
}

// endless writes for as long as somebody reads.
func endless(w io.Writer, pattern string) {
	chunk := []byte(strings.Repeat(pattern, max(1, 64<<10/len(pattern))))
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// answerEndless answers with a code and a body without an end.
func answerEndless(code int, mediaType, begin, pattern string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.WriteHeader(code)
		fmt.Fprint(w, begin)
		endless(w, pattern)
	}
}
