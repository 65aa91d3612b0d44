package prune

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/randfill"

	"github.com/pooledjob/pooledjob/test/fixtures"
)

const (
	maxContainers = 4
	maxPod        = 16 << 10
	maxTexts      = 8 << 10
)

// podSchema keeps one field of each kind of rule.
var podSchema = NewSchema(&corev1.Pod{}, "Pod", Bounds{Types: maxPod, Texts: maxTexts}, Fields{
	"metadata": Message(Fields{
		"name": Exact(MaxName), "resourceVersion": Exact(MaxVersion), "deletionTimestamp": Time(),
		"deletionGracePeriodSeconds": Number(),
		"labels":                     Map(2, MaxLabel, func(key string) bool { return strings.HasPrefix(key, "ours/") }),
		"finalizers":                 List(3, Text(maxTexts)),
		"ownerReferences":            List(2, Message(Fields{"uid": Exact(MaxName), "controller": Number()})),
	}),
	"spec": Message(Fields{
		"containers": List(maxContainers, Message(Fields{"name": Exact(MaxLabel)})),
		"ephemeralContainers": List(maxContainers, Message(Fields{
			"EphemeralContainerCommon": Message(Fields{"name": Exact(MaxLabel)}),
		})),
	}),
	"status": Within(Bounds{Types: maxPod, Texts: maxTexts}, Message(Fields{
		"message": Text(MaxWords), "reason": Whole(20), "phase": Whole(20),
		"containerStatuses": List(maxContainers, Message(Fields{
			"name":  Exact(MaxLabel),
			"state": Message(Fields{"terminated": Message(Fields{"exitCode": Number(), "message": Text(16)})}),
		})),
	})),
})

// whole returns what is kept of a text that is kept whole.
func whole(text string) string {
	if len(text) > 20 {
		return Cut
	}
	return text
}

// project returns what podSchema keeps of a Pod that is within its bounds.
func project(pod *corev1.Pod) *corev1.Pod {
	kept := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: pod.Name, ResourceVersion: pod.ResourceVersion, DeletionTimestamp: pod.DeletionTimestamp,
		DeletionGracePeriodSeconds: pod.DeletionGracePeriodSeconds, Finalizers: pod.Finalizers,
	}, Status: corev1.PodStatus{Message: pod.Status.Message, Reason: whole(pod.Status.Reason), Phase: corev1.PodPhase(whole(string(pod.Status.Phase)))}}
	for key, value := range pod.Labels {
		if strings.HasPrefix(key, "ours/") {
			metav1.SetMetaDataLabel(&kept.ObjectMeta, key, value)
		}
	}
	for _, o := range pod.OwnerReferences {
		kept.OwnerReferences = append(kept.OwnerReferences, metav1.OwnerReference{UID: o.UID, Controller: o.Controller})
	}
	for i := range pod.Spec.Containers {
		kept.Spec.Containers = append(kept.Spec.Containers, corev1.Container{Name: pod.Spec.Containers[i].Name})
	}
	for i := range pod.Spec.EphemeralContainers {
		kept.Spec.EphemeralContainers = append(kept.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: pod.Spec.EphemeralContainers[i].Name},
		})
	}
	for _, s := range pod.Status.ContainerStatuses {
		status := corev1.ContainerStatus{Name: s.Name}
		if t := s.State.Terminated; t != nil {
			status.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: t.ExitCode, Message: t.Message}
		}
		kept.Status.ContainerStatuses = append(kept.Status.ContainerStatuses, status)
	}
	return kept
}

func prunePod(g *WithT, answer []byte) *corev1.Pod {
	kept, err := podSchema.Object(bytes.NewReader(answer))
	g.Expect(err).NotTo(HaveOccurred())
	pod := &corev1.Pod{}
	g.Expect(pod.Unmarshal(kept.Message)).To(Succeed())
	return pod
}

func randomPod(f *randfill.Filler) *corev1.Pod {
	pod := &corev1.Pod{}
	f.Fill(pod)
	if pod.Labels != nil {
		pod.Labels["ours/one"] = "two"
	}
	for i := range pod.Status.ContainerStatuses {
		if t := pod.Status.ContainerStatuses[i].State.Terminated; t != nil {
			t.Message = "short"
		}
	}
	return pod
}

func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(0.3).NumElements(1, 2).MaxDepth(12).Funcs(
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(c.Int63n(1<<32), 0) },
		func(*metav1.FieldsV1, randfill.Continue) {},
		func(s *string, c randfill.Continue) { *s = c.String(20) },
	)
}

