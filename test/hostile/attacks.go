package hostile

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// attack is what a target does, and the reason that its ClusterConnection must come to have for
// not being Ready; works is for one that harms nobody.
type attack struct {
	name  string
	begin func(*target)
	want  string
}

const works = v1alpha1.ReasonConnected

func attacks() []attack {
	return []attack{
		// Answers that are taken whole.
		{"/version without end", version(answerEndless(http.StatusOK, "application/json", `{"gitVersion":"`, "x")), v1alpha1.ReasonLimitExceeded},
		{"/version without end, as an error", version(answerEndless(http.StatusInternalServerError, "text/plain", "", "no ")), v1alpha1.ReasonUnreachable},
		{"/version without end, as a refusal", version(answerEndless(http.StatusUnauthorized, "text/plain", "", "no ")), v1alpha1.ReasonCredentialsRejected},
		{"/version that is a gzip bomb", version(answerBomb), v1alpha1.ReasonLimitExceeded},
		{"/version of empty objects", version(answerEndless(http.StatusOK, "application/json", "[", "{},")), v1alpha1.ReasonLimitExceeded},
		{"/version that is nested deeply", version(answerText("application/json", strings.Repeat("[", 60_000))), v1alpha1.ReasonUnreachable},
		{"/version with a giant number", version(answerText("application/json", `{"gitVersion":`+strings.Repeat("9", 60_000)+`}`)), v1alpha1.ReasonUnreachable},
		{"/version that is a page", version(answerText("text/html", "<html>"+strings.Repeat("<p>", 20_000))), v1alpha1.ReasonUnreachable},
		{"/version that comes byte by byte", version(answerSlowly), v1alpha1.ReasonUnreachable},
		{"/version that never comes", version(wait), v1alpha1.ReasonUnreachable},
		{"/version that leads elsewhere", version(http.RedirectHandler(versionPath, http.StatusFound).ServeHTTP), v1alpha1.ReasonUnreachable},
		{"/version that asks to come again", version(answerAgain), v1alpha1.ReasonUnreachable},
		{"/version with a thousand early hints", version(answerHints), works},
		{"/version with headers of a MiB", version(answerHeaders), v1alpha1.ReasonUnreachable},
		{"/version with trailers of a MiB", version(answerTrailers), v1alpha1.ReasonUnreachable},
		{"/readyz without end", on(readyPath, answerEndless(http.StatusOK, "text/plain", "ok", " ")), v1alpha1.ReasonLimitExceeded},
		{"/readyz that comes byte by byte", on(readyPath, answerSlowly), v1alpha1.ReasonUnreachable},
		{"/readyz of other words", on(readyPath, answerText("text/plain", "fine")), v1alpha1.ReasonUnreachable},

		// Who answers.
		{"an identity without end", on(identityPath, answerStart("v1", "Namespace", 1<<62, "\xf2\x3f\x00")), v1alpha1.ReasonLimitExceeded},
		{"an identity with a UID without end", on(identityPath, answerStart("v1", "Namespace", 1<<62, "\x0a\xff\xff\xff\x7f")), v1alpha1.ReasonLimitExceeded},
		{"an identity with a UID of a MiB", on(identityPath, answerObject(namespace(strings.Repeat("u", 1<<20)))), v1alpha1.ReasonUnreachable},
		{"an identity of another kind", on(identityPath, answerObject(&corev1.Pod{})), v1alpha1.ReasonUnreachable},
		{"an identity in JSON", on(identityPath, answerText("application/json", `{"kind":"Namespace","metadata":{"uid":"u"}}`)), v1alpha1.ReasonUnreachable},
		{"an identity with 10^6 owners", on(identityPath, answerMillion("v1", "Namespace", 1, field(13, nil))), v1alpha1.ReasonUnreachable},
		{"an identity that changes", on(identityPath, answerChanging), works},
		{"an identity that ends in the middle", on(identityPath, answerPart), v1alpha1.ReasonUnreachable},
		{"an identity of groups in groups", on(identityPath, answerRaw("v1", "Namespace", bytes.Repeat([]byte{0x0b}, 1<<20))), v1alpha1.ReasonUnreachable},

		// Lists and watches.
		{"a list without end", lists(jobItems("job")), v1alpha1.ReasonLimitExceeded},
		{"a list of the same Job without end", lists(func(int) []byte { return jobItem("job") }), v1alpha1.ReasonConnecting},
		{"a list of empty items without end", lists(func(int) []byte { return field(2, nil) }), v1alpha1.ReasonLimitExceeded},
		{"a list of pages without end", on(jobsPath, answerPages), v1alpha1.ReasonConnecting},
		{"a list in JSON", on(jobsPath, answerJSONList), v1alpha1.ReasonConnecting},
		{"a list that comes byte by byte", on(jobsPath, answerSlowly), v1alpha1.ReasonConnecting},
		{"a refusal of a list without end", on(jobsPath, answerEndless(http.StatusForbidden, "text/plain", "", "no ")), v1alpha1.ReasonConnecting},
		{"first events without end", on(jobsPath, initialEvents(jobEvents("job"))), v1alpha1.ReasonLimitExceeded},
		{"first events of Pods without end", on(podsPath, initialEvents(podEvents)), v1alpha1.ReasonLimitExceeded},
		{"10^6 events without content", on(jobsPath, initialEvents(func(int) []byte { return make([]byte, 4) })), v1alpha1.ReasonConnecting},
		{"an event of 4 GiB", watches(once([]byte{0xff, 0xff, 0xff, 0xff})), v1alpha1.ReasonLimitExceeded},
		{"an event of 16 MiB of empty containers", watches(once(emptyContainers(8_000_000))), works},
		{"events of 4 MiB of empty containers without end", watches(repeat(emptyContainers(2_000_000))), works},
		{"an event that is longer than it says", watches(once([]byte{0, 0, 0, 4, 0x12, 0x7f, 1, 1})), works},
		{"an event that never ends", watches(dripping), works},
		{"an event in JSON", watches(once([]byte(`{"type":"ADDED","object":{}}`))), v1alpha1.ReasonLimitExceeded},
		{"the same Job again and again", watches(repeat(fixtures.Event(watch.Modified, job("job")))), works},
		{"a Job that changes again and again", watches(flood(changingJobs)), works},
		{"a Job with another UID each time", watches(flood(changingUIDs)), works},
		{"Jobs that come and go", watches(flood(comingAndGoing)), works},
		{"Pods that end and go", watchesOf(podsPath, &corev1.Pod{}, &corev1.PodList{}, flood(endedPods)), works},
		{"bookmarks without end", watches(repeat(bookmark(&batchv1.Job{}, false))), works},
		{"a watch that has always expired", watches(once(expired())), works},
		{"an error with 10^6 causes", watches(once(causes())), works},
		{"a watch that ends at once", on(jobsPath, endAtOnce), v1alpha1.ReasonConnecting},
		{"Jobs with 5,800 labels of ours", watches(flood(labelled)), works},
		{"Jobs that say 3 MiB", watches(flood(talking)), works},
		{"a Job with a name of a MiB", watches(once(fixtures.Event(watch.Added, job(strings.Repeat("n", 1<<20))))), v1alpha1.ReasonLimitExceeded},
		{"a resource version of a MiB", watches(once(longVersion())), v1alpha1.ReasonLimitExceeded},
	}
}

