package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/faultproxy"
)

// killPoint is a moment in a run's life: the n-th call of a sort, before or after it.
type killPoint struct {
	call   string // such as "hub PATCH pooledjobs/status"
	number int    // from 1
	moment faultproxy.Moment
}

func (p killPoint) String() string { return fmt.Sprintf("%s %s #%d", p.moment, p.call, p.number) }

// trail are the calls of the manager that belong to one run, while it is the only one.
type trail struct {
	mu    sync.Mutex
	calls []string
	// at is where onReach is called, once.
	at      *killPoint
	onReach func()
	reached bool
	// underWay is how many calls have no answer yet.
	underWay int
	// restarted reports whether the manager could be started again after it was killed.
	restarted chan error
}

// lay has the proxies of some clusters tell of each call.
func (t *trail) lay(run *planned, clusters ...*cluster) {
	for _, c := range clusters {
		name := "target"
		if c == world.hub {
			name = "hub"
		}
		c.proxy.SetHook(func(moment faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
			if !belongs(call, run) {
				return faultproxy.Action{}
			}
			return t.pass(moment, name+" "+call.String())
		})
	}
}

// belongs reports whether a call is one of a run's life: no watch, no probe, nothing of the
// leader election, of ClusterConnections or of the manager's start.
func belongs(call *faultproxy.Call, run *planned) bool {
	switch {
	case call.Watch:
		return false
	case call.Resource == "pooledjobs":
		return call.Name == run.job.Name
	case call.Resource == "jobs":
		return call.Name == "" && call.Method == http.MethodPost || strings.HasPrefix(call.Name, run.job.Name)
	case call.Resource == "pods":
		return call.Namespace != "" // not the informer's
	case call.Resource == "events":
		return call.Namespace == run.job.Namespace
	case call.Resource == "namespaces":
		return call.Name == "kube-system"
	default:
		return false
	}
}

// pass notes a call, and acts when it is the one.
func (t *trail) pass(moment faultproxy.Moment, call string) faultproxy.Action {
	t.mu.Lock()
	if moment == faultproxy.Before {
		t.calls = append(t.calls, call)
		t.underWay++
	} else {
		t.underWay--
	}
	hit := t.at != nil && !t.reached && t.at.moment == moment && t.at.call == call && t.count(call) == t.at.number
	t.reached = t.reached || hit
	t.mu.Unlock()
	if !hit {
		return faultproxy.Action{}
	}
	t.onReach()
	return faultproxy.Action{Cut: true}
}

func (t *trail) count(call string) int {
	n := 0
	for _, c := range t.calls {
		if c == call {
			n++
		}
	}
	return n
}

// points returns all moments of the calls so far.
func (t *trail) points() []killPoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := map[string]int{}
	var all []killPoint
	for _, call := range t.calls {
		seen[call]++
		for _, moment := range []faultproxy.Moment{faultproxy.Before, faultproxy.After} {
			all = append(all, killPoint{call, seen[call], moment})
		}
	}
	return all
}

// awaitAnswers waits until no call is under way, for two seconds at most: the suite's watch may
// tell what a call has done before its answer has passed the proxy.
func (t *trail) awaitAnswers(ctx context.Context) {
	for range 20 {
		t.mu.Lock()
		settled := t.reached || t.underWay == 0
		t.mu.Unlock()
		if settled {
			return
		}
		last(ctx, 100*time.Millisecond)
	}
}

func (t *trail) wasReached() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reached
}

// live takes a run from its creation to its end, and checks that.
func live(ctx context.Context, run *planned) {
	Expect(createOnHub(ctx, run.job)).To(Succeed())
	if run.kind.meanwhile != nil {
		// A request that may still arrive is waited for, where finished Jobs are collected.
		within, cancel := context.WithTimeout(ctx, 3*time.Minute)
		defer cancel()
		Expect(run.kind.meanwhile(within, run)).To(Succeed())
	}
	latest := &v1alpha1.PooledJob{}
	Eventually(func(g Gomega) {
		err := world.hub.client.Get(ctx, client.ObjectKeyFromObject(run.job), latest)
		if run.deleted() || run.kind.expires {
			g.Expect(client.IgnoreNotFound(err)).To(Succeed())
			g.Expect(err).To(HaveOccurred(), "the deleted PooledJob is still there")
			return
		}
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(endOf(latest).String()).NotTo(BeEmpty())
	}).WithContext(ctx).WithTimeout(2 * time.Minute).Should(Succeed())
	expectClean(ctx, run)
}

