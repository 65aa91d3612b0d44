package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gtypes "github.com/onsi/gomega/types"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// ending is a run and how it ends.
type ending struct {
	title string
	name  string
	main  string // the script of its container main
	with  func(*batchv1.JobSpec)
	// act is what is done to the run while it lives.
	act func(context.Context, *v1alpha1.PooledJob)
	end gtypes.GomegaMatcher
}

// Scripts of containers. They wait for each other, for those of the run's other Pods
// and for the spec by files in a folder that all of them share; see sharedFile.
const (
	// awaitTerm runs until SIGTERM, and exits as a shell does of which that is the end.
	awaitTerm = `trap 'exit 143' TERM; touch /shared/runs; sleep 1000 & wait`
	// firstIndex has index 0 exit with 42 while index 1 runs, which SIGTERM ends with 7.
	firstIndex = `if [ $JOB_COMPLETION_INDEX = 1 ]; then trap 'exit 7' TERM; touch /shared/runs; sleep 1000 & wait; fi; ` +
		awaitRuns + `; exit 42`
	awaitRuns = `until [ -e /shared/runs ]; do sleep 0.1; done`
	awaitTold = `until [ -e /shared/told ]; do sleep 0.1; done`
	// again is true in every try but the first.
	again = `{ [ -e /shared/tried ] || ! touch /shared/tried; }`
)

