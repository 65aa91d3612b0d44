package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

const (
	// collectingPolicy is the name of the policy that gives Jobs a TTL.
	collectingPolicy = "collect-finished-jobs"
	// policyTTL is that TTL, in seconds.
	policyTTL = 1
	// managersTTL is what the manager puts in its place: 30 days, in seconds.
	managersTTL = 30 * 24 * 60 * 60
	// scriptPause is the time between two looks of a script for finished Jobs.
	scriptPause = 200 * time.Millisecond
)

// collecting is when finished Jobs of a target were collected, and by what.
type collecting struct{ byPolicy, byScript spans }

func (c *collecting) during(from, to time.Time) bool {
	return c.byPolicy.overlap(from, to) || c.byScript.overlap(from, to)
}

// setTTLs has a target give each new Job of the suite's namespaces a short TTL, as an
// administrator might who wants finished Jobs to go, until the returned func is called.
func setTTLs(ctx context.Context, t *target) (undo func(context.Context)) {
	over := t.collects.byPolicy.begin()
	objects := []client.Object{policyOfTTLs(), &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: collectingPolicy},
		Spec:       admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: collectingPolicy},
	}}
	for _, object := range objects {
		Expect(t.client.Create(ctx, object)).To(Succeed())
	}
	awaitTTL(ctx, t, HaveValue(BeEquivalentTo(policyTTL)))
	return func(ctx context.Context) {
		for _, object := range objects {
			Expect(client.IgnoreNotFound(t.client.Delete(ctx, object))).To(Succeed())
		}
		awaitTTL(ctx, t, BeNil())
		over()
	}
}

// policyOfTTLs sets the TTL of Jobs that come without one.
func policyOfTTLs() *admissionregistrationv1.MutatingAdmissionPolicy {
	fail, equivalent, namespaced := admissionregistrationv1.Fail, admissionregistrationv1.Equivalent, admissionregistrationv1.NamespacedScope
	return &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: collectingPolicy},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			FailurePolicy: &fail, ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionregistrationv1.MatchResources{
				MatchPolicy: &equivalent, ObjectSelector: &metav1.LabelSelector{},
				NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
					Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: []string{team, batch, late, never},
				}}},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule: admissionregistrationv1.Rule{
						APIGroups: []string{batchv1.GroupName}, APIVersions: []string{"v1"}, Resources: []string{"jobs"}, Scope: &namespaced,
					},
				}}},
			},
			MatchConditions: []admissionregistrationv1.MatchCondition{{Name: "none-yet", Expression: "!has(object.spec.ttlSecondsAfterFinished)"}},
			Mutations: []admissionregistrationv1.Mutation{{
				PatchType: admissionregistrationv1.PatchTypeApplyConfiguration,
				ApplyConfiguration: &admissionregistrationv1.ApplyConfiguration{
					Expression: fmt.Sprintf("Object{spec: Object.spec{ttlSecondsAfterFinished: %d}}", policyTTL),
				},
			}},
		},
	}
}

// awaitTTL waits until a new Job would have such a TTL: an API server takes a moment to
// notice a policy.
func awaitTTL(ctx context.Context, t *target, ttl OmegaMatcher) {
	Eventually(func(g Gomega) {
		for _, namespace := range []string{team, batch} {
			job := t.foreign.strange(namespace, "tried-out", nil)
			g.Expect(t.client.Create(ctx, job, client.DryRunAll)).To(Succeed())
			g.Expect(job.Spec.TTLSecondsAfterFinished).To(ttl)
		}
	}).WithContext(ctx).Should(Succeed())
}

// runScript has a script delete the finished Jobs of a target until the returned func is
// called. It leaves those alone that the hub does not know: if the manager is killed just then,
// the next one may not know that there was one, which is a limit that it has.
func runScript(ctx context.Context, t *target) (stop func()) {
	over := t.collects.byScript.begin()
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() {
		for within.Err() == nil {
			_ = sweep(within, t) // the hub or the target may be in trouble; there is a next time
			last(within, scriptPause)
		}
	})
	return func() {
		cancel()
		running.Wait()
		over()
	}
}

// sweep deletes the finished Jobs of a target that the hub knows.
func sweep(ctx context.Context, t *target) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var jobs batchv1.JobList
	if err := t.client.List(ctx, &jobs, client.MatchingLabels{v1alpha1.LabelHub: ourHub}); err != nil {
		return err
	}
	finished := slices.DeleteFunc(jobs.Items, func(job batchv1.Job) bool { return !hasFinished(&job) || job.DeletionTimestamp != nil })
	if len(finished) == 0 {
		return nil
	}
	var runs v1alpha1.PooledJobList
	if err := world.hub.client.List(ctx, &runs, client.InNamespace(team)); err != nil {
		return err
	}
	known := map[string]bool{}
	for i := range runs.Items {
		known[runs.Items[i].Status.JobRef.UID] = true
	}
	for i := range finished {
		if job := &finished[i]; known[string(job.UID)] {
			if err := collect(ctx, t, job); err != nil {
				return err
			}
		}
	}
	return nil
}

// collect deletes a finished Job, as scripts do. What it was is in the books before that.
func collect(ctx context.Context, t *target, job *batchv1.Job) error {
	t.truth.ofJob(job)
	return client.IgnoreNotFound(t.client.Delete(ctx, job, client.Preconditions{UID: &job.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground)))
}

func hasFinished(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed)
	})
}

// collectSome has some targets, or all, collect finished Jobs by a policy, and one by a
// script, as the seed says. It tells which, and how to end it.
func collectSome(ctx context.Context, random *rand.Rand) (which string, undo func(context.Context)) {
	turns := random.Perm(len(world.targets))
	policies := turns[:1]
	if random.IntN(3) == 0 {
		policies = turns
	}
	var undos []func(context.Context)
	var words []string
	for _, i := range policies {
		undos = append(undos, setTTLs(ctx, world.targets[i]))
		words = append(words, world.targets[i].Name()+" by a policy")
	}
	scripted := world.targets[turns[1]]
	stop := runScript(ctx, scripted)
	undos = append(undos, func(context.Context) { stop() })
	var once sync.Once
	undo = func(ctx context.Context) {
		once.Do(func() {
			for _, undo := range undos {
				undo(ctx)
			}
		})
	}
	DeferCleanup(undo)
	return strings.Join(append(words, scripted.Name()+" by a script"), ", "), undo
}