// remove deletes a run's PooledJob, and expects that nothing of it is left.
func remove(ctx context.Context, run *planned) {
	Expect(client.IgnoreNotFound(world.hub.client.Delete(ctx, run.job.DeepCopy()))).To(Succeed())
	Eventually(remaining).WithContext(ctx).WithTimeout(2 * time.Minute).ShouldNot(ContainElement(run.job.Name))
	removeKept(ctx)
	left, err := leftBehind(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(left).NotTo(ContainElement(ContainSubstring(run.job.Name + "-")))
	expectOnce(run)
}

// expectClean expects the ledger to have nothing against the runs.
func expectClean(ctx context.Context, runs ...*planned) {
	// A watch or an audit log may be a moment late.
	Eventually(func() []string { return openLedger().check(ctx, runs) }).WithContext(ctx).WithTimeout(5 * time.Second).Should(BeEmpty())
}

// expectOnce expects runs whose PooledJobs are gone to have had their one Job.
func expectOnce(runs ...*planned) {
	l := openLedger()
	for _, run := range runs {
		jobs := HaveLen(1)
		if run.kind.noJob {
			jobs = BeEmpty()
		} else if world.said.of(run.job.UID).end.reason == v1alpha1.ReasonRemoteJobEndUnknown {
			jobs = Or(BeEmpty(), HaveLen(1)) // the manager may have been killed before it sent a request
		}
		Expect(l.jobsOf(run.job.UID)).To(jobs, "%s\n%s", run.job.Name, strings.Join(l.lines[run.job.UID], "\n"))
	}
}

// survive has a fresh run live through a kill at one point. Its PooledJob is deleted if
// it takes that to reach the point: the next manager takes its time with the deletion of
// a run that it did not begin, and the other runs need not wait for it.
func survive(ctx context.Context, run *planned, point killPoint) (reached bool) {
	t := killAt(ctx, run, point, allClusters()...)
	defer hookAll(nil)
	live(ctx, run)
	if !t.wasReached() {
		remove(ctx, run)
		t.awaitAnswers(ctx)
	}
	if t.wasReached() {
		Eventually(t.restarted).WithContext(ctx).Should(Receive(BeNil()))
		awaitConnected(ctx)
	}
	return t.wasReached()
}

// killAt has the manager killed at one point of a run's life, if its way there leads by one
// of the clusters, and started again.
func killAt(ctx context.Context, run *planned, point killPoint, clusters ...*cluster) *trail {
	t := &trail{at: &point, restarted: make(chan error, 1)}
	t.onReach = func() {
		err := killManager()
		go func() {
			if err == nil {
				err = relaunch(ctx)
			}
			t.restarted <- err
		}()
	}
	t.lay(run, clusters...)
	return t
}

var _ = Describe("The manager, killed at each of its calls", Ordered, ContinueOnFailure, func() {
	BeforeAll(func(ctx context.Context) {
		DeferCleanup(heal)
		startManager(ctx)
	})

	// Whatever a kind, it must also bear that finished Jobs are collected on all targets.
	for n := range 2 * len(kinds) {
		i, collects, title := n/2, n%2 == 1, "one Job and its correct end"
		k := kinds[i]
		if collects {
			title = "at most one Job and no wrong end on targets that collect Jobs"
		}
		It("gives a run of kind "+k.name+" "+title, func(ctx context.Context) {
			if n > 0 && !long() {
				Skip("the short form has one kind, and no target that collects: some points take 75 seconds there")
			}
			random := rand.New(rand.NewPCG(settings.seed, 0))
			name := func(n int) string { return fmt.Sprintf("kill-%d-%d", i, n) }
			if collects {
				name = func(n int) string { return fmt.Sprintf("kill-collected-%d-%d", i, n) }
				for _, t := range world.targets {
					DeferCleanup(setTTLs(ctx, t))
				}
			}
			run := plan(k, world.targets[i%len(world.targets)], name(0), random)
			calm := &trail{}
			calm.lay(run, allClusters()...)
			live(ctx, run)
			remove(ctx, run)
			hookAll(nil)
			points := calm.points()
			AddReportEntry("calls", strings.Join(calm.calls, "\n"))
			Expect(points).NotTo(BeEmpty())
			var missed []string
			runs := []*planned{run}
			for n, point := range points {
				if k.name == "waits-for-its-namespace" {
					removeLateNamespaces(ctx)
				}
				run := plan(k, world.targets[(i+n)%len(world.targets)], name(n+1), random)
				runs = append(runs, run)
				began := time.Now()
				By(point.String())
				if !survive(ctx, run, point) {
					missed = append(missed, point.String())
				}
				fmt.Fprintf(GinkgoWriter, "%s: %s\n", point, time.Since(began).Round(time.Millisecond))
			}
			removeAll(ctx)
			expectOnce(runs...)
			// How often a status is written and a target asked depends on the time; all else
			// does not.
			missed = slices.DeleteFunc(missed, func(point string) bool {
				again := strings.Contains(point, "pooledjobs/status #") || strings.Contains(point, "target GET ")
				return again && !strings.HasSuffix(point, "#1")
			})
			Expect(missed).To(BeEmpty(), "kill points that were not reached")
		}, NodeTimeout(2*time.Hour))
	}
})