// decidedEndings are those of which several containers tell something.
var decidedEndings = []ending{{
	title: "It is that of the main container, when the sidecar is stopped after it.",
	name:  "sidecar-stopped", main: awaitRuns + `; exit 3`,
	with: sidecar(awaitTerm), end: endWith(3),
}, {
	title: "It is that of the main container, when the sidecar has to be killed after it.",
	name:  "sidecar-killed", main: awaitRuns + `; exit 3`,
	with: sidecar(`touch /shared/runs; exec sleep 1000`), end: endWith(3),
}, {
	title: "It is that of the main container, when the sidecar has failed before it.",
	name:  "sidecar-crashing", main: `touch /shared/runs; ` + awaitTold + `; sleep 2; exit 3`,
	with: sidecar(awaitRuns + `; touch /shared/told; exit 1`), end: endWith(3),
}, {
	title: "It is that of the Pod that counted, when a policy had the Job ignore the first.",
	name:  "ignored", main: again + ` && exit 3; exit 42`,
	with: failurePolicy(batchv1.PodFailurePolicyActionIgnore), end: endWith(3),
}, {
	title: "It is that of the Pod for which a policy failed the Job, not of one that was stopped then.",
	name:  "fail-job", main: firstIndex,
	with: func(spec *batchv1.JobSpec) {
		twoIndexes(spec)
		spec.BackoffLimit = new(int32(3))
		failurePolicy(batchv1.PodFailurePolicyActionFailJob)(spec)
	},
	end: And(endWith(42), failFor(batchv1.JobReasonPodFailurePolicy)),
}, {
	title: "It is that of the index that was one too many, not of one that was stopped then.",
	name:  "failed-index", main: firstIndex,
	with: func(spec *batchv1.JobSpec) {
		twoIndexes(spec)
		spec.BackoffLimit, spec.BackoffLimitPerIndex, spec.MaxFailedIndexes = nil, new(int32(0)), new(int32(0))
	},
	end: And(endWith(42), failFor(batchv1.JobReasonMaxFailedIndexesExceeded)),
}, {
	title: "It is that of the try that failed, when the next is stopped in the same Pod.",
	name:  "restarted-once", main: again + ` || exit 5; trap 'exit 9' TERM; sleep 1000 & wait`,
	with: func(spec *batchv1.JobSpec) {
		spec.BackoffLimit, spec.Template.Spec.RestartPolicy = new(int32(1)), corev1.RestartPolicyOnFailure
	},
	end: And(endWith(5), failFor(batchv1.JobReasonBackoffLimitExceeded)),
}, {
	title: "It is that of the last try, when the container has a rule by which the first is repeated.",
	name:  "restart-rule", main: again + ` && exit 3; exit 42`,
	with: func(spec *batchv1.JobSpec) {
		main := &spec.Template.Spec.Containers[0]
		main.RestartPolicy = new(corev1.ContainerRestartPolicyNever)
		main.RestartPolicyRules = []corev1.ContainerRestartRule{{
			Action:    corev1.ContainerRestartRuleActionRestart,
			ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
		}}
	},
	end: endWith(3),
}, {
	title: "It is that of the Pod that came after the run was resumed, not of the one that was stopped before.",
	name:  "resumed", main: again + ` && exit 3; ` + awaitTerm,
	act: func(ctx context.Context, job *v1alpha1.PooledJob) {
		eventuallyRuns(ctx, job)
		change(ctx, job, `{"suspend":true}`)
		Eventually(latest(job)).WithContext(ctx).Should(havePhase(v1alpha1.PooledJobSuspended))
		Eventually(podsOf).WithContext(ctx).WithArguments(job).Should(BeEmpty())
		change(ctx, job, `{"suspend":false}`)
	},
	end: endWith(3),
}, {
	title: "It has the message of the first container of the template, whatever the names are.",
	name:  "both-tell", main: `printf 'from main' >/dev/termination-log; touch /shared/told`,
	with: func(spec *batchv1.JobSpec) {
		spec.Template.Spec.Containers[0].Name = "zz-main"
		addContainer("aa-helper", awaitTold+`; sleep 1; printf 'from helper' >/dev/termination-log`)(spec)
	},
	end: And(endWith(0), resultIn("Message", Equal("from main"))),
}, {
	title: "It says which container has ended while another goes on, and then has its exit code.",
	name:  "one-goes-on", main: `exit 5`,
	with: addContainer("helper", awaitTold),
	act: func(ctx context.Context, job *v1alpha1.PooledJob) {
		Eventually(latest(job)).WithContext(ctx).Should(And(havePhase(v1alpha1.PooledJobRunning),
			resultIn("Reason", Equal(v1alpha1.ResultContainerEnded)), resultIn("ExitCode", BeNil()), resultIn("PodName", Not(BeEmpty())),
			resultIn("Message", And(ContainSubstring("main"), ContainSubstring("helper"), MatchRegexp(`\b5\b`)))))
		tell(job)
	},
	end: endWith(5),
}, {
	title: "It is that of the Job's Pod, not of one that somebody else gave its labels.",
	name:  "imitated", main: `touch /shared/runs; ` + awaitTold + `; exit 3`,
	act: func(ctx context.Context, job *v1alpha1.PooledJob) {
		imitation := imitate(ctx, job, eventuallyRuns(ctx, job))
		DeferCleanup(func(ctx context.Context) { Expect(targetOf(job).Delete(ctx, imitation)).To(Succeed()) })
		Eventually(podNow(job, imitation)).WithContext(ctx).Should(HaveField("Status.Phase", corev1.PodFailed))
		tell(job)
	},
	end: And(endWith(3), resultIn("PodName", HavePrefix("imitated-"))),
}, {
	title: "It is without an exit code, and nothing is missing, when the Job needs no Pod.",
	name:  "nothing-to-do", main: `exit 3`,
	with: func(spec *batchv1.JobSpec) { spec.Completions = new(int32(0)) },
	end:  And(havePhase(v1alpha1.PooledJobSucceeded), resultIn("ExitCode", BeNil()), resultIn("Reason", Not(Equal(v1alpha1.ResultPodGone)))),
}}