func on(path string, answer http.HandlerFunc) func(*target) {
	return func(t *target) { t.on(path, answer) }
}

func version(answer http.HandlerFunc) func(*target) { return on(versionPath, answer) }

func wait(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func answerSlowly(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		fmt.Fprint(w, " ")
		_ = http.NewResponseController(w).Flush()
		pause(r, 100*time.Millisecond)
	}
}

func pause(r *http.Request, d time.Duration) {
	select {
	case <-r.Context().Done():
	case <-time.After(d):
	}
}

func answerBomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Set("Content-Type", "application/json")
	z := gzip.NewWriter(w)
	endless(z, " ")
}

func answerAgain(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "0")
	w.WriteHeader(http.StatusTooManyRequests)
}

func answerHints(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Link", "</x>")
	for range 4 {
		w.WriteHeader(http.StatusEarlyHints)
	}
	answerText("application/json", `{"gitVersion":"v1.99.0"}`)(w, r)
}

func answerHeaders(w http.ResponseWriter, _ *http.Request) {
	for i := range 1000 {
		w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("h", 1<<10))
	}
}

func answerTrailers(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, `{"gitVersion":"v1.99.0"}`)
	_ = http.NewResponseController(w).Flush()
	for i := range 1000 {
		w.Header().Set(http.TrailerPrefix+"X-"+strconv.Itoa(i), strings.Repeat("h", 1<<10))
	}
}

