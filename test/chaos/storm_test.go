package chaos

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// clock is how the history tells the time.
const clock = "15:04:05.000"

// storm is a crowd of runs under faults.
type storm struct {
	number int // of the storms of this suite
	random *rand.Rand
	crowd  *crowd
	tokens int
	// overs end the troubles of the fault that strikes.
	overs []func()

	history []string
}

// note adds to the history of the faults.
func (s *storm) note(format string, args ...any) {
	line := time.Now().Format(clock) + " " + fmt.Sprintf(format, args...)
	s.history = append(s.history, line)
	fmt.Fprintln(GinkgoWriter, line)
}

// rage has all faults strike, in an order of the seed's. Meanwhile new runs come.
func (s *storm) rage(ctx context.Context) {
	var turns []fault
	for _, i := range s.random.Perm(len(faults)) {
		if !faults[i].long || long() {
			turns = append(turns, faults[i])
		}
	}
	if !long() {
		slices.SortStableFunc(turns, func(a, b fault) int { return cmp.Compare(rank(a), rank(b)) })
	}
	for i, f := range turns {
		s.note("%s", strings.ToUpper(f.name))
		fresh := s.addMeanwhile(ctx, (settings.jobs-len(s.crowd.all()))/(len(turns)-i))
		s.strike(ctx, f)
		s.note("it is over")
		last(ctx, s.seconds(0, 1)/3)
		Eventually(fresh).WithContext(ctx).WithTimeout(settling).Should(BeClosed())
	}
}

// strike has a fault strike, and the ledger know whom.
func (s *storm) strike(ctx context.Context, f fault) {
	if f.scope == allOfIt {
		s.overs = append(s.overs, trouble())
	}
	f.strike(ctx, s)
	for _, over := range s.overs {
		over()
	}
	s.overs = nil
}

func rank(f fault) int {
	if f.early {
		return 0
	}
	return 1
}

// addMeanwhile creates runs beside whatever else happens, within some seconds.
func (s *storm) addMeanwhile(ctx context.Context, number int) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer GinkgoRecover()
		defer close(done)
		for range number {
			s.crowd.add(ctx, 1)
			last(ctx, 2*time.Second/time.Duration(number))
		}
	}()
	return done
}

// weather one storm: runs are created while the faults strike; in the end all must be as
// if nothing had been.
func weather(ctx context.Context, number int) {
	s := &storm{number: number, random: rand.New(rand.NewPCG(settings.seed, uint64(2*number+10)))}
	s.crowd = newCrowd(ctx, fmt.Sprintf("storm-%d", number), rand.New(rand.NewPCG(settings.seed, uint64(2*number+11))))
	defer func() {
		if CurrentSpecReport().Failed() {
			AddReportEntry("faults", strings.Join(s.history, "\n"))
		}
	}()
	which, undo := collectSome(ctx, rand.New(rand.NewPCG(settings.seed, uint64(number+1000))))
	s.note("finished Jobs are collected: %s", which)
	began := time.Now()
	s.crowd.add(ctx, settings.jobs/3)
	for _, t := range world.targets {
		t.foreign.claim(ctx, s.crowd.all()[0].job)
	}
	s.rage(ctx)
	s.note("all faults are over after %s", time.Since(began).Round(time.Second))
	awaitConnected(ctx)
	s.crowd.settle(ctx)
	s.note("all runs have ended after %s", time.Since(began).Round(time.Second))
	s.note("of %d the end is not known", s.crowd.unknown())
	expectClean(ctx, s.crowd.all()...)
	removeAll(ctx)
	s.note("all is gone after %s", time.Since(began).Round(time.Second))
	expectClean(ctx) // also of what was deleted last
	removeLateNamespaces(ctx)
	undo(ctx)
}

// It has the machine for itself: what it looks for is what faults do, and not what load does.
var _ = Describe("A storm of faults", Serial, func() {
	It("neither loses, duplicates nor misreports a run", func(ctx context.Context) {
		DeferCleanup(heal)
		startManager(ctx)
		began := time.Now()
		for number := 0; number == 0 || time.Since(began) < settings.duration; number++ {
			By(fmt.Sprintf("storm %d", number))
			weather(ctx, number)
		}
	}, NodeTimeout(365*24*time.Hour))
})
