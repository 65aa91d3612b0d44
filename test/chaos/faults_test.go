package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/faultproxy"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

// fault is something that goes wrong, and is well again when strike returns.
type fault struct {
	name   string
	strike func(context.Context, *storm)
	// long is true if it is for the long form only.
	long bool
	// early is true if some runs may end only 75 seconds later, when a request to create
	// their Job cannot take effect any more. It comes first in the short form.
	early bool
	scope scope
}

// scope is what a fault disturbs, beside the runs that it is about.
type scope int

const (
	// allOfIt is the manager, or all of its ways.
	allOfIt scope = iota
	// oneTarget is the way to the target that the fault chooses.
	oneTarget
	// onlyRuns is neither.
	onlyRuns
)

// faults are all faults. The short form has each once.
var faults = []fault{
	{name: "the manager is killed", strike: killAtRandom, early: true},
	{name: "the manager is killed at some call", strike: killAtSomeCall, early: true},
	{name: "the manager is killed at another call", strike: killAtSomeCall, early: true},
	{name: "the manager stands still", strike: standStill},
	{name: "the hub's API server restarts", strike: func(ctx context.Context, s *storm) { s.restart(ctx, world.hub, localcluster.APIServer) }},
	{name: "the hub's etcd restarts", strike: func(ctx context.Context, s *storm) { s.restart(ctx, world.hub, localcluster.Etcd) }},
	{name: "a target's API server restarts", strike: restartTarget(localcluster.APIServer), early: true, scope: oneTarget},
	{name: "a target's etcd restarts", strike: restartTarget(localcluster.Etcd), early: true, scope: oneTarget},
	{name: "all connections are cut", strike: cutAll, early: true},
	{name: "the hub's connections are silent", strike: func(ctx context.Context, s *storm) { s.silence(ctx, world.hub, s.seconds(2, 5)) }},
	{name: "a target's connections are silent", strike: func(ctx context.Context, s *storm) { s.silence(ctx, s.target().cluster, s.seconds(2, 6)) }, early: true, scope: oneTarget},
	{name: "a target's connections are silent for long", strike: silentForLong, early: true, scope: oneTarget},
	{name: "a target's API server is gone for long", strike: goneForLong, long: true, scope: oneTarget},
	{name: "a target acts and does not answer", strike: swallowAnswers, early: true, scope: oneTarget},
	{name: "a target answers errors", strike: answerErrors, early: true, scope: oneTarget},
	{name: "the hub answers errors", strike: errorsOfHub},
	{name: "a gateway before a target answers pages", strike: answerPages, early: true, scope: oneTarget},
	{name: "all watches end and have expired", strike: expireWatches},
	{name: "Jobs are deleted on the targets", strike: deleteJobs, scope: onlyRuns},
	{name: "Pods are deleted on the targets", strike: deletePods, scope: onlyRuns},
	{name: "Jobs lose their labels", strike: stripLabels},
	{name: "a credential is replaced", strike: rotate, scope: oneTarget},
	{name: "a credential is not accepted for a while", strike: revoke, scope: oneTarget},
}

// seconds returns a time between two bounds.
func (s *storm) seconds(from, to int) time.Duration {
	return time.Duration(from)*time.Second + time.Duration(s.random.IntN((to-from)*1000+1))*time.Millisecond
}

// target returns one of the seed's choice, to be disturbed.
func (s *storm) target() *target {
	t := world.targets[s.random.IntN(len(world.targets))]
	s.overs = append(s.overs, trouble(t))
	return t
}