// answerStart answers with an object of that length, which goes on with a pattern.
func answerStart(apiVersion, kind string, length uint64, pattern string) http.HandlerFunc {
	return answerEndless(http.StatusOK, runtime.ContentTypeProtobuf, string(envelope(apiVersion, kind, length)), pattern)
}

func answerRaw(apiVersion, kind string, message []byte) http.HandlerFunc {
	return answerText(runtime.ContentTypeProtobuf, string(append(envelope(apiVersion, kind, uint64(len(message))), message...)))
}

// answerMillion answers with an object in whose field there is a million times the same.
func answerMillion(apiVersion, kind string, number uint64, what []byte) http.HandlerFunc {
	return answerRaw(apiVersion, kind, field(number, bytes.Repeat(what, 1_000_000)))
}

func namespace(uid string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: types.UID(uid)}}
}

func answerPart(w http.ResponseWriter, _ *http.Request) {
	whole := fixtures.Protobuf(namespace("uid"))
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	_, _ = w.Write(whole[:len(whole)/2])
}

var changes atomic.Int64

func answerChanging(w http.ResponseWriter, r *http.Request) {
	answerObject(namespace(fmt.Sprint("uid-", changes.Add(1))))(w, r)
}

// hubID is that of the hub that is attacked.
var hubID string

// job returns one that the manager takes for one of a run.
func job(name string) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: name, UID: types.UID(name), ResourceVersion: "2",
		Labels: map[string]string{v1alpha1.LabelHub: hubID, v1alpha1.LabelUID: name},
	}}
}

func jobItem(name string) []byte {
	data, err := job(name).Marshal()
	if err != nil {
		panic(err)
	}
	return field(2, data)
}

func jobItems(prefix string) func(int) []byte {
	return func(i int) []byte { return jobItem(prefix + strconv.Itoa(i)) }
}

// lists answers lists with items without end, and refuses watches that begin with a list.
func lists(item func(int) []byte) func(*target) {
	return on(jobsPath, func(w http.ResponseWriter, r *http.Request) {
		if refuseWatchList(w, r) {
			return
		}
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
		_, _ = w.Write(envelope("batch/v1", "JobList", 1<<62))
		for i := 0; ; i++ {
			if _, err := w.Write(item(i)); err != nil {
				return
			}
		}
	})
}

func refuseWatchList(w http.ResponseWriter, r *http.Request) bool {
	isWatch := r.URL.Query().Get("watch") != ""
	if isWatch {
		w.WriteHeader(http.StatusUnprocessableEntity)
	}
	return isWatch
}

func answerPages(w http.ResponseWriter, r *http.Request) {
	if !refuseWatchList(w, r) {
		list := &batchv1.JobList{ListMeta: metav1.ListMeta{ResourceVersion: "1", Continue: fmt.Sprint(changes.Add(1))}}
		answerObject(list)(w, r)
	}
}

func answerJSONList(w http.ResponseWriter, r *http.Request) {
	if !refuseWatchList(w, r) {
		answerText("application/json", `{"kind":"JobList","apiVersion":"batch/v1","metadata":{"resourceVersion":"1"},"items":[{},{}]}`)(w, r)
	}
}

// initialEvents answers a watch with first events without end.
func initialEvents(event func(int) []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
		for i := 0; ; i++ {
			if _, err := w.Write(event(i)); err != nil {
				return
			}
		}
	}
}

