package connpool

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// The soak runs SOAK_CYCLES cycles, or until SOAK_DURATION has passed. SOAK_SEED
// makes it do the same again.
const (
	defaultCycles = 40
	warmUpCycles  = 20
)

var _ = Describe("A pool in a soak test", func() {
	It("leaks nothing over many cycles of connecting, rotating, idling, cuts and removals", Label("soak"), func(ctx context.Context) {
		seed := uint64(soakNumber("SOAK_SEED", int(time.Now().UnixNano()%1e6)))
		dice := rand.New(rand.NewPCG(seed, seed))
		s := newSoak(ctx)
		s.note("seed %d (SOAK_SEED)", seed)
		for range warmUpCycles {
			s.cycle(ctx, dice)
		}
		start := s.settled(ctx)
		s.note("after the warm-up: %s", start)

		began, cycles := time.Now(), 0
		for s.goesOn(began, cycles) {
			s.cycle(ctx, dice)
			if cycles++; cycles%500 == 0 {
				s.note("after %d cycles, %s: %s", cycles, time.Since(began).Round(time.Second), s.settled(ctx))
			}
		}
		s.note("%d cycles in %s, %v", cycles, time.Since(began).Round(time.Second), s.done)
		var end usage
		Eventually(ctx, func() []string {
			end = s.settled(ctx)
			return end.above(start)
		}).WithTimeout(time.Minute).Should(BeEmpty(), goroutines)
		s.note("at the end: %s", end)

		for name := range s.endpoints {
			s.pool.Disconnect(name)
		}
		Eventually(ctx, s.series).Should(BeEmpty())
		Eventually(ctx, reflectors).Should(BeZero())
		Eventually(ctx, s.sockets).Should(BeZero())
	})
})

// soak is a pool, the servers that it connects to, and what is done to them.
type soak struct {
	*quietRig
	figures   func() map[string]float64
	endpoints map[string]*endpoint
	done      map[string]int // how often what was done
}

// endpoint is a server behind a proxy, and the identities that it knows.
type endpoint struct {
	proxy      *proxy
	fake       *apiserver // nil for the real one
	identities []Config
	use        int // which of them
}

func newSoak(ctx context.Context) *soak {
	s := &soak{quietRig: newQuietRig(func(o *Options) {
		o.ProbeInterval, o.WatchRenewal = 200*time.Millisecond, 5*time.Second
	}), endpoints: map[string]*endpoint{}, done: map[string]int{}}
	s.figures = s.registry()
	group := grantGroup(ctx)
	for i := range 3 {
		genuine := &endpoint{proxy: newProxy(cluster.Config().Host)}
		fake := &endpoint{fake: newAPIServer()}
		fake.proxy = newProxy(fake.fake.URL)
		for j := range 2 {
			user := groupConfig(fmt.Sprintf("soak-%d-%d", i, j), group)
			user.Server = "https://" + genuine.proxy.address
			genuine.identities = append(genuine.identities, user)
			bearer := fake.fake.config(fmt.Sprint("token-", j))
			bearer.Server = "https://" + fake.proxy.address
			fake.identities = append(fake.identities, bearer)
		}
		s.endpoints[fmt.Sprint("real-", i)], s.endpoints[fmt.Sprint("fake-", i)] = genuine, fake
	}
	for name, e := range s.endpoints {
		s.pool.Connect(name, e.identities[0])
		Eventually(ctx, s.stateOf(name)).Should(Equal(Ready), name)
	}
	return s
}

// note writes into the report, and at once where somebody watches.
func (s *soak) note(format string, values ...any) {
	text := fmt.Sprintf(format, values...)
	AddReportEntry("soak", text, ReportEntryVisibilityFailureOrVerbose)
}

// goesOn reports whether there is another cycle.
func (s *soak) goesOn(began time.Time, cycles int) bool {
	if d := soakDuration(); d > 0 {
		return time.Since(began) < d
	}
	return cycles < soakNumber("SOAK_CYCLES", defaultCycles)
}

// cycle does one thing to one connection, and waits until it is Ready after it.
func (s *soak) cycle(ctx context.Context, dice *rand.Rand) {
	GinkgoHelper()
	things := map[string]func(context.Context, string, *endpoint){
		"connect again": s.connectAgain, "rotate": s.rotate, "rotate in vain": s.rotateInVain, "idle and wake": s.idleAndWake,
		"cut": s.cut, "down and up": s.downAndUp, "remove": s.remove, "remove at once": s.removeAtOnce,
	}
	what := slices.Sorted(maps.Keys(things))[dice.IntN(len(things))]
	name := slices.Sorted(maps.Keys(s.endpoints))[dice.IntN(len(s.endpoints))]
	e := s.endpoints[name]
	things[what](ctx, name, e)
	s.done[what]++
	Eventually(ctx, s.stateOf(name)).Should(Equal(Ready), "%s after: %s", name, what)
	if e.fake == nil {
		// Right after a cut a call may be lost with its connection.
		Eventually(ctx, func() (string, error) { return s.lease(name).ReadClusterUID(ctx) }).Should(Equal(clusterUID))
		return
	}
	e.fake.mu.Lock()
	defer e.fake.mu.Unlock()
	e.fake.requests = nil // what it remembers is no leak
}

