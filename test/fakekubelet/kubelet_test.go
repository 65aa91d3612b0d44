package fakekubelet

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// get asks for the log of container c of Pod n/p.
func get(ctx context.Context, g Gomega, k *Kubelet, query string) *http.Response {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.server.URL+"/containerLogs/n/p/c?"+query, http.NoBody)
	g.Expect(err).NotTo(HaveOccurred())
	response, err := k.server.Client().Do(request)
	g.Expect(err).NotTo(HaveOccurred())
	return response
}

func start(t *testing.T) (k *Kubelet, log *Log) {
	k = Start()
	t.Cleanup(k.Stop)
	log = k.Log("n", "p", "c")
	return k, log
}

func TestParameters(t *testing.T) {
	k, log := start(t)
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	log.Print("before")
	log.Restart()
	log.PrintAt(at, "one", "two")
	log.PrintAt(at.Add(time.Minute), "three")
	for query, want := range map[string]string{
		"":                               "one\ntwo\nthree\n",
		"tailLines=2":                    "two\nthree\n",
		"tailLines=0":                    "",
		"sinceTime=2026-03-04T05:06:08Z": "three\n",
		"sinceSeconds=1":                 "",
		"limitBytes=5":                   "one\nt",
		"previous=true":                  "before\n",
		"timestamps=true&tailLines=2":    "2026-03-04T05:06:07.000001000Z two\n2026-03-04T05:07:07.000000000Z three\n",
	} {
		t.Run(query, func(t *testing.T) {
			g := NewWithT(t)
			response := get(t.Context(), g, k, query)
			defer response.Body.Close()
			g.Expect(response.StatusCode).To(Equal(http.StatusOK))
			body, err := io.ReadAll(response.Body)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(string(body)).To(Equal(want))
		})
	}
}

func TestRefusals(t *testing.T) {
	g := NewWithT(t)
	k, log := start(t)
	for query, code := range map[string]int{"previous=true": http.StatusBadRequest, "folow=true": http.StatusUnprocessableEntity} {
		response := get(t.Context(), g, k, query)
		response.Body.Close()
		g.Expect(response.StatusCode).To(Equal(code), query)
	}
	log.Refuse(http.StatusTeapot, "not now")
	response := get(t.Context(), g, k, "")
	defer response.Body.Close()
	g.Expect(response.StatusCode).To(Equal(http.StatusTeapot))
	g.Expect(log.Streams()).To(BeEmpty())
}

func TestFollow(t *testing.T) {
	g := NewWithT(t)
	k, log := start(t)
	log.Print("one")
	response := get(t.Context(), g, k, "follow=true")
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	g.Expect(lines.ReadString('\n')).To(Equal("one\n"))
	log.Print("two")
	g.Expect(lines.ReadString('\n')).To(Equal("two\n"))
	g.Expect(log.Open()).To(Equal(1))
	log.End()
	g.Expect(io.ReadAll(lines)).To(BeEmpty())
	g.Eventually(log.Open).Should(BeZero())
	g.Expect(log.Streams()).To(HaveLen(1))
	g.Expect(log.Streams()[0].Taken()).To(BeEquivalentTo(len("one\ntwo\n")))
}

func TestBreak(t *testing.T) {
	g := NewWithT(t)
	k, log := start(t)
	response := get(t.Context(), g, k, "follow=true")
	defer response.Body.Close()
	log.Break()
	_, err := io.ReadAll(response.Body)
	g.Expect(err).To(MatchError(io.ErrUnexpectedEOF))
}

func TestReaderGoesAway(t *testing.T) {
	g := NewWithT(t)
	k, log := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	response := get(ctx, g, k, "follow=true")
	defer response.Body.Close()
	g.Expect(log.Open()).To(Equal(1))
	cancel()
	g.Eventually(log.Open).Should(BeZero())
}

func TestReaderThatDoesNotRead(t *testing.T) {
	g := NewWithT(t)
	k, log := start(t)
	log.Generate(time.Now(), 200<<10, func(int) string { return strings.Repeat("x", 1023) })
	response := get(t.Context(), g, k, "")
	defer response.Body.Close()
	taken := log.Streams()[0].Taken
	g.Eventually(func() bool { before := taken(); return before > 0 && !changes(taken, before) }).Should(BeTrue())
	g.Expect(taken()).To(BeNumerically("<", 20<<20), "of 200 MiB")
}

// changes reports whether a figure changes within a tenth of a second.
func changes(figure func() int64, before int64) bool {
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	<-timer.C
	return figure() != before
}
