package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/follow"
)

// ledger records every Job of ours that ever appears on a target.
type ledger struct {
	mu sync.Mutex
	// jobs are the UIDs of the Jobs, by the PooledJob's UID.
	jobs map[string]map[string]bool
}

// openLedger starts recording the Jobs of the given target until the spec ends.
func openLedger(ctx context.Context, target client.WithWatch) *ledger {
	l := &ledger{jobs: map[string]map[string]bool{}}
	follow.Objects(ctx, target, &batchv1.Job{}, &batchv1.JobList{}, follow.Told[*batchv1.Job]{Is: l.record}, client.HasLabels{v1alpha1.LabelHub})
	return l
}

func (l *ledger) record(job *batchv1.Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	owner := job.Labels[v1alpha1.LabelUID]
	if l.jobs[owner] == nil {
		l.jobs[owner] = map[string]bool{}
	}
	l.jobs[owner][string(job.UID)] = true
}

// of returns how many Jobs there ever were for a PooledJob.
func (l *ledger) of(job *v1alpha1.PooledJob) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.jobs[string(job.UID)])
}

// unlessOnce returns the PooledJobs that did not have exactly one Job, with how many.
func (l *ledger) unlessOnce(jobs []*v1alpha1.PooledJob) []string {
	var others []string
	for _, job := range jobs {
		if n := l.of(job); n != 1 {
			others = append(others, fmt.Sprintf("%s: %d", job.Name, n))
		}
	}
	return others
}

// gossip remembers what was said of objects of the hub that must not be said.
type gossip struct {
	mu    sync.Mutex
	heard []string
}

func (g *gossip) add(text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Contains(g.heard, text) {
		g.heard = append(g.heard, text)
	}
}

func (g *gossip) all() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.heard)
}

// listenForFailures records each PooledJob that is ever said to have failed.
func listenForFailures(ctx context.Context) *gossip {
	g := &gossip{}
	follow.Objects(ctx, hub, &v1alpha1.PooledJob{}, &v1alpha1.PooledJobList{}, follow.Told[*v1alpha1.PooledJob]{Is: func(job *v1alpha1.PooledJob) {
		failed := meta.FindStatusCondition(job.Status.Conditions, v1alpha1.ConditionFailed)
		if failed != nil && failed.Status == metav1.ConditionTrue {
			g.add(fmt.Sprintf("%s: %s: %s", job.Name, failed.Reason, failed.Message))
		} else if job.Status.Phase == v1alpha1.PooledJobFailed {
			g.add(job.Name)
		}
	}}, client.InNamespace("team-a"), client.MatchingLabels(sane))
	return g
}

// listenForOutages records each reason for which the connection of that name is ever said
// to be other than Ready.
func listenForOutages(ctx context.Context, name string) *gossip {
	g := &gossip{}
	follow.Objects(ctx, hub, &v1alpha1.ClusterConnection{}, &v1alpha1.ClusterConnectionList{}, follow.Told[*v1alpha1.ClusterConnection]{Is: func(connection *v1alpha1.ClusterConnection) {
		ready := meta.FindStatusCondition(connection.Status.Conditions, v1alpha1.ConditionReady)
		if connection.Name == name && ready != nil && ready.Status != metav1.ConditionTrue {
			g.add(ready.Reason)
		}
	}})
	return g
}

// sane are the labels of PooledJobs that must succeed.
var sane = map[string]string{"e2e": "succeeds"}

// newSaneJob makes a PooledJob that succeeds.
func newSaneJob(target int, name string, seconds int) *v1alpha1.PooledJob {
	job := newJob(target, name, behaviour{seconds: seconds})
	job.Labels = sane
	return job
}

// phases counts the sane PooledJobs of the hub by phase.
func phases(g Gomega, ctx context.Context) map[v1alpha1.PooledJobPhase]int {
	var jobs v1alpha1.PooledJobList
	g.Expect(hub.List(ctx, &jobs, client.MatchingLabels(sane))).To(Succeed())
	counts := map[v1alpha1.PooledJobPhase]int{}
	for i := range jobs.Items {
		counts[jobs.Items[i].Status.Phase]++
	}
	return counts
}

// expectSuccess has so many sane PooledJobs have ended well; when one has failed there is
// nothing to wait for.
func expectSuccess(g Gomega, ctx context.Context, number int, failures *gossip) {
	if heard := failures.all(); len(heard) > 0 {
		StopTrying("runs were said to have failed").Attach("runs", heard).Now()
	}
	g.Expect(phases(g, ctx)).To(Equal(map[v1alpha1.PooledJobPhase]int{v1alpha1.PooledJobSucceeded: number}))
}

// removeSane deletes the sane PooledJobs and waits until they are gone.
func removeSane(ctx context.Context) {
	Expect(hub.DeleteAllOf(ctx, &v1alpha1.PooledJob{}, client.InNamespace("team-a"), client.MatchingLabels(sane))).To(Succeed())
	Eventually(phases).WithContext(ctx).WithTimeout(patienceForMany).Should(BeEmpty())
}
