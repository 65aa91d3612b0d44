package logs

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fakekubelet"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

const (
	mebi = 1 << 20
	// offered is what a container has written whose log nobody reads.
	offered = 200 * mebi
	// held bounds how much of that is taken all the same for one follower: most of it is in
	// the buffers of the two API servers and of the connections between them.
	held = 24 * mebi
	// crowd is a number of followers, and crowdMemory bounds by how much they make the
	// manager grow when none of them reads.
	crowd       = 100
	crowdMemory = 80 * mebi
)

// lineOf returns one of 1024 bytes.
func lineOf(i int) string { return fmt.Sprintf("%01023d", i) }

func writeMuch(log *fakekubelet.Log, bytes int) { log.Generate(time.Now(), bytes/1024, lineOf) }

var _ = Describe("A follower of a log", func() {
	DescribeTable("ends the stream at the kubelet at once when it disconnects",
		func(ctx context.Context, written int) {
			r := submit(ctx, 1)
			_, log := r.started(ctx)
			writeMuch(log, written)
			f := open(ctx, editor, r, "")
			Eventually(log.Open).WithContext(ctx).Should(Equal(1))
			Eventually(func() int64 { return log.Streams()[0].Taken() }).WithContext(ctx).Should(BeNumerically(">", 0))
			f.leave()
			Eventually(log.Open).WithContext(ctx).WithTimeout(2 * time.Second).Should(BeZero())
			Consistently(log.Streams).WithTimeout(4*time.Second).Should(HaveLen(1), "nobody asks for it again")
		},
		Entry("while the container writes nothing", 1024),
		Entry("while it does not read what there is", offered),
	)

	It("takes less than 24 MiB of the log while it does not read, and misses no line when it continues", func(ctx context.Context) {
		r := submit(ctx, 1)
		pod, log := r.started(ctx)
		writeMuch(log, offered)
		f := open(ctx, editor, r, "")
		Eventually(log.Open).WithContext(ctx).Should(Equal(1))
		stream := log.Streams()[0]
		Expect(standstill(ctx, stream.Taken)).To(BeNumerically("<", held))
		AddReportEntry(fmt.Sprintf("one follower that does not read took %d KiB of %d", stream.Taken()>>10, offered>>10))

		lines, i := bufio.NewReader(f.response.Body), 0
		go func() {
			defer GinkgoRecover()
			r.end(ctx, pod, 0)
		}()
		for ; ; i++ {
			line, err := lines.ReadString('\n')
			if err == io.EOF {
				break
			}
			Expect(err).NotTo(HaveOccurred())
			if line != lineOf(i)+"\n" {
				Expect(line).To(Equal(lineOf(i) + "\n"))
			}
		}
		Expect(i).To(Equal(offered / 1024))
		Expect(log.Streams()).To(HaveLen(2), "once for the log, and once to see that nothing came after its end")
	}, NodeTimeout(3*time.Minute))

	It("delays no other run, and memory stays bounded, when 100 followers do not read", func(ctx context.Context) {
		r := submit(ctx, 1)
		_, log := r.started(ctx)
		writeMuch(log, offered)
		before := residentBytes(manager)
		for i := range crowd {
			open(ctx, []string{editor, viewer}[i%2], r, "")
		}
		Eventually(log.Open).WithContext(ctx).Should(Equal(crowd))
		taken := standstill(ctx, func() (sum int64) {
			for _, s := range log.Streams() {
				sum += s.Taken()
			}
			return sum
		})
		Expect(taken).To(BeNumerically("<", crowd*held))
		grown := residentBytes(manager) - before
		AddReportEntry(fmt.Sprintf("%d followers that do not read: manager %d MiB before, %d MiB more; %d MiB taken from the kubelet", crowd, before/mebi, grown/mebi, taken/mebi))
		Expect(grown).To(BeNumerically("<", crowdMemory))
		Expect(metric(ctx, `pooledjob_log_requests{connection="target-1"}`)).To(BeEquivalentTo(crowd))

		By("other runs go on over the control connection, which is one")
		other := submit(ctx, 1, annotated(localcluster.DurationAnnotation, "100ms"))
		Eventually(other.latest).WithContext(ctx).WithTimeout(10 * time.Second).Should(haveEnded(v1alpha1.PooledJobSucceeded))
		Expect(metric(ctx, `pooledjob_connection_sockets{connection="target-1"}`)).To(BeEquivalentTo(1))
		pod := other.running(ctx, 1)
		logOf(pod).Print("one")
		Expect(readAs(ctx, third, other, "")).To(haveLog("one\n"), "as another user")
	}, NodeTimeout(3*time.Minute))

	It("counts in pooledjob_log_requests until it disconnects", func(ctx context.Context) {
		r := submit(ctx, 1)
		_, log := r.started(ctx)
		const requests = `pooledjob_log_requests{connection="target-1"}`
		Eventually(func() float64 { return metric(ctx, requests) }).WithContext(ctx).Should(BeZero())
		f := open(ctx, editor, r, "")
		Eventually(log.Open).WithContext(ctx).Should(Equal(1))
		Expect(metric(ctx, requests)).To(BeEquivalentTo(1))
		f.leave()
		Eventually(func() float64 { return metric(ctx, requests) }).WithContext(ctx).Should(BeZero())
	})
})

// standstill waits until a figure has not changed for a second, and returns it.
func standstill(ctx context.Context, figure func() int64) int64 {
	last, since := figure(), time.Now()
	Eventually(func() bool {
		if now := figure(); now != last {
			last, since = now, time.Now()
		}
		return last > 0 && time.Since(since) > time.Second
	}).WithContext(ctx).Should(BeTrue(), "it does not come to a standstill")
	return last
}

// residentBytes returns the memory of a manager, as Linux has it.
func residentBytes(m *localenv.Manager) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.PID()))
	Expect(err).NotTo(HaveOccurred())
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kibi, err := strconv.ParseInt(fields[1], 10, 64)
			Expect(err).NotTo(HaveOccurred())
			return kibi << 10
		}
	}
	Fail("no VmRSS in " + string(status))
	return 0
}

// metric returns a figure of the manager that serves; 0 when there is none.
func metric(ctx context.Context, name string) float64 {
	page, err := manager.Metrics(ctx)
	Expect(err).NotTo(HaveOccurred())
	for line := range strings.Lines(page) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			figure, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			Expect(err).NotTo(HaveOccurred())
			return figure
		}
	}
	return 0
}