func TestOfAnyObjectExactlyTheFieldsOfTheSchemaAreKept(t *testing.T) {
	g, f := NewWithT(t), filler(1)
	for range 300 {
		pod := randomPod(f)
		g.Expect(cmp.Diff(project(pod), prunePod(g, fixtures.Protobuf(pod)))).To(BeEmpty())
	}
}

func TestAListIsReadItemByItem(t *testing.T) {
	g, f := NewWithT(t), filler(2)
	list := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "12", Continue: "next"}}
	for range 40 {
		list.Items = append(list.Items, *randomPod(f))
	}
	var kept []*corev1.Pod
	meta, err := podSchema.List(bytes.NewReader(fixtures.Protobuf(list)), func(read Kept) error {
		pod := &corev1.Pod{}
		kept = append(kept, pod)
		return pod.Unmarshal(read.Message)
	})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(meta).To(Equal(ListMeta{ResourceVersion: "12", Continue: "next"}))
	g.Expect(kept).To(HaveLen(len(list.Items)))
	for i := range kept {
		g.Expect(cmp.Diff(project(&list.Items[i]), kept[i])).To(BeEmpty())
	}
}

func TestAWatchIsReadEventByEvent(t *testing.T) {
	g, f := NewWithT(t), filler(3)
	pods := []*corev1.Pod{randomPod(f), randomPod(f), {ObjectMeta: metav1.ObjectMeta{ResourceVersion: "7"}}}
	expired := &metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: 410, Message: "too old"}
	var stream []byte
	types := []watch.EventType{watch.Added, watch.Deleted, watch.Bookmark}
	for i, pod := range pods {
		stream = append(stream, fixtures.Event(types[i], pod)...)
	}
	stream = append(stream, fixtures.Event(watch.Error, expired)...)
	reading := podSchema.Watch(bytes.NewReader(stream))
	for i, pod := range pods {
		event, err := reading.Next()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(event.Type).To(Equal(types[i]))
		kept := &corev1.Pod{}
		g.Expect(kept.Unmarshal(event.Kept.Message)).To(Succeed())
		g.Expect(cmp.Diff(project(pod), kept)).To(BeEmpty())
	}
	event, err := reading.Next()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(event.Status.Code).To(BeEquivalentTo(410))
	g.Expect(event.Status.Reason).To(Equal(metav1.StatusReasonExpired))
	_, err = reading.Next()
	g.Expect(err).To(Equal(io.EOF))
}