// last lets time pass.
func last(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func killAtRandom(ctx context.Context, s *storm) {
	Expect(killManager()).To(Succeed())
	last(ctx, s.seconds(0, 2))
	Expect(relaunch(ctx)).To(Succeed())
}

func standStill(ctx context.Context, s *storm) {
	manager := theManager()
	Expect(manager.Pause()).To(Succeed())
	last(ctx, s.seconds(1, 4))
	Expect(manager.Resume()).To(Succeed())
}

// killAtSomeCall kills the manager before or after one of its next calls that writes.
func killAtSomeCall(ctx context.Context, s *storm) {
	left, moment := 1+s.random.IntN(15), s.moment()
	var mu sync.Mutex
	reached := make(chan string, 1)
	hook := func(m faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
		if call.Method == http.MethodGet || call.Resource == "selfsubjectaccessreviews" || m != moment {
			return faultproxy.Action{}
		}
		mu.Lock()
		left--
		hit := left == 0
		mu.Unlock()
		if !hit {
			return faultproxy.Action{}
		}
		_ = killManager() // what is wrong with it will be seen when it is killed again
		reached <- fmt.Sprintf("%s %s %s", m, call, call.Name)
		return faultproxy.Action{Cut: true}
	}
	hookAll(hook)
	defer hookAll(nil)
	select {
	case at := <-reached:
		s.note("killed %s", at)
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
	}
	Expect(killManager()).To(Succeed())
	hookAll(nil)
	Expect(relaunch(ctx)).To(Succeed())
}

func hookAll(hook faultproxy.Hook) {
	for _, c := range allClusters() {
		c.proxy.SetHook(hook)
	}
}

func (s *storm) moment() faultproxy.Moment {
	if s.random.IntN(2) == 0 {
		return faultproxy.Before
	}
	return faultproxy.After
}

// restart stops a program for a moment.
func (s *storm) restart(ctx context.Context, c *cluster, program localcluster.Program) {
	s.note("%s of %s", program, c.Name())
	Expect(c.StopProgram(program)).To(Succeed())
	last(ctx, s.seconds(0, 2))
	Expect(c.StartProgram(ctx, program)).To(Succeed())
}

func restartTarget(program localcluster.Program) func(context.Context, *storm) {
	return func(ctx context.Context, s *storm) {
		t := s.target()
		s.restart(ctx, t.cluster, program)
		wakeControllers(ctx, t.cluster)
	}
}

// wakeControllers makes a target's own controllers go on at once: after failures they
// let up to a minute pass until they try again, and started anew they do not.
func wakeControllers(ctx context.Context, c *cluster) {
	for _, program := range []localcluster.Program{localcluster.ControllerManager, localcluster.Scheduler, localcluster.Kwok} {
		Expect(c.StopProgram(program)).To(Succeed())
		Expect(c.StartProgram(ctx, program)).To(Succeed())
	}
}

func cutAll(ctx context.Context, s *storm) {
	for range 3 {
		for _, c := range allClusters() {
			c.proxy.Cut()
		}
		last(ctx, s.seconds(0, 1))
	}
}

func (s *storm) silence(ctx context.Context, c *cluster, d time.Duration) {
	s.note("%s for %s", c.Name(), d)
	c.proxy.BlackHole()
	defer c.proxy.Heal()
	last(ctx, d)
}

// outage is how long a target may be unreachable before its ClusterConnection must say
// so.
const outage = 25 * time.Second

func silentForLong(ctx context.Context, s *storm) {
	t := s.target()
	began := time.Now()
	t.proxy.BlackHole()
	defer t.proxy.Heal()
	last(ctx, outage+time.Second)
	s.expectReported(ctx, t, began)
}

func goneForLong(ctx context.Context, s *storm) {
	t := s.target()
	began := time.Now()
	Expect(t.StopProgram(localcluster.APIServer)).To(Succeed())
	last(ctx, outage+s.seconds(1, 60))
	s.expectReported(ctx, t, began)
	Expect(t.StartProgram(ctx, localcluster.APIServer)).To(Succeed())
	wakeControllers(ctx, t.cluster)
}

// expectReported expects the hub to say by now that a target cannot be reached.
func (s *storm) expectReported(ctx context.Context, t *target, began time.Time) {
	s.note("%s since %s", t.Name(), began.Format(clock))
	said := world.said.readyAt(t.Name(), time.Now())
	Expect(said.ready).To(BeFalse(), "%s was unreachable for %s and is said to be Ready, since %s, for reason %s",
		t.Name(), time.Since(began), said.at.Format(clock), said.reason)
	Eventually(inStep).WithContext(ctx).WithArguments(t).WithTimeout(5*time.Second).Should(BeEmpty(), "runs whose status is said to be up to date")
}

// inStep returns the unfinished runs of a target of which the hub says that it follows
// their Jobs.
func inStep(ctx context.Context, t *target) ([]string, error) {
	var list v1alpha1.PooledJobList
	if err := world.hub.client.List(ctx, &list, client.InNamespace(team)); err != nil {
		return nil, err
	}
	var names []string
	for i := range list.Items {
		job := &list.Items[i]
		if job.Spec.ClusterName == t.Name() && job.DeletionTimestamp.IsZero() && endOf(job).String() == "" &&
			meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionSynced) {
			names = append(names, job.Name)
		}
	}
	return names, nil
}

