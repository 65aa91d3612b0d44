package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// kind is a way in which a run can go.
type kind struct {
	name string
	// weight is how many of a storm's runs are of it, of all weights together.
	weight int
	// shape makes the template and the rest of the spec what the kind needs. The
	// Job that it gets runs one Pod to success.
	shape func(*v1alpha1.PooledJobSpec, *rand.Rand)
	// end is how such a run ends when nobody disturbs its Job or Pods.
	end expected
	// noJob is true if there may be no Job.
	noJob bool
	// meanwhile is what the suite does to the run itself, if anything. It returns when
	// that is done or ctx is.
	meanwhile func(context.Context, *planned) error
	// expires is true if the PooledJob goes by itself.
	expires bool
	// moves is true if the run may be moved to another cluster.
	moves bool
	// slow is true if the run takes more than a few seconds.
	slow bool
	// keepsJob is true if the Job stays when the PooledJob is deleted, without the hub's
	// label. The suite removes it in the end.
	keepsJob bool
}

// expected is how a run ends. An empty exit code means that there is none, "*" that it
// may or may not be known.
type expected struct {
	phase            v1alpha1.PooledJobPhase
	reason, exitCode string
}

func (e expected) matches(says end) bool {
	return e.phase == says.phase && e.reason == says.reason && (e.exitCode == "*" || e.exitCode == says.exitCode)
}

// planned is a run of a kind.
type planned struct {
	kind   *kind
	job    *v1alpha1.PooledJob
	target *target

	mu        sync.Mutex
	lost      time.Time // when its Job was about to be deleted behind the manager's back
	disturbed bool
	removed   bool
	kept      *batchv1.Job // the Job as it was when the PooledJob that lets it stay was about to be deleted
	fenced    *target      // where a Job may be that was given up by a fence
}

// disturb notes that something is about to be done that may change how the run ends.
func (p *planned) disturb(lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disturbed = true
	if lost && p.lost.IsZero() {
		p.lost = time.Now()
	}
}

func (p *planned) lostAt() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *planned) isDisturbed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.disturbed
}

// deleted reports whether the suite has deleted the PooledJob.
func (p *planned) deleted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.removed
}