// stoppedEndings are those of a container that SIGTERM ends.
var stoppedEndings = []ending{{
	title: "It tells of an eviction, and the exit code of the container.",
	name:  "evicted", main: awaitTerm,
	act: func(ctx context.Context, job *v1alpha1.PooledJob) {
		pod := eventuallyRuns(ctx, job)
		Expect(targetOf(job).SubResource("eviction").Create(ctx, pod, &policyv1.Eviction{})).To(Succeed())
	},
	end: And(endWith(143), resultIn("Reason", Equal("EvictionByEvictionAPI")), resultIn("Message", Equal("Eviction API: evicting"))),
}, {
	title: "It is the exit code of the container, when somebody deletes the Pod.",
	name:  "pod-deleted", main: awaitTerm,
	act: func(ctx context.Context, job *v1alpha1.PooledJob) {
		Expect(targetOf(job).Delete(ctx, eventuallyRuns(ctx, job))).To(Succeed())
	},
	end: endWith(143),
}, {
	title: "It tells that the Job had no more time, and the exit code of the container.",
	name:  "out-of-time", main: awaitTerm,
	with: deadline(20), // with time for its start, beside that of all the others
	end:  And(endWith(143), failFor(batchv1.JobReasonDeadlineExceeded), resultIn("Reason", Equal(batchv1.JobReasonDeadlineExceeded))),
}, {
	title: "It tells that the run was cancelled, and the exit code of the container.",
	name:  "cancelled-running", main: awaitTerm,
	act: func(ctx context.Context, job *v1alpha1.PooledJob) {
		eventuallyRuns(ctx, job)
		change(ctx, job, `{"cancel":true}`)
	},
	end: And(endWith(143), failFor(v1alpha1.ReasonCancelled), resultIn("Reason", Equal(v1alpha1.ReasonCancelled))),
}, {
	title: "It is the exit code of the container that ran, when the run's other Pod had no node.",
	name:  "cancelled-half", main: awaitTerm,
	with: oneOfTwo("cancelled-half"),
	act: func(ctx context.Context, job *v1alpha1.PooledJob) {
		Eventually(sharedFile).WithContext(ctx).WithArguments(job, "runs").Should(BeAnExistingFile())
		Eventually(latest(job)).WithContext(ctx).Should(resultIn("Reason", Equal("Unschedulable")))
		change(ctx, job, `{"cancel":true}`)
	},
	end: And(endWith(143), failFor(v1alpha1.ReasonCancelled), resultIn("Reason", Equal(v1alpha1.ReasonCancelled))),
}, {
	title: "It is that of the Pod that failed, when the run's other Pod had no node.",
	name:  "failed-half", main: awaitTold + `; exit 3`,
	with: oneOfTwo("failed-half"),
	act: func(ctx context.Context, job *v1alpha1.PooledJob) {
		Eventually(latest(job)).WithContext(ctx).Should(resultIn("Reason", Equal("Unschedulable")))
		tell(job)
	},
	end: endWith(3),
}}

// unstartedEndings are those of which no container runs.
var unstartedEndings = []ending{{
	title: "It tells that no node had room, when the Job has no more time.",
	name:  "no-room",
	with: func(spec *batchv1.JobSpec) {
		spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500")}
		deadline(6)(spec)
	},
	end: And(failFor(batchv1.JobReasonDeadlineExceeded), unstarted("Unschedulable")),
}, {
	title: "It tells that the image could not be pulled, when the Job has no more time.",
	name:  "no-registry",
	with: func(spec *batchv1.JobSpec) {
		spec.Template.Spec.Containers[0].Image = "127.0.0.1:1/none:v1"
		deadline(15)(spec)
	},
	end: And(failFor(batchv1.JobReasonDeadlineExceeded), unstarted("ErrImagePull", "ImagePullBackOff")),
}, {
	title: "It tells that the image is not there, when the Job has no more time.",
	name:  "no-image",
	with: func(spec *batchv1.JobSpec) {
		withoutImage(spec)
		deadline(15)(spec)
	},
	end: And(failFor(batchv1.JobReasonDeadlineExceeded), unstarted("ErrImageNeverPull")),
}, {
	title: "It tells that the image is not there, when the run is cancelled.",
	name:  "no-image-cancelled",
	with:  withoutImage,
	act: func(ctx context.Context, job *v1alpha1.PooledJob) {
		Eventually(latest(job)).WithContext(ctx).Should(resultIn("Reason", Equal("ErrImageNeverPull")))
		change(ctx, job, `{"cancel":true}`)
	},
	end: And(failFor(v1alpha1.ReasonCancelled), unstarted("ErrImageNeverPull")),
}, {
	title: "It tells why the Job has no Pod, in the words of the target's Events.",
	name:  "no-account",
	with:  func(spec *batchv1.JobSpec) { spec.Template.Spec.ServiceAccountName = "nobody" },
	act:   cancelWhenItTells("FailedCreate", `serviceaccount "nobody" not found`),
	end:   And(failFor(v1alpha1.ReasonCancelled), unstarted("FailedCreate")),
}, {
	title: "It tells what a volume is missing, in the words of the target's Events.",
	name:  "no-secret",
	with: func(spec *batchv1.JobSpec) {
		spec.Template.Spec.Volumes = append(spec.Template.Spec.Volumes, corev1.Volume{
			Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "missing"}},
		})
		main := &spec.Template.Spec.Containers[0]
		main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: "secret", MountPath: "/secret"})
	},
	act: cancelWhenItTells("FailedMount", `secret "missing" not found`),
	end: And(failFor(v1alpha1.ReasonCancelled), unstarted("FailedMount")),
}, {
	title: "It tells that nobody schedules the Pod.",
	name:  "no-scheduler",
	with:  func(spec *batchv1.JobSpec) { spec.Template.Spec.SchedulerName = "nobody" },
	act:   cancelWhenItTells(v1alpha1.ResultNotScheduled, "spec.schedulerName"),
	end:   And(failFor(v1alpha1.ReasonCancelled), unstarted(v1alpha1.ResultNotScheduled)),
}}