// hook breaks some of the requests to a cluster for a while. choose is called for each
// with a number of the seed's between 0 and 1.
func (s *storm) hook(ctx context.Context, c *cluster, d time.Duration, choose func(faultproxy.Moment, *faultproxy.Call, float64) faultproxy.Action) {
	s.note("%s for %s", c.Name(), d)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(s.random.Uint64(), 0))
	c.proxy.SetHook(func(moment faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
		mu.Lock()
		chance := random.Float64()
		mu.Unlock()
		if call.Resource == "" || call.Watch {
			return faultproxy.Action{}
		}
		return choose(moment, call, chance)
	})
	defer c.proxy.SetHook(nil)
	last(ctx, d)
}

func swallowAnswers(ctx context.Context, s *storm) {
	silence := time.Second
	if long() {
		silence = time.Minute
	}
	s.hook(ctx, s.target().cluster, s.seconds(2, 5), func(moment faultproxy.Moment, call *faultproxy.Call, chance float64) faultproxy.Action {
		if moment == faultproxy.Before || call.Method == http.MethodGet || chance > 0.5 {
			return faultproxy.Action{}
		}
		return faultproxy.Action{Swallow: silence}
	})
}

// refuse answers an error to some. No server says 409 or 429 after it has acted.
func refuse(moment faultproxy.Moment, chance float64) faultproxy.Action {
	codes := []int{http.StatusConflict, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}
	if moment == faultproxy.After {
		codes = codes[2:]
	}
	i := int(chance * 10) // four of ten, or two
	if i >= len(codes) {
		return faultproxy.Action{}
	}
	return faultproxy.Action{Answer: codes[i], RetryAfter: time.Second}
}

func answerErrors(ctx context.Context, s *storm) {
	s.hook(ctx, s.target().cluster, s.seconds(2, 4), func(moment faultproxy.Moment, _ *faultproxy.Call, chance float64) faultproxy.Action {
		return refuse(moment, chance)
	})
}

func errorsOfHub(ctx context.Context, s *storm) {
	s.hook(ctx, world.hub, s.seconds(2, 4), func(moment faultproxy.Moment, call *faultproxy.Call, chance float64) faultproxy.Action {
		if call.Resource == "leases" {
			return faultproxy.Action{} // that is for the specs of the leader
		}
		return refuse(moment, chance)
	})
}

func answerPages(ctx context.Context, s *storm) {
	s.hook(ctx, s.target().cluster, s.seconds(2, 4), func(moment faultproxy.Moment, call *faultproxy.Call, chance float64) faultproxy.Action {
		switch {
		case moment == faultproxy.After:
			return faultproxy.Action{}
		case call.Resource == "jobs" && chance < 0.8:
			return faultproxy.Action{Page: http.StatusNotFound}
		case chance < 0.2:
			return faultproxy.Action{Page: http.StatusBadGateway}
		}
		return faultproxy.Action{}
	})
}

func expireWatches(ctx context.Context, s *storm) {
	hookAll(func(moment faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
		if moment == faultproxy.Before && call.Watch {
			return faultproxy.Action{Answer: http.StatusGone}
		}
		return faultproxy.Action{}
	})
	defer hookAll(nil)
	for _, c := range allClusters() {
		c.proxy.EndWatches()
	}
	last(ctx, s.seconds(0, 2))
}