// kinds are all kinds.
var kinds = []*kind{
	{
		name: "succeeds", weight: 8,
		shape: func(spec *v1alpha1.PooledJobSpec, random *rand.Rand) { lasts(spec, random.IntN(3000)) },
		end:   expected{v1alpha1.PooledJobSucceeded, batchv1.JobReasonCompletionsReached, "0"},
	},
	{
		name: "works-for-long", weight: 5, slow: true,
		shape: func(spec *v1alpha1.PooledJobSpec, random *rand.Rand) { lasts(spec, 5_000+random.IntN(10_000)) },
		end:   expected{v1alpha1.PooledJobSucceeded, batchv1.JobReasonCompletionsReached, "0"},
	},
	{
		name: "fails", weight: 4,
		shape: func(spec *v1alpha1.PooledJobSpec, random *rand.Rand) { exits(spec, 3, random.IntN(3000)) },
		end:   expected{v1alpha1.PooledJobFailed, batchv1.JobReasonBackoffLimitExceeded, "3"},
	},
	{
		name: "fails-again", weight: 2, slow: true,
		shape: func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) {
			exits(spec, 4, 500)
			spec.Template.Spec.BackoffLimit = number(1)
		},
		end: expected{v1alpha1.PooledJobFailed, batchv1.JobReasonBackoffLimitExceeded, "4"},
	},
	{
		name: "parallel", weight: 2,
		shape: func(spec *v1alpha1.PooledJobSpec, random *rand.Rand) {
			lasts(spec, random.IntN(1000))
			spec.Template.Spec.Completions, spec.Template.Spec.Parallelism = number(4), number(2)
		},
		end: expected{v1alpha1.PooledJobSucceeded, batchv1.JobReasonCompletionsReached, "0"},
	},
	{
		name: "indexed", weight: 2,
		shape: func(spec *v1alpha1.PooledJobSpec, random *rand.Rand) {
			lasts(spec, random.IntN(1000))
			mode := batchv1.IndexedCompletion
			spec.Template.Spec.CompletionMode = &mode
			spec.Template.Spec.Completions, spec.Template.Spec.Parallelism = number(3), number(3)
		},
		end: expected{v1alpha1.PooledJobSucceeded, batchv1.JobReasonCompletionsReached, "0"},
	},
	{
		name: "removed-while-it-runs", weight: 2,
		shape:     func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) { lasts(spec, 3600_000) },
		meanwhile: removeWhenItRuns,
	},
	{
		name: "loses-its-job", weight: 2,
		shape:     func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) { lasts(spec, 3600_000) },
		meanwhile: deleteJobWhenItRuns,
		end:       expected{v1alpha1.PooledJobFailed, v1alpha1.ReasonRemoteJobDeleted, "*"},
	},
	{
		name: "takes-too-long", weight: 2,
		shape: func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) {
			lasts(spec, 3600_000)
			deadline := int64(2)
			spec.Template.Spec.ActiveDeadlineSeconds = &deadline
		},
		end: expected{v1alpha1.PooledJobFailed, batchv1.JobReasonDeadlineExceeded, "*"},
	},
	{
		name: "waits-for-its-namespace", weight: 1, slow: true,
		shape:     func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) { spec.TargetNamespace = late },
		meanwhile: createNamespace,
		end:       expected{v1alpha1.PooledJobSucceeded, batchv1.JobReasonCompletionsReached, "0"},
	},
	{
		name: "is-refused", weight: 1, noJob: true,
		shape: func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) {
			spec.Template.Spec.Template.Spec.Containers[0].Name = "No_Name"
		},
		end: expected{v1alpha1.PooledJobFailed, v1alpha1.ReasonRejected, ""},
	},
	{
		name: "goes-anywhere", weight: 2,
		shape: func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) {
			spec.ClusterName, spec.ClusterSelector = "", &v1alpha1.LabelSelector{}
		},
		end: expected{v1alpha1.PooledJobSucceeded, batchv1.JobReasonCompletionsReached, "0"},
	},
	{
		name: "may-move", weight: 2, moves: true,
		shape: func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) {
			spec.ClusterName, spec.ClusterSelector = "", &v1alpha1.LabelSelector{}
			spec.Failover.AfterSeconds = 2
		},
		end: expected{v1alpha1.PooledJobSucceeded, batchv1.JobReasonCompletionsReached, "0"},
	},
	{
		name: "is-cancelled", weight: 2,
		shape:     func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) { lasts(spec, 3600_000) },
		meanwhile: cancelWhenItRuns,
		end:       expected{v1alpha1.PooledJobFailed, v1alpha1.ReasonCancelled, "*"},
	},
	{
		name: "is-held-at-first", weight: 2,
		shape: func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) {
			yes := true
			spec.Suspend = &yes
		},
		meanwhile: resumeWhenItIsHeld,
		end:       expected{v1alpha1.PooledJobSucceeded, batchv1.JobReasonCompletionsReached, "0"},
	},
	{
		name: "goes-by-itself", weight: 2, expires: true,
		shape: func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) { spec.TTLSecondsAfterFinished = number(1) },
		end:   expected{v1alpha1.PooledJobSucceeded, batchv1.JobReasonCompletionsReached, "0"},
	},
	{
		name: "comes-too-late", weight: 1, noJob: true, slow: true,
		shape: func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) {
			spec.TargetNamespace, spec.DispatchDeadlineSeconds = never, 5
		},
		end: expected{v1alpha1.PooledJobFailed, v1alpha1.ReasonDispatchDeadlineExceeded, ""},
	},
	{
		name: "keeps-its-job", weight: 2, keepsJob: true,
		shape: func(spec *v1alpha1.PooledJobSpec, _ *rand.Rand) {
			lasts(spec, 3600_000)
			spec.DeletionPolicy = v1alpha1.DeletionPolicyOrphan
			spec.Template.Labels = map[string]string{keptLabel: "yes"}
		},
		meanwhile: removeAndKeepWhenItRuns,
	},
}

// plan makes a run of a kind. It is not created yet.
func plan(k *kind, t *target, name string, random *rand.Rand) *planned {
	job := fixtures.PooledJob(team, name, fixtures.On(t.Name(), []string{team, batch}[random.IntN(2)]),
		fixtures.PodAnnotations(map[string]string{localcluster.DurationAnnotation: "200ms"}))
	job.Labels = map[string]string{"chaos": k.name}
	k.shape(&job.Spec, random)
	return &planned{kind: k, job: job, target: t}
}