// cancelWhenItTells cancels a run when its result has the reason, with such words.
func cancelWhenItTells(reason, words string) func(context.Context, *v1alpha1.PooledJob) {
	return func(ctx context.Context, job *v1alpha1.PooledJob) {
		Eventually(latest(job)).WithContext(ctx).Should(And(
			resultIn("Reason", Equal(reason)), resultIn("Message", ContainSubstring(words)), resultIn("ExitCode", BeNil())))
		change(ctx, job, `{"cancel":true}`)
	}
}

var _ = Describe("The result of a run whose containers are real", Ordered, ContinueOnFailure, Label(realPods), func() {
	runs := map[string]*v1alpha1.PooledJob{}

	// All of them run at once: most wait for something most of the time.
	BeforeAll(func(ctx context.Context) {
		target := useRealTarget(ctx)
		if !localcluster.HasBusybox() {
			Skip("no static busybox: on Debian, apt-get install busybox-static")
		}
		for _, e := range slices.Concat(unstartedEndings, stoppedEndings, decidedEndings) {
			job := newJob(target, e.name, behaviour{})
			job.Spec.Template.Spec.Template.Annotations = nil
			podOf(job).Containers = nil
			podOf(job).TerminationGracePeriodSeconds = new(int64(3))
			addContainer("main", e.main)(&job.Spec.Template.Spec)
			if e.with != nil {
				e.with(&job.Spec.Template.Spec)
			}
			share(job)
			runs[e.name] = submit(ctx, job)
		}
	})

	table := func(title string, endings []ending) {
		var entries []TableEntry
		for _, e := range endings {
			entries = append(entries, Entry(e.title, e))
		}
		DescribeTable(title, func(ctx context.Context, e ending) {
			job := runs[e.name]
			if e.act != nil {
				e.act(ctx, job)
			}
			Eventually(latest(job)).WithContext(ctx).Should(HaveField("Status.Phase", BeElementOf(v1alpha1.PooledJobSucceeded, v1alpha1.PooledJobFailed)))
			Expect(job).To(e.end, "its status is %+v", job.Status)
		}, entries)
	}
	table("comes from the container that decides the end.", decidedEndings)
	table("reports what stopped the container.", stoppedEndings)
	table("reports what the run waited for when no container started.", unstartedEndings)
})

// addContainer gives a Job's Pods one more container, which runs a script.
func addContainer(name, script string) func(*batchv1.JobSpec) {
	return func(spec *batchv1.JobSpec) {
		pod := &spec.Template.Spec
		pod.Containers = append(pod.Containers, shell(name, script))
	}
}

// sidecar gives a Job's Pods a sidecar, which runs a script.
func sidecar(script string) func(*batchv1.JobSpec) {
	return func(spec *batchv1.JobSpec) {
		container := shell("sidecar", script)
		container.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		spec.Template.Spec.InitContainers = []corev1.Container{container}
	}
}

func shell(name, script string) corev1.Container {
	return corev1.Container{
		Name: name, Image: localcluster.BusyboxImage, Command: []string{"sh", "-c", script},
		VolumeMounts: []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}},
	}
}