func jobEvents(prefix string) func(int) []byte {
	return func(i int) []byte { return fixtures.Event(watch.Added, job(prefix+strconv.Itoa(i))) }
}

func podEvents(i int) []byte {
	name := "pod-" + strconv.Itoa(i)
	return fixtures.Event(watch.Added, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: name, UID: types.UID(name),
		Labels: map[string]string{v1alpha1.LabelHub: hubID, v1alpha1.LabelUID: name},
	}})
}

// watches answers watches for Jobs with what events writes after the first ones.
func watches(events func(http.ResponseWriter)) func(*target) {
	return watchesOf(jobsPath, &batchv1.Job{}, &batchv1.JobList{}, events)
}

func watchesOf(path string, example, list runtime.Object, events func(http.ResponseWriter)) func(*target) {
	return on(path, answerWatch(example, answerObject(list), events))
}

func once(event []byte) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { _, _ = w.Write(event) }
}

func repeat(event []byte) func(http.ResponseWriter) { return flood(func(int) []byte { return event }) }

// flood writes events for as long as somebody reads.
func flood(event func(int) []byte) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; ; i++ {
			if _, err := w.Write(event(i)); err != nil {
				return
			}
		}
	}
}

// dripping begins an event and goes on with it byte by byte.
func dripping(w http.ResponseWriter) {
	_, _ = w.Write([]byte{0, 0x7f, 0xff, 0xff, 0x12, 0xf0, 0xff, 0xff, 0x03})
	for {
		if _, err := w.Write([]byte{0}); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		<-time.After(100 * time.Millisecond)
	}
}

// emptyContainers returns an event of a Job whose template has so many containers of two bytes each.
func emptyContainers(n int) []byte {
	conditions := bytes.Repeat(field(1, nil), n) // of a Job's status
	object := append(envelope("batch/v1", "Job", uint64(len(field(3, conditions)))), field(3, conditions)...)
	event := append(field(1, []byte(watch.Modified)), field(2, field(1, object))...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(event))), event...)
}

func changingJobs(i int) []byte {
	changed := job("job")
	changed.Status.Active = int32(i)
	return fixtures.Event(watch.Modified, changed)
}

func changingUIDs(i int) []byte {
	changed := job("job")
	changed.UID = types.UID(strconv.Itoa(i))
	return fixtures.Event(watch.Modified, changed)
}

func comingAndGoing(i int) []byte {
	one := job(strconv.Itoa(i))
	one.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Message: strings.Repeat("m", 4<<10)}}
	return append(fixtures.Event(watch.Added, one), fixtures.Event(watch.Deleted, one)...)
}

func endedPods(i int) []byte {
	name := strconv.Itoa(i)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID(name),
			Labels: map[string]string{v1alpha1.LabelHub: hubID, v1alpha1.LabelUID: strconv.Itoa(i / 300)},
		},
		Status: corev1.PodStatus{Phase: corev1.PodFailed, Message: strings.Repeat("m", 4<<10)},
	}
	return append(fixtures.Event(watch.Added, pod), fixtures.Event(watch.Deleted, pod)...)
}

func expired() []byte {
	return fixtures.Event(watch.Error, &metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: http.StatusGone})
}

func causes() []byte {
	return fixtures.Event(watch.Error, &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Details: &metav1.StatusDetails{
		Causes: make([]metav1.StatusCause, 1_000_000),
	}})
}

func endAtOnce(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
}

func labelled(i int) []byte {
	one := job(strconv.Itoa(i % 60))
	for n := range 5800 {
		one.Labels["pooledjob.io/"+strconv.Itoa(n)] = strings.Repeat("v", 60)
	}
	return fixtures.Event(watch.Added, one)
}

func talking(i int) []byte {
	one := job(strconv.Itoa(i % 60))
	one.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Message: strings.Repeat("m", 3<<20)}}
	return fixtures.Event(watch.Added, one)
}

func longVersion() []byte {
	one := job("job")
	one.ResourceVersion = strings.Repeat("1", 1<<20)
	return fixtures.Event(watch.Added, one)
}
