package connpool

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// wakeTime bounds how long an Idle connection may take to be Ready again.
const wakeTime = 2 * time.Second

var _ = Describe("A connection that sleeps", func() {
	It("keeps no socket and at most one goroutine, and does not wake by itself", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newHistory()
		before := runtime.NumGoroutine()
		lease := r.connect(ctx, target, adminConfig(p))
		Expect(socketsTo(p.address)).To(Equal(1))
		r.pool.Sleep(target)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Idle))
		Eventually(ctx, p.open).Should(BeZero())
		Eventually(ctx, socketsTo).WithArguments(p.address).Should(BeZero())
		// One waits for the connection to be needed.
		Eventually(ctx, runtime.NumGoroutine).Should(BeNumerically("<=", before+1), goroutines)
		expectClosed(ctx, lease)
		Expect(r.status().Err).NotTo(HaveOccurred())
		Expect(r.status().ClusterUID).To(Equal(clusterUID), "what was known is kept")

		job := r.createJob(ctx)
		r.pool.Connect(target, adminConfig(p)) // as it is on every resync
		Consistently(ctx, r.stateOf(target)).Should(Equal(Idle))
		Expect(r.changesOf(job.Name)()).To(BeZero())
		Expect(p.dialled()).To(Equal(1))
		Expect(r.of(target)).To(Equal([]State{Ready, Idle}))
		r.pool.Disconnect(target)
		Eventually(ctx, runtime.NumGoroutine).Should(BeNumerically("<=", before), goroutines)
	})

	It("ends its watches at the server, and sends no more requests", func(ctx context.Context) {
		ca := newAuthority()
		g, r := newGateway(ca, realServer(), "user"), newRig()
		r.connect(ctx, target, withToken(g.config(ca), "user"))
		Expect(g.watchesOf("")()).To(Equal(2))
		r.pool.Sleep(target)
		Eventually(ctx, g.watchesOf("")).Should(BeZero())
		Eventually(ctx, g.open).Should(BeEmpty())
		asked := len(g.seen(func(visit) bool { return true }))
		Consistently(ctx, func() int { return len(g.seen(func(visit) bool { return true })) }).Should(Equal(asked))
	})

	It("wakes when a lease is asked for, and then shows what has changed", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newHistory()
		r.connect(ctx, target, adminConfig(p))
		kept, deleted := r.createJob(ctx), r.createJob(ctx)
		Eventually(ctx, r.inView(target, kept)).Should(BeTrue())
		Eventually(ctx, r.inView(target, deleted)).Should(BeTrue())
		r.pool.Sleep(target)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Idle))
		deleteJob(ctx, deleted)
		created := r.createJob(ctx)

		_, err := r.pool.Lease(target, "")
		Expect(err).To(MatchError("connection target is Connecting"))
		Eventually(ctx, r.stateOf(target)).WithTimeout(wakeTime).Should(Equal(Ready))
		Expect(jobsIn(r.lease(target))).To(ConsistOf("default/"+kept.Name, "default/"+created.Name))
		Expect(r.createThrough(ctx, target)).To(Succeed())
		Eventually(ctx, r.of).WithArguments(target).Should(Equal([]State{Ready, Idle, Connecting, Ready}), "nobody was told that it can be leased")
		Expect(p.dialled()).To(Equal(2))
		Expect(p.open()).To(Equal(1))
	})

	It("sleeps and wakes many times without leaking sockets or goroutines", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		before := runtime.NumGoroutine()
		r.connect(ctx, target, adminConfig(p))
		for range 5 {
			r.pool.Sleep(target)
			Eventually(ctx, r.stateOf(target)).Should(Equal(Idle))
			Eventually(ctx, r.leaseError).WithTimeout(wakeTime).Should(Succeed())
		}
		Expect(p.dialled()).To(Equal(6))
		Eventually(ctx, p.open).Should(Equal(1))
		r.pool.Disconnect(target)
		Eventually(ctx, runtime.NumGoroutine).Should(BeNumerically("<=", before), goroutines)
	})

	It("becomes Ready again when a lease is asked for at the same moment", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		r.connect(ctx, target, adminConfig(p))
		for range 10 {
			r.pool.Sleep(target)
			lease, err := r.pool.Lease(target, "")
			if err == nil { // of the session that ends, or of one that goes on
				_, err = lease.ReadClusterUID(ctx)
			}
			if err != nil {
				Expect(err).To(Or(MatchError(ErrClosed), MatchError(ContainSubstring("connection target is"))))
			}
			Eventually(ctx, func(g Gomega) {
				g.Expect(r.stateOf(target)()).To(Equal(Ready))
				g.Expect(r.lease(target).ReadClusterUID(ctx)).To(Equal(clusterUID))
			}).WithTimeout(wakeTime).Should(Succeed())
		}
		Eventually(ctx, p.open).Should(Equal(1))
	})

	It("becomes Idle only after a call that is under way has ended", func(ctx context.Context) {
		s, r := newAPIServer(), newHistory()
		lease := r.connect(ctx, target, s.config("token"))
		hook, release := holdUp()
		s.answer(jobPath, func(w http.ResponseWriter, q *http.Request) {
			hook(w, q)
			w.WriteHeader(http.StatusNotFound)
		})
		ended := getJob(ctx, lease)
		Eventually(ctx, func() []request { return s.asked(jobPath) }).Should(HaveLen(1))
		r.pool.Sleep(target)
		Consistently(ctx, ended).WithTimeout(200 * time.Millisecond).ShouldNot(Receive())
		release()
		Eventually(ctx, ended).Should(Receive(Satisfy(apierrors.IsNotFound)), "what the target said is lost")
		Eventually(ctx, r.stateOf(target)).Should(Equal(Idle))
		Expect(r.of(target)).To(Equal([]State{Ready, Idle}))
	})

	It("wakes when a lease is asked for while an earlier call is still under way", func(ctx context.Context) {
		s, r := newAPIServer(), newHistory()
		lease := r.connect(ctx, target, s.config("token"))
		hook, release := holdUp()
		s.answer(jobPath, hook)
		ended := getJob(ctx, lease)
		Eventually(ctx, func() []request { return s.asked(jobPath) }).Should(HaveLen(1))
		r.pool.Sleep(target)
		Eventually(ctx, func() error { _, err := lease.Job("default", "job"); return err }).Should(MatchError(ErrClosed))
		Eventually(ctx, r.leaseError).WithTimeout(wakeTime).Should(Succeed())
		Expect(ended).NotTo(Receive(), "a call under way was cut")
		release()
	})

	It("keeps a shared TCP connection open until all connections that use it sleep", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newHistory()
		r.connect(ctx, target, adminConfig(p))
		lease := r.connect(ctx, other, adminConfig(p))
		r.pool.Sleep(target)
		job := r.createJob(ctx)
		Eventually(ctx, r.inView(other, job)).Should(BeTrue())
		Consistently(ctx, r.of).WithArguments(other).Should(Equal([]State{Ready}))
		Expect(lease.ReadClusterUID(ctx)).To(Equal(clusterUID))
		Expect(p.open()).To(Equal(1))
		r.lease(target) // what others use needs no waking
		Expect(p.dialled()).To(Equal(1))

		r.pool.Sleep(other)
		Consistently(ctx, p.open).Should(Equal(1), "the lease did not end the sleep")
		r.pool.Sleep(target)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Idle))
		Eventually(ctx, r.stateOf(other)).Should(Equal(Idle))
		Eventually(ctx, p.open).Should(BeZero())

		Eventually(ctx, func() error { _, err := r.pool.Lease(other, ""); return err }).WithTimeout(wakeTime).Should(Succeed())
		r.pool.Disconnect(other)
		Eventually(ctx, p.open).Should(BeZero(), "the one that is left sleeps")
		Eventually(ctx, r.stateOf(target)).Should(Equal(Idle))
	})

	It("ignores Sleep while it is not Ready", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newHistory()
		r.pool.Sleep(target) // there is none
		p.down()
		r.pool.Connect(target, adminConfig(p))
		r.pool.Sleep(target)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Unreachable))
		r.pool.Sleep(target)
		Consistently(ctx, r.of).WithArguments(target).Should(Equal([]State{Unreachable}))
		p.up(ctx)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		Consistently(ctx, r.of).WithArguments(target).Should(Equal([]State{Unreachable, Ready}))
	})

	It("becomes Unreachable when it wakes while its target is down, and Ready when that is back", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newHistory()
		r.connect(ctx, target, adminConfig(p))
		r.pool.Sleep(target)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Idle))
		p.down()
		Consistently(ctx, r.stateOf(target)).Should(Equal(Idle))
		Expect(r.leaseError()).To(HaveOccurred())
		Eventually(ctx, r.stateOf(target)).Should(Equal(Unreachable))
		p.up(ctx)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		Eventually(ctx, r.of).WithArguments(target).Should(Equal([]State{Ready, Idle, Connecting, Unreachable, Ready}))
	})
})

// socketsTo counts the TCP connections to an address that the operating system
// knows of, but for those whose both ends are closed.
func socketsTo(address string) int {
	GinkgoHelper()
	if runtime.GOOS != "linux" {
		Skip("there is no /proc/net/tcp")
	}
	_, port, err := net.SplitHostPort(address)
	Expect(err).NotTo(HaveOccurred())
	number, err := strconv.Atoi(port)
	Expect(err).NotTo(HaveOccurred())
	table, err := os.Open("/proc/self/net/tcp")
	Expect(err).NotTo(HaveOccurred())
	defer table.Close()
	const remote, state, timeWait = 2, 3, "06"
	count := 0
	for lines := bufio.NewScanner(table); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if strings.HasSuffix(fields[remote], fmt.Sprintf(":%04X", number)) && fields[state] != timeWait {
			count++
		}
	}
	return count
}