func (s *soak) connectAgain(_ context.Context, name string, e *endpoint) {
	s.pool.Connect(name, e.identities[e.use])
}

func (s *soak) rotate(ctx context.Context, name string, e *endpoint) {
	GinkgoHelper()
	e.use = 1 - e.use
	config := e.identities[e.use]
	s.pool.Connect(name, config)
	Eventually(ctx, func() string {
		status, _ := s.pool.Status(name)
		return status.IdentityHash
	}).Should(Equal(config.Hash()), "%s does not rotate", name)
}

// rotateInVain brings an identity that does not work, and takes it back.
func (s *soak) rotateInVain(ctx context.Context, name string, e *endpoint) {
	GinkgoHelper()
	config := e.identities[e.use]
	config.TLSServerName = "another.example"
	s.pool.Connect(name, config)
	Eventually(ctx, func() State {
		if status, _ := s.pool.Status(name); status.Next != nil {
			return status.Next.State
		}
		return ""
	}).Should(Equal(Unreachable))
	s.pool.Connect(name, e.identities[e.use])
}

func (s *soak) idleAndWake(ctx context.Context, name string, e *endpoint) {
	GinkgoHelper()
	s.pool.Sleep(name)
	Eventually(ctx, s.stateOf(name)).Should(Equal(Idle))
	Eventually(ctx, e.proxy.open).Should(BeZero(), "%s is Idle", name)
	_, err := s.pool.Lease(name, "")
	Expect(err).To(HaveOccurred())
}

func (s *soak) cut(_ context.Context, _ string, e *endpoint) { e.proxy.cut() }

func (s *soak) downAndUp(ctx context.Context, name string, e *endpoint) {
	GinkgoHelper()
	e.proxy.down()
	Eventually(ctx, s.stateOf(name)).Should(Equal(Unreachable))
	e.proxy.up(ctx)
}

func (s *soak) remove(ctx context.Context, name string, e *endpoint) {
	GinkgoHelper()
	s.pool.Disconnect(name)
	Eventually(ctx, e.proxy.open).Should(BeZero(), "%s is removed", name)
	s.pool.Connect(name, e.identities[e.use])
}

// removeAtOnce does not wait for the end of one before it begins another.
func (s *soak) removeAtOnce(_ context.Context, name string, e *endpoint) {
	for range 5 {
		s.pool.Disconnect(name)
		s.pool.Connect(name, e.identities[e.use])
	}
}

// usage is what a process uses.
type usage map[string]int

// settled returns what is used when all are Ready with their first identities, so that it
// can be compared.
func (s *soak) settled(ctx context.Context) usage {
	GinkgoHelper()
	for name, e := range s.endpoints {
		if e.use != 0 {
			s.rotate(ctx, name, e)
		}
		Eventually(ctx, s.stateOf(name)).Should(Equal(Ready), name)
		Eventually(ctx, e.proxy.open).Should(Equal(1), name)
	}
	Eventually(ctx, func(g Gomega) {
		g.Expect(reflectors()).To(Equal(2 * len(s.endpoints)))
		g.Expect(s.sockets()).To(Equal(len(s.endpoints)))
		for name := range s.endpoints {
			g.Expect(s.stateOf(name)()).To(Equal(Ready), name)
		}
	}).Should(Succeed())
	files, err := os.ReadDir("/proc/self/fd")
	Expect(err).NotTo(HaveOccurred())
	return usage{
		"goroutines": runtime.NumGoroutine(), "file descriptors": len(files), "sockets of the process": len(ownSockets()),
		"sockets of the pool": s.sockets(), "informers": reflectors(), "metric series": len(s.series()),
	}
}

// above returns those that are higher than before: by more than 2 %, and by more than 2.
func (u usage) above(before usage) (higher []string) {
	for name, now := range u {
		if allowed := max(before[name]*2/100, 2); now > before[name]+allowed {
			higher = append(higher, fmt.Sprintf("%s: %d, before %d", name, now, before[name]))
		}
	}
	return higher
}

func (u usage) String() string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(u)) {
		words = append(words, fmt.Sprintf("%s %d", name, u[name]))
	}
	return strings.Join(words, ", ")
}

// sockets returns as many as the pool says.
func (s *soak) sockets() (open int) {
	for name, value := range s.figures() {
		if strings.HasPrefix(name, "sockets{") {
			open += int(value)
		}
	}
	return open
}

// series returns the pool's, without those that tell how often something happened, of
// which there is one more with each new cause.
func (s *soak) series() []string {
	return slices.DeleteFunc(names(s.figures()), func(name string) bool { return strings.HasPrefix(name, "reconnects_total{") })
}

// reflectors counts the informers that list and watch, by their goroutines.
func reflectors() int {
	stacks := make([]byte, 8<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*informer).run(")
}

func soakNumber(variable string, otherwise int) int {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	number, err := strconv.Atoi(text)
	Expect(err).NotTo(HaveOccurred(), variable)
	return number
}

func soakDuration() time.Duration {
	text := os.Getenv("SOAK_DURATION")
	if text == "" {
		return 0
	}
	duration, err := time.ParseDuration(text)
	Expect(err).NotTo(HaveOccurred(), "SOAK_DURATION")
	return duration
}