// victims returns some runs of the crowd whose Job has not ended.
func (s *storm) victims(t *target, number int) []*planned {
	var found []*planned
	for _, uid := range t.truth.unended() {
		if run := s.crowd.of(uid); run != nil && !run.deleted() {
			found = append(found, run)
		}
	}
	s.random.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	return found[:min(number, len(found))]
}

// ours selects the objects of one run.
func ours(uid types.UID) client.MatchingLabels {
	return client.MatchingLabels{v1alpha1.LabelHub: ourHub, v1alpha1.LabelUID: string(uid)}
}

func deleteJobs(ctx context.Context, s *storm) {
	for _, t := range world.targets {
		for _, run := range s.victims(t, 2) {
			// The hub must know the Job: else the next manager might not know that
			// there was one.
			latest := &v1alpha1.PooledJob{}
			if err := world.hub.client.Get(ctx, client.ObjectKeyFromObject(run.job), latest); err != nil || latest.Status.JobRef.UID == "" {
				continue
			}
			run.disturb(true)
			s.note("Job of %s on %s", run.job.Name, t.Name())
			Expect(t.client.DeleteAllOf(ctx, &batchv1.Job{}, client.InNamespace(run.job.Spec.TargetNamespace), ours(run.job.UID),
				client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		}
	}
}

func deletePods(ctx context.Context, s *storm) {
	for _, t := range world.targets {
		for _, run := range s.victims(t, 2) {
			run.disturb(false)
			s.note("Pods of %s on %s", run.job.Name, t.Name())
			Expect(t.client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(run.job.Spec.TargetNamespace), ours(run.job.UID))).To(Succeed())
		}
	}
}

func stripLabels(ctx context.Context, s *storm) {
	for _, t := range world.targets {
		for _, run := range s.victims(t, 2) {
			s.note("Job of %s on %s", run.job.Name, t.Name())
			Expect(strip(ctx, t, run)).To(Succeed())
		}
	}
}

// strippedLabel is on Jobs that strip has stripped.
const strippedLabel = "stripped"

// strip takes our labels off a run's Job. To a watch it looks as if the Job was deleted.
func strip(ctx context.Context, t *target, run *planned) error {
	var jobs batchv1.JobList
	if err := t.client.List(ctx, &jobs, client.InNamespace(run.job.Spec.TargetNamespace), ours(run.job.UID)); err != nil {
		return err
	}
	for i := range jobs.Items {
		// A Job without any labels would get those of its Pods from the API server.
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:null,%q:null,%q:"yes"}}}`, v1alpha1.LabelHub, v1alpha1.LabelUID, strippedLabel)
		err := t.client.Patch(ctx, &jobs.Items[i], client.RawPatch(types.MergePatchType, patch))
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err == nil && jobs.Items[i].Labels[v1alpha1.LabelHub] != "" {
			return fmt.Errorf("Job %s keeps its labels %v", jobs.Items[i].Name, jobs.Items[i].Labels)
		}
	}
	return nil
}

func rotate(ctx context.Context, s *storm) {
	t := s.target()
	old := t.token
	s.tokens++
	t.token = fmt.Sprintf("token-%d-%d", s.number, s.tokens)
	s.note("of %s", t.Name())
	t.proxy.Accept(old, t.token)
	kubeconfig, err := t.proxy.Kubeconfig(t.token)
	Expect(err).NotTo(HaveOccurred())
	secret := &corev1.Secret{}
	Expect(world.hub.client.Get(ctx, client.ObjectKey{Namespace: localenv.Namespace, Name: t.Name()}, secret)).To(Succeed())
	secret.Data["kubeconfig"] = kubeconfig
	Expect(world.hub.client.Update(ctx, secret)).To(Succeed())
	last(ctx, s.seconds(0, 3)) // perhaps too soon
	t.proxy.Accept(t.token)
}

func revoke(ctx context.Context, s *storm) {
	t := s.target()
	s.note("of %s", t.Name())
	t.proxy.Accept()
	defer func() { t.proxy.Accept(t.token) }()
	last(ctx, s.seconds(1, 3))
}
