package connpool

import (
	"context"
	"fmt"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// longestSilence is the promise: how long a black hole may stay unknown with the
// default options.
const longestSilence = 20 * time.Second

var _ = Describe("A target that never answers, with the default options", func() {
	It("makes its connection Unreachable within 20 seconds, and delays no other connection", Label("takes 20 s"), func(ctx context.Context) {
		hole := newProxy(cluster.Config().Host)
		r := newRig(defaultOptions)
		r.connect(ctx, target, adminConfig(hole))
		r.connect(ctx, "sound", adminConfig(nil))
		before := r.measure(ctx, "sound", 20)
		contact := r.status().LastContact
		Eventually(ctx, func() time.Time { return r.status().LastContact }).Should(BeTemporally(">", contact))
		hole.hold() // the next probe is as far away as can be
		held := time.Now()

		var during figures
		rounds := time.NewTicker(100 * time.Millisecond)
		defer rounds.Stop()
		for ; r.stateOf(target)() == Ready; <-rounds.C {
			Expect(time.Since(held)).To(BeNumerically("<", longestSilence))
			during.add(r.measure(ctx, "sound", 1))
		}
		known := time.Since(held)
		Expect(r.stateOf(target)()).To(Equal(Unreachable))
		AddReportEntry("black hole", fmt.Sprintf("known after %.1f s; meanwhile of another connection: %s; before: %s",
			known.Seconds(), during, before), ReportEntryVisibilityFailureOrVerbose)
		Expect(known).To(BeNumerically("<", longestSilence))
		Expect(during.calls).NotTo(BeEmpty())
		Expect(median(during.calls)).To(BeNumerically("<", 5*median(before.calls)+50*time.Millisecond))
		Expect(median(during.events)).To(BeNumerically("<", 5*median(before.events)+50*time.Millisecond))
		// One that waited for the hole would take as long as a probe or a dial.
		Expect(slices.Max(during.calls)).To(BeNumerically("<", 3*time.Second))
		Expect(slices.Max(during.events)).To(BeNumerically("<", 3*time.Second))
		Expect(r.transitions()).To(Equal([]State{Ready, Ready, Unreachable}), "the other one was disturbed")
	})

	It("delays no new connection when it is silent from the start", func(ctx context.Context) {
		hole := newProxy(cluster.Config().Host)
		hole.hold()
		r := newRig(defaultOptions)
		connect := func(name string) time.Duration {
			began := time.Now()
			// Without a sound neighbour of the same identity.
			r.connect(ctx, name, adminConfig(newProxy(cluster.Config().Host)))
			return time.Since(began)
		}
		alone := connect("alone")
		const holes = 20
		for i := range holes {
			config := adminConfig(hole)
			config.Token = fmt.Sprint("identity-", i)
			r.pool.Connect(fmt.Sprint("hole-", i), config)
		}
		Eventually(ctx, hole.open).Should(Equal(holes))
		beside := connect("beside")
		Expect(beside).To(BeNumerically("<", 5*alone+time.Second))
		for i := range holes {
			Expect(r.stateOf(fmt.Sprint("hole-", i))()).To(Equal(Connecting), "the others were not under way any more")
		}
	})
})

// defaultOptions leaves the rig nothing but what a pool must be told.
func defaultOptions(o *Options) {
	*o = Options{Selector: o.Selector, KeyLabel: o.KeyLabel, OnState: o.OnState, OnChange: o.OnChange, UserAgent: o.UserAgent, Log: o.Log}
}

// figures are how long calls took, and events of watches.
type figures struct{ calls, events []time.Duration }

func (f *figures) add(more figures) {
	f.calls, f.events = append(f.calls, more.calls...), append(f.events, more.events...)
}

func (f figures) String() string {
	return fmt.Sprintf("%d calls, median %s, at most %s; events, median %s, at most %s", len(f.calls),
		median(f.calls).Round(time.Microsecond), slices.Max(f.calls).Round(time.Microsecond),
		median(f.events).Round(time.Microsecond), slices.Max(f.events).Round(time.Microsecond))
}

// measure makes some calls, and Jobs whose events it waits for, over a connection.
func (r *rig) measure(ctx context.Context, name string, rounds int) (f figures) {
	GinkgoHelper()
	for range rounds {
		began := time.Now()
		Expect(r.lease(name).ReadClusterUID(ctx)).To(Equal(clusterUID))
		f.calls = append(f.calls, time.Since(began))
		began = time.Now()
		job := r.createJob(ctx)
		Eventually(ctx, r.inView(name, job)).WithPolling(time.Millisecond).Should(BeTrue())
		f.events = append(f.events, time.Since(began))
		deleteJob(ctx, job)
	}
	return f
}

func median(durations []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[len(sorted)/2]
}