// failurePolicy has a Job do something special about exit code 42.
func failurePolicy(action batchv1.PodFailurePolicyAction) func(*batchv1.JobSpec) {
	return func(spec *batchv1.JobSpec) {
		spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			Action:      action,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}},
		}}}
	}
}

// twoIndexes makes a Job of two indexes, which run at once.
func twoIndexes(spec *batchv1.JobSpec) {
	spec.CompletionMode, spec.Completions, spec.Parallelism = new(batchv1.IndexedCompletion), new(int32(2)), new(int32(2))
}

// oneOfTwo makes a Job of two Pods, of which the target's one node takes one at a time.
func oneOfTwo(name string) func(*batchv1.JobSpec) {
	return func(spec *batchv1.JobSpec) {
		labels := map[string]string{"alone": name}
		spec.Completions, spec.Parallelism, spec.Template.Labels = new(int32(2)), new(int32(2)), labels
		spec.Template.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
			}},
		}}
	}
}

func deadline(seconds int64) func(*batchv1.JobSpec) {
	return func(spec *batchv1.JobSpec) { spec.ActiveDeadlineSeconds = &seconds }
}

func withoutImage(spec *batchv1.JobSpec) {
	main := &spec.Template.Spec.Containers[0]
	main.Image, main.ImagePullPolicy = "localcluster.pooledjob.io/none:v1", corev1.PullNever
}

// share gives all Pods of a run one folder, which is there before them and after them.
func share(job *v1alpha1.PooledJob) {
	Expect(os.MkdirAll(sharedFile(job, ""), 0o700)).To(Succeed())
	pod := podOf(job)
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "shared", VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: sharedFile(job, "")},
	}})
}

// sharedFile returns what the run's containers know as /shared and its name: a file in the
// folder of the target, of which its node hides nothing.
func sharedFile(job *v1alpha1.PooledJob, name string) string {
	target := local.Targets[slices.Index(targets, targetOf(job))]
	return filepath.Join(target.Dir(), "shared", job.Name, name)
}

// tell lets the containers go on that wait to be told.
func tell(job *v1alpha1.PooledJob) {
	Expect(os.WriteFile(sharedFile(job, "told"), nil, 0o600)).To(Succeed())
}

// eventuallyRuns waits until a container says that it runs, and gives its Pod.
func eventuallyRuns(ctx context.Context, job *v1alpha1.PooledJob) *corev1.Pod {
	Eventually(sharedFile).WithContext(ctx).WithArguments(job, "runs").Should(BeAnExistingFile())
	Eventually(latest(job)).WithContext(ctx).Should(havePhase(v1alpha1.PooledJobRunning))
	pods := podsOf(ctx, job)
	Expect(pods).To(HaveLen(1))
	return &pods[0]
}

// imitate makes a Pod that has the labels of a run's Pod by which it is known, and
// fails.
func imitate(ctx context.Context, job *v1alpha1.PooledJob, own *corev1.Pod) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: own.Namespace, Name: "imitation", Labels: map[string]string{}},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{testContainer("main", "-exit=77")}},
	}
	for _, label := range []string{v1alpha1.LabelHub, v1alpha1.LabelUID, batchv1.JobNameLabel} {
		Expect(own.Labels).To(HaveKey(label))
		pod.Labels[label] = own.Labels[label]
	}
	Expect(targetOf(job).Create(ctx, pod)).To(Succeed())
	return pod
}

// podNow reads a Pod of a run's target.
func podNow(job *v1alpha1.PooledJob, pod *corev1.Pod) func(Gomega, context.Context) *corev1.Pod {
	return func(g Gomega, ctx context.Context) *corev1.Pod {
		g.Expect(targetOf(job).Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		return pod
	}
}

// unstarted matches a run of which no container has run, and that tells one of these
// reasons.
func unstarted(reasons ...string) gtypes.GomegaMatcher {
	return And(
		resultIn("ExitCode", BeNil()),
		resultIn("Reason", BeElementOf(reasons)),
		WithTransform(func(job *v1alpha1.PooledJob) string {
			if c := meta.FindStatusCondition(job.Status.Conditions, v1alpha1.ConditionDispatched); c != nil {
				return c.Reason
			}
			return ""
		}, Equal(v1alpha1.ReasonCreated)))
}
