package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// settling bounds the time from the last fault to the end of the last run. A new manager
// may have to wait 75 seconds before it may say of a run that it has no Job.
const settling = 4 * time.Minute

// crowd are many runs of all kinds on all targets.
type crowd struct {
	ctx    context.Context
	name   string
	random *rand.Rand
	rank   []*kind // who comes next

	mu      sync.Mutex
	runs    []*planned
	byUID   map[types.UID]*planned
	waiting sync.WaitGroup      // for what is done to the runs meanwhile
	undone  map[*planned]string // the runs to which that is not done yet
	failed  []string            // what of that could not be done
}

// newCrowd makes an empty crowd, until the spec ends.
func newCrowd(ctx context.Context, name string, random *rand.Rand) *crowd {
	within, cancel := context.WithCancel(ctx)
	c := &crowd{ctx: within, name: name, random: random, byUID: map[types.UID]*planned{}, undone: map[*planned]string{}}
	DeferCleanup(func() {
		cancel()
		c.waiting.Wait()
	})
	return c
}

// next returns the kind whose turn it is: by weight, in an order of the seed's.
func (c *crowd) next() *kind {
	if len(c.rank) == 0 {
		for _, k := range kinds {
			c.rank = append(c.rank, slices.Repeat([]*kind{k}, k.weight)...)
		}
		c.random.Shuffle(len(c.rank), func(i, j int) { c.rank[i], c.rank[j] = c.rank[j], c.rank[i] })
	}
	k := c.rank[0]
	c.rank = c.rank[1:]
	return k
}

// add creates so many runs. It may be called by one goroutine at a time.
func (c *crowd) add(ctx context.Context, number int) {
	for range number {
		c.mu.Lock()
		n := len(c.runs)
		c.mu.Unlock()
		run := plan(c.next(), world.targets[c.random.IntN(len(world.targets))], fmt.Sprintf("%s-%d", c.name, n), c.random)
		Expect(insist(ctx, func(ctx context.Context) error { return createOnHub(ctx, run.job) })).To(Succeed())
		c.mu.Lock()
		c.runs = append(c.runs, run)
		c.byUID[run.job.UID] = run
		if run.kind.meanwhile != nil {
			c.undone[run] = run.job.Name + ", which " + run.kind.name
		}
		c.mu.Unlock()
		if run.kind.meanwhile != nil {
			c.waiting.Go(func() { c.attend(run) })
		}
	}
}

// attend does to a run what its kind is about.
func (c *crowd) attend(run *planned) {
	err := run.kind.meanwhile(c.ctx, run)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.undone, run)
	if err != nil {
		c.failed = append(c.failed, fmt.Sprintf("%s: %v", run.job.Name, err))
	}
}

// unattended returns the runs to which the suite has still to do what their kind is about.
func (c *crowd) unattended() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Values(c.undone))
}

// all returns the runs.
func (c *crowd) all() []*planned {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.runs)
}

// of returns the run with that UID; nil when it is none of the crowd.
func (c *crowd) of(uid types.UID) *planned {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byUID[uid]
}

// running returns how many of the crowd have a Job that has not ended.
func (c *crowd) running() int {
	n := 0
	for _, t := range world.targets {
		for _, uid := range t.truth.unended() {
			if c.of(uid) != nil {
				n++
			}
		}
	}
	return n
}

// unknown returns how many of the crowd ended without the hub's knowing how.
func (c *crowd) unknown() int {
	n := 0
	for _, run := range c.all() {
		if world.said.of(run.job.UID).end.reason == v1alpha1.ReasonRemoteJobEndUnknown {
			n++
		}
	}
	return n
}

// fewUnsettled is how many unsettled runs are worth a list of all.
const fewUnsettled = 100

// unsettled returns the runs that have not ended or, if they are to go, are not gone, with what the hub
// says of them. While they are many the suite's watch tells, which costs the hub nothing; but what
// went while a watch was broken is known by a list only.
func (c *crowd) unsettled(ctx context.Context) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := slices.Clone(c.failed)
	for _, run := range c.runs {
		if says := world.said.of(run.job.UID); !says.gone && (says.end.String() == "" || run.deleted() || run.kind.expires) {
			open = append(open, fmt.Sprintf("%s, which %s, on %s: %s %v", run.job.Name, run.kind.name, run.job.Spec.ClusterName, says.now.Phase, says.now.Conditions))
		}
	}
	if len(open) > fewUnsettled {
		return open, nil
	}
	open = slices.Clone(c.failed)
	var list v1alpha1.PooledJobList
	if err := world.hub.client.List(ctx, &list, client.InNamespace(team)); err != nil {
		return nil, err
	}
	for i := range list.Items {
		job := &list.Items[i]
		run := c.byUID[job.UID]
		if run != nil && (endOf(job).String() == "" || run.deleted() || run.kind.expires) {
			open = append(open, fmt.Sprintf("%s, which %s, on %s: %s %v", job.Name, run.kind.name, job.Spec.ClusterName, job.Status.Phase, job.Status.Conditions))
		}
	}
	return open, nil
}

// settle waits until all runs have ended, or are gone if they were deleted.
func (c *crowd) settle(ctx context.Context) {
	said := 0
	Eventually(func(ctx context.Context) ([]string, error) {
		open, err := c.unsettled(ctx)
		if n := len(open); err == nil && n > 0 && n < 10 && n != said {
			fmt.Fprintf(GinkgoWriter, "%s not ended yet: %s\n", time.Now().Format(clock), strings.Join(open, "\n\t"))
			said = n
		}
		return open, err
	}).WithContext(ctx).WithTimeout(settling).WithPolling(time.Second).Should(BeEmpty())
	Eventually(c.unattended).WithContext(ctx).Should(BeEmpty())
	Expect(c.unsettled(ctx)).To(BeEmpty())
}