func number(n int32) *int32 { return &n }

// lasts has the Pods run for so long.
func lasts(spec *v1alpha1.PooledJobSpec, milliseconds int) {
	spec.Template.Spec.Template.Annotations[localcluster.DurationAnnotation] = fmt.Sprintf("%dms", milliseconds+100)
}

// exits has the Pods fail after so long.
func exits(spec *v1alpha1.PooledJobSpec, code, milliseconds int) {
	lasts(spec, milliseconds)
	spec.Template.Spec.Template.Annotations[localcluster.ExitCodeAnnotation] = fmt.Sprint(code)
}

// insist does something until it succeeds: the hub or the target may be in trouble.
func insist(ctx context.Context, do func(context.Context) error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := do(one)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// untilItRuns waits for the hub to say that a Pod has started: then the hub knows the
// Job, and whatever happens to that must not bring about another one.
func (p *planned) untilItRuns(ctx context.Context) error {
	return p.until(ctx, v1alpha1.PooledJobRunning)
}

// until waits for the hub to say that phase, or that the run has ended. It goes by the suite's watch,
// because hundreds of runs wait at a time and each request would cost the hub.
func (p *planned) until(ctx context.Context, wanted v1alpha1.PooledJobPhase) error {
	return insist(ctx, func(context.Context) error {
		says := world.said.of(p.job.UID)
		if says.now.Phase != wanted && says.end.String() == "" && !says.gone {
			return fmt.Errorf("%s is %q", p.job.Name, says.now.Phase)
		}
		return nil
	})
}

// change changes the spec of a run.
func (p *planned) change(ctx context.Context, spec string) error {
	return insist(ctx, func(ctx context.Context) error {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":`+spec+`}`))
		return world.hub.client.Patch(ctx, p.job.DeepCopy(), patch)
	})
}

func cancelWhenItRuns(ctx context.Context, p *planned) error {
	if err := p.untilItRuns(ctx); err != nil {
		return err
	}
	return p.change(ctx, `{"cancel":true}`)
}

func resumeWhenItIsHeld(ctx context.Context, p *planned) error {
	if err := p.until(ctx, v1alpha1.PooledJobSuspended); err != nil {
		return err
	}
	return p.change(ctx, `{"suspend":false}`)
}

func removeWhenItRuns(ctx context.Context, p *planned) error {
	if err := p.untilItRuns(ctx); err != nil {
		return err
	}
	return p.removeNow(ctx)
}

// removeNow deletes the PooledJob, whatever trouble the hub is in.
func (p *planned) removeNow(ctx context.Context) error {
	p.mu.Lock()
	p.removed = true
	p.mu.Unlock()
	return insist(ctx, func(ctx context.Context) error {
		return client.IgnoreNotFound(world.hub.client.Delete(ctx, p.job.DeepCopy()))
	})
}

func deleteJobWhenItRuns(ctx context.Context, p *planned) error {
	if err := p.untilItRuns(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	p.lost = time.Now()
	p.mu.Unlock()
	return insist(ctx, func(ctx context.Context) error {
		return client.IgnoreNotFound(p.target.client.DeleteAllOf(ctx, &batchv1.Job{}, client.InNamespace(p.job.Spec.TargetNamespace),
			client.MatchingLabels{v1alpha1.LabelUID: string(p.job.UID), v1alpha1.LabelHub: ourHub}, client.PropagationPolicy(metav1.DeletePropagationBackground)))
	})
}

// createNamespace creates what the run waits for, a moment after it has begun to.
func createNamespace(ctx context.Context, p *planned) error {
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
	}
	return insist(ctx, func(ctx context.Context) error {
		err := p.target.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: late}})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
}

// removeLateNamespaces makes the next storm's runs wait for them again.
func removeLateNamespaces(ctx context.Context) {
	for _, t := range world.targets {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: late}}
		Expect(client.IgnoreNotFound(t.client.Delete(ctx, namespace))).To(Succeed())
	}
	for _, t := range world.targets {
		Eventually(func() bool {
			err := t.client.Get(ctx, client.ObjectKey{Name: late}, &corev1.Namespace{})
			return apierrors.IsNotFound(err)
		}).WithContext(ctx).WithTimeout(2 * time.Minute).Should(BeTrue())
	}
}