func TestWhatUsersOfAClusterCanWriteIsCut(t *testing.T) {
	statuses := func(n int) (list []corev1.ContainerStatus) {
		for range n {
			list = append(list, corev1.ContainerStatus{Name: "c"})
		}
		return list
	}
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		expect func(*WithT, *corev1.Pod)
	}{
		"a text, between two characters": {
			func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
					Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Message: strings.Repeat("é€", 8)},
				}}}
			},
			func(g *WithT, p *corev1.Pod) {
				g.Expect(p.Status.ContainerStatuses[0].State.Terminated).To(Equal(
					&corev1.ContainerStateTerminated{ExitCode: 3, Message: "é€é€é€"}), "16 bytes would cut é")
			},
		},
		"a list of as many elements as may be is not": {
			func(p *corev1.Pod) { p.Status.ContainerStatuses = statuses(maxContainers) },
			func(g *WithT, p *corev1.Pod) { g.Expect(p.Status.ContainerStatuses).To(HaveLen(maxContainers)) },
		},
		"a list of more elements, which is left out": {
			func(p *corev1.Pod) {
				p.Status.Message, p.Status.ContainerStatuses = "kept", statuses(maxContainers+1)
			},
			func(g *WithT, p *corev1.Pod) {
				g.Expect(p.Status.ContainerStatuses).To(BeEmpty())
				g.Expect(p.Status.Message).To(Equal("kept"))
			},
		},
		"a map of more entries of ours, which is left out": {
			func(p *corev1.Pod) { p.Labels = map[string]string{"ours/1": "", "ours/2": "", "ours/3": ""} },
			func(g *WithT, p *corev1.Pod) { g.Expect(p.Labels).To(BeEmpty()) },
		},
		"any number of entries that are not ours": {
			func(p *corev1.Pod) {
				p.Labels = map[string]string{"ours/1": strings.Repeat("v", 100), "ours/2": ""}
				for i := range 5000 {
					p.Labels[strings.Repeat("k", i)] = "value"
				}
			},
			func(g *WithT, p *corev1.Pod) {
				g.Expect(p.Labels).To(Equal(map[string]string{"ours/1": strings.Repeat("v", MaxLabel), "ours/2": ""}))
			},
		},
		"a text that is worth something only as a whole": {
			func(p *corev1.Pod) { p.Status.Reason, p.Status.Phase = strings.Repeat("1", 20)+",2", "1,2" },
			func(g *WithT, p *corev1.Pod) {
				g.Expect(p.Status.Reason).To(Equal(Cut))
				g.Expect(p.Status.Phase).To(BeEquivalentTo("1,2"))
			},
		},
		"a list in which a text has no room, which is left out": {
			func(p *corev1.Pod) {
				for range 3 {
					p.Finalizers = append(p.Finalizers, strings.Repeat("f", maxTexts/2))
				}
				p.Status.Message = "has room of its own"
			},
			func(g *WithT, p *corev1.Pod) {
				g.Expect(p.Finalizers).To(BeEmpty())
				g.Expect(p.Status.Message).To(Equal("has room of its own"))
			},
		},
		"an object that takes too much once it is decoded": {
			func(p *corev1.Pod) {
				p.Status.Message = strings.Repeat("x", MaxWords)
				p.Spec.Containers = []corev1.Container{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}
				p.Spec.EphemeralContainers = make([]corev1.EphemeralContainer, maxContainers)
				p.Status.ContainerStatuses = statuses(maxContainers)
			},
			func(g *WithT, p *corev1.Pod) {
				g.Expect(p.Name).To(Equal("pod"))
				g.Expect(size(p)).To(BeNumerically("<", 2*maxPod))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, pod := NewWithT(t), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod"}}
			test.change(pod)
			test.expect(g, prunePod(g, fixtures.Protobuf(pod)))
		})
	}
}

// size returns about what a Pod of podSchema takes.
func size(p *corev1.Pod) int {
	return len(p.Status.Message) + (len(p.Spec.Containers)+len(p.Spec.EphemeralContainers)+len(p.Status.ContainerStatuses))<<10
}

// raw wraps the bytes of a message as an API server does.
func raw(t testing.TB, kind string, message []byte) []byte {
	t.Helper()
	unknown := kruntime.Unknown{TypeMeta: kruntime.TypeMeta{APIVersion: "v1", Kind: kind}, Raw: message}
	data, err := unknown.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("k8s\x00"), data...)
}

func TestWhatNoAPIServerSendsEndsTheAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		answer []byte
		expect error // nil for a *LimitError
	}{
		"nothing":                   {nil, io.ErrUnexpectedEOF},
		"JSON":                      {[]byte(`{"kind":"Pod"}`), ErrMalformed},
		"another kind":              {raw(t, "Node", nil), ErrMalformed},
		"no object":                 {[]byte("k8s\x00"), ErrMalformed},
		"an end in the middle":      {raw(t, "Pod", []byte{0x0a, 5, 0x0a, 3, 'a'})[:16], io.ErrUnexpectedEOF},
		"a field past its message":  {raw(t, "Pod", []byte{0x0a, 50}), ErrMalformed},
		"a field that comes twice":  {raw(t, "Pod", []byte{0x0a, 0, 0x0a, 0}), ErrMalformed},
		"a field of another type":   {raw(t, "Pod", []byte{0x08, 0}), ErrMalformed},
		"a group":                   {raw(t, "Pod", []byte{0x3b, 0x3c}), ErrMalformed},
		"a number without end":      {raw(t, "Pod", bytes.Repeat([]byte{0xff}, 11)), ErrMalformed},
		"a list in two parts":       {raw(t, "Pod", []byte{0x12, 8, 0x12, 0, 0x92, 0x02, 0, 0x12, 0, 0x12, 0}), ErrMalformed},
		"a name longer than any is": {raw(t, "Pod", append([]byte{0x0a, 0x80 + 0x7f, 2, 0x0a, 0x80 + 0x7c, 2}, make([]byte, 400)...)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			_, err := podSchema.Object(bytes.NewReader(test.answer))
			if limit := (&LimitError{}); test.expect == nil {
				g.Expect(errors.As(err, &limit)).To(BeTrue(), "%v", err)
			} else {
				g.Expect(err).To(MatchError(test.expect))
			}
		})
	}
}

