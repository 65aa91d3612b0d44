package chaos

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

// settings are what the environment says of how much to do.
var settings struct {
	seed     uint64
	jobs     int
	duration time.Duration // 0 in the short form
	dir      string        // what the programs write is in
}

func TestChaos(t *testing.T) {
	localcluster.SkipIfShort(t)
	RegisterFailHandler(Fail)
	EnforceDefaultTimeoutsWhenUsingContexts()
	SetDefaultEventuallyTimeout(time.Minute)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	RunSpecs(t, "Chaos")
}

var _ = BeforeSuite(func(ctx context.Context) {
	readSettings()
	dir, err := os.MkdirTemp("", "pooledjob-chaos-")
	Expect(err).NotTo(HaveOccurred())
	settings.dir = dir
	DeferCleanup(removeLogs) // after the programs of the world have ended
	startWorld(ctx, dir)
	failed = false
})

// failed is true until the world of this process is there, and once a spec of it has failed.
var failed = true

var _ = ReportAfterEach(func(report SpecReport) { failed = failed || report.Failed() })

// removeLogs removes what the programs wrote, unless somebody will look at it.
func removeLogs() {
	fmt.Fprintf(os.Stderr, "CHAOS_SEED=%d\n", settings.seed)
	if failed || os.Getenv("CHAOS_KEEP") != "" {
		fmt.Fprintf(os.Stderr, "The logs of all programs are in %s\n", settings.dir)
		return
	}
	Expect(os.RemoveAll(settings.dir)).To(Succeed())
}

func readSettings() {
	settings.seed, settings.jobs = uint64(GinkgoRandomSeed()), 150
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		Expect(err).NotTo(HaveOccurred(), "CHAOS_SEED")
		settings.seed = seed
	}
	if text := os.Getenv("CHAOS_DURATION"); text != "" {
		duration, err := time.ParseDuration(text)
		Expect(err).NotTo(HaveOccurred(), "CHAOS_DURATION")
		settings.duration = duration
	}
	if text := os.Getenv("CHAOS_JOBS"); text != "" {
		jobs, err := strconv.Atoi(text)
		Expect(err).NotTo(HaveOccurred(), "CHAOS_JOBS")
		settings.jobs = jobs
	}
	AddReportEntry("seed", settings.seed)
	fmt.Fprintf(GinkgoWriter, "CHAOS_SEED=%d CHAOS_JOBS=%d CHAOS_DURATION=%s\n", settings.seed, settings.jobs, settings.duration)
}

// long reports whether the long form runs.
func long() bool { return settings.duration > 0 }

// managerFlags are those of every manager of the suite.
var managerFlags = []string{"--zap-devel=false"}

// launch starts a manager.
func launch(ctx context.Context, flags ...string) (*localenv.Manager, error) {
	return world.env.Launch(ctx, append(flags, managerFlags...)...)
}