func TestWhatNoAPIServerSendsEndsTheWatch(t *testing.T) {
	pod, status := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod"}}, &metav1.Status{Message: "expired"}
	for name, event := range map[string][]byte{
		"a type of its own":       fixtures.Event("PATCHED", pod),
		"no type":                 fixtures.Event("", pod),
		"a Status that was added": fixtures.Event(watch.Added, status),
		"an error that is a Pod":  fixtures.Event(watch.Error, pod),
		"a type without a Pod":    {0, 0, 0, 7, 0x0a, 5, 'A', 'D', 'D', 'E', 'D'},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			_, err := podSchema.Watch(bytes.NewReader(event)).Next()
			g.Expect(err).To(MatchError(ErrMalformed))
		})
	}
	g := NewWithT(t)
	event, err := podSchema.Watch(bytes.NewReader(fixtures.Event(watch.Error, status))).Next()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(event.Status.Message).To(Equal("expired"))
}

// allocated returns how much f allocates, in bytes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// endless is a message that goes on for ever.
type endless struct{ pattern []byte }

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e.pattern)
	}
	return n, nil
}

func TestAnAnswerCostsNoMoreThanWhatIsKept(t *testing.T) {
	millions := func(element ...byte) []byte { return bytes.Repeat(element, 1_000_000) }
	status := func(message []byte) []byte {
		return append(binary.AppendUvarint([]byte{0x1a}, uint64(len(message))), message...)
	}
	huge := io.MultiReader(bytes.NewReader([]byte("k8s\x00\x0a\x05\x12\x03Pod\x12\xff\xff\xff\xff\x0f")), endless{millions(0x1a, 0)})
	for name, answer := range map[string]io.Reader{
		"10^6 empty containers":      bytes.NewReader(raw(t, "Pod", status(millions(0x42, 0)))),
		"10^6 empty labels":          bytes.NewReader(raw(t, "Pod", append([]byte{0x0a, 0x80, 0x89, 0x7a}, millions(0x5a, 0)...))),
		"10^6 fields that are other": bytes.NewReader(raw(t, "Pod", millions(0xf2, 0x3f, 0))),
		"an object of 4 GiB":         huge,
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(allocated(func() { _, _ = podSchema.Object(answer) })).To(BeNumerically("<", 64<<10))
		})
	}
}

func FuzzObject(f *testing.F) {
	random := filler(4)
	for range 20 {
		f.Add(fixtures.Protobuf(randomPod(random)))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		g := NewWithT(t)
		used := allocated(func() {
			if kept, err := podSchema.Object(bytes.NewReader(answer)); err == nil {
				pod := &corev1.Pod{}
				g.Expect(pod.Unmarshal(kept.Message)).To(Succeed())
				g.Expect(len(pod.Status.ContainerStatuses)).To(BeNumerically("<=", maxContainers))
			}
		})
		g.Expect(used).To(BeNumerically("<", 8*maxPod))
	})
}

func FuzzWatch(f *testing.F) {
	random := filler(5)
	for range 20 {
		stream := fixtures.Event(watch.Added, randomPod(random))
		f.Add(append(stream, fixtures.Event(watch.Modified, randomPod(random))...))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		g := NewWithT(t)
		events := podSchema.Watch(bytes.NewReader(stream))
		used := allocated(func() {
			for event, err := events.Next(); err == nil; event, err = events.Next() {
				if event.Type != watch.Error {
					g.Expect((&corev1.Pod{}).Unmarshal(event.Kept.Message)).To(Succeed())
				}
			}
		})
		g.Expect(used).To(BeNumerically("<", 64<<10+uint64(len(stream))*300))
	})
}

func BenchmarkPod(b *testing.B) {
	pod := randomPod(randfill.NewWithSeed(rand.Int63()).NilChance(0).NumElements(1, 2).MaxDepth(10))
	answer := fixtures.Protobuf(pod)
	b.SetBytes(int64(len(answer)))
	b.Run("prune and decode", func(b *testing.B) {
		for b.Loop() {
			kept, _ := podSchema.Object(bytes.NewReader(answer))
			_ = (&corev1.Pod{}).Unmarshal(kept.Message)
		}
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			unknown := kruntime.Unknown{}
			_ = unknown.Unmarshal(answer[4:])
			_ = (&corev1.Pod{}).Unmarshal(unknown.Raw)
		}
	})
}
