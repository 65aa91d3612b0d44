package store

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Labels says which labels are kept, and of those which every object has.
type Labels struct {
	key    string            // whose value is kept elsewhere
	domain string            // the others of its domain are kept
	common map[string]string // what the selector asks for: kept as one bit
}

// NewLabels keeps the labels of the domain of the key label. All others are those of
// whoever wrote the Job, and nothing to us.
func NewLabels(selector, keyLabel string) *Labels {
	l := &Labels{key: keyLabel}
	if slash := strings.IndexByte(keyLabel, '/'); slash >= 0 {
		l.domain = keyLabel[:slash+1]
	}
	if parsed, err := metav1.ParseToLabelSelector(selector); err == nil {
		l.common = parsed.MatchLabels
	}
	return l
}

func (p *packer) job(j *batchv1.Job) {
	p.meta(&j.ObjectMeta)
	optional(p, &j.Spec.TTLSecondsAfterFinished, number[int32])
	optional(p, &j.Spec.ActiveDeadlineSeconds, number[int64])
	optional(p, &j.Spec.Suspend, flag)
	p.failureRules(&j.Spec)
	optional(p, &j.Spec.SuccessPolicy, successPolicy)
	number(p, &j.Status.Active)
	number(p, &j.Status.Succeeded)
	number(p, &j.Status.Failed)
	words(p, &j.Status.CompletedIndexes)
	optional(p, &j.Status.FailedIndexes, words[string])
	optional(p, &j.Status.StartTime, moment)
	optional(p, &j.Status.CompletionTime, moment)
	list(p, &j.Status.Conditions, func(p *packer, c *batchv1.JobCondition) {
		words(p, &c.Type)
		words(p, &c.Status)
		words(p, &c.Reason)
		words(p, &c.Message)
		moment(p, &c.LastTransitionTime)
	})
}

// failureRules keeps what a Job controller decides the failure of a Job by.
func (p *packer) failureRules(spec *batchv1.JobSpec) {
	optional(p, &spec.Completions, number[int32])
	optional(p, &spec.BackoffLimit, number[int32])
	optional(p, &spec.BackoffLimitPerIndex, number[int32])
	optional(p, &spec.MaxFailedIndexes, number[int32])
	optional(p, &spec.PodFailurePolicy, podFailurePolicy)
	// Of these only one value says anything.
	none := spec.Parallelism != nil && *spec.Parallelism == 0
	onlyFailed := spec.PodReplacementPolicy != nil && *spec.PodReplacementPolicy == batchv1.Failed
	restarts := spec.Template.Spec.RestartPolicy == corev1.RestartPolicyOnFailure
	flag(p, &none)
	flag(p, &onlyFailed)
	flag(p, &restarts)
	if p.reading && none {
		spec.Parallelism = new(int32)
	}
	if p.reading && onlyFailed {
		policy := batchv1.Failed
		spec.PodReplacementPolicy = &policy
	}
	if p.reading && restarts {
		spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	}
}

func podFailurePolicy(p *packer, policy *batchv1.PodFailurePolicy) {
	list(p, &policy.Rules, func(p *packer, rule *batchv1.PodFailurePolicyRule) {
		words(p, &rule.Action)
		optional(p, &rule.OnExitCodes, func(p *packer, on *batchv1.PodFailurePolicyOnExitCodesRequirement) {
			optional(p, &on.ContainerName, words[string])
			words(p, &on.Operator)
			list(p, &on.Values, number[int32])
		})
		list(p, &rule.OnPodConditions, func(p *packer, on *batchv1.PodFailurePolicyOnPodConditionsPattern) {
			words(p, &on.Type)
			words(p, &on.Status)
		})
	})
}

func successPolicy(p *packer, policy *batchv1.SuccessPolicy) {
	list(p, &policy.Rules, func(p *packer, rule *batchv1.SuccessPolicyRule) {
		optional(p, &rule.SucceededIndexes, words[string])
		optional(p, &rule.SucceededCount, number[int32])
	})
}

func (p *packer) pod(pod *corev1.Pod) {
	p.meta(&pod.ObjectMeta)
	p.jobName(pod)
	p.controller(pod)
	p.index(pod)
	optional(p, &pod.DeletionGracePeriodSeconds, number[int64])
	words(p, &pod.Status.Phase)
	words(p, &pod.Status.Reason)
	words(p, &pod.Status.Message)
	telling := &pod.Status.Conditions
	if !p.reading {
		kept := tellingConditions(pod)
		telling = &kept
	}
	list(p, telling, func(p *packer, c *corev1.PodCondition) {
		words(p, &c.Type)
		words(p, &c.Status)
		words(p, &c.Reason)
		words(p, &c.Message)
		moment(p, &c.LastTransitionTime)
	})
	p.containers(pod)
	p.failedAt(pod)
}

// tellingConditions keeps that a Pod is ready, why it is not scheduled or, as long as its node
// says nothing, that it is (a Pod can be made with a node), and what a disruption or a condition
// that is not Kubernetes' own says of it.
func tellingConditions(pod *corev1.Pod) []corev1.PodCondition {
	var kept []corev1.PodCondition
	if isScheduled(pod) && len(pod.Status.ContainerStatuses) == 0 && !isEnded(pod) {
		kept = append(kept, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	}
	for _, c := range pod.Status.Conditions {
		switch {
		case c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue:
			kept = append(kept, corev1.PodCondition{Type: c.Type, Status: c.Status})
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse:
			kept = append(kept, corev1.PodCondition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message})
		case c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue:
			kept = append(kept, corev1.PodCondition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message, LastTransitionTime: c.LastTransitionTime})
		case !usual[c.Type] && len(kept) < maxConditions:
			kept = append(kept, corev1.PodCondition{Type: c.Type, Status: c.Status}) // a podFailurePolicy may go by it
		}
	}
	return kept
}

// isScheduled reports whether a Pod has a node.
func isScheduled(pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" || slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue
	})
}

// maxConditions is how many conditions are kept of a Pod.
const maxConditions = 8

// usual are the conditions that most Pods have, and that no failure is decided by.
var usual = map[corev1.PodConditionType]bool{
	corev1.PodReady: true, corev1.PodScheduled: true, corev1.PodInitialized: true, corev1.ContainersReady: true,
	corev1.PodReadyToStartContainers: true, corev1.DisruptionTarget: true,
}

// containers keeps the statuses of a Pod's containers in the order of its spec (the kubelet
// sorts them by name), and which init containers are sidecars. Of the spec nothing else is
// kept.
func (p *packer) containers(pod *corev1.Pod) {
	initial, plain := &pod.Status.InitContainerStatuses, &pod.Status.ContainerStatuses
	var sidecars map[string]bool
	if !p.reading {
		sidecars = map[string]bool{}
		var names, initialNames []string
		for i := range pod.Spec.InitContainers {
			c := &pod.Spec.InitContainers[i]
			sidecars[c.Name] = c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
			initialNames = append(initialNames, c.Name)
		}
		for i := range pod.Spec.Containers {
			names = append(names, pod.Spec.Containers[i].Name)
		}
		sortedInitial, sortedPlain := inOrder(*initial, initialNames), inOrder(*plain, names)
		initial, plain = &sortedInitial, &sortedPlain
	}
	list(p, initial, func(p *packer, s *corev1.ContainerStatus) {
		sidecar := sidecars[s.Name]
		flag(p, &sidecar)
		container(p, s)
		if p.reading {
			c := corev1.Container{Name: s.Name}
			if sidecar {
				always := corev1.ContainerRestartPolicyAlways
				c.RestartPolicy = &always
			}
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
		}
	})
	list(p, plain, func(p *packer, s *corev1.ContainerStatus) {
		container(p, s)
		if p.reading {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: s.Name})
		}
	})
}

// inOrder sorts statuses by their names' places in an order; those that are not in it come last.
func inOrder(statuses []corev1.ContainerStatus, order []string) []corev1.ContainerStatus {
	places := make(map[string]int, len(order))
	for i, name := range slices.Backward(order) {
		places[name] = i
	}
	place := func(s corev1.ContainerStatus) int {
		if i, ok := places[s.Name]; ok {
			return i
		}
		return len(order)
	}
	sorted := slices.Clone(statuses)
	slices.SortStableFunc(sorted, func(a, b corev1.ContainerStatus) int { return cmp.Compare(place(a), place(b)) })
	return sorted
}

// container keeps whether one runs, how it ended, now and before, or why it waits.
func container(p *packer, s *corev1.ContainerStatus) {
	words(p, &s.Name)
	number(p, &s.RestartCount)
	optional(p, &s.State.Terminated, terminated)
	optional(p, &s.LastTerminationState.Terminated, terminated)
	optional(p, &s.State.Running, func(*packer, *corev1.ContainerStateRunning) {})
	optional(p, &s.State.Waiting, func(p *packer, w *corev1.ContainerStateWaiting) {
		words(p, &w.Reason)
		words(p, &w.Message)
	})
}

func terminated(p *packer, t *corev1.ContainerStateTerminated) {
	number(p, &t.ExitCode)
	words(p, &t.Reason)
	words(p, &t.Message)
	moment(p, &t.StartedAt)
	moment(p, &t.FinishedAt)
}

// failedAt keeps, of a Pod that has ended and of which no container says when it ended, when it was
// started or, if it never was, made.
func (p *packer) failedAt(pod *corev1.Pod) {
	at := metav1.Time{}
	if !p.reading && isEnded(pod) && !slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Terminated != nil && !s.State.Terminated.FinishedAt.IsZero()
	}) {
		at = pod.CreationTimestamp
		if pod.Status.StartTime != nil {
			at = *pod.Status.StartTime
		}
	}
	moment(p, &at)
	if p.reading && !at.IsZero() {
		pod.Status.StartTime = &at
	}
}

func isEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// controller keeps which Job controls a Pod, and whether the Job controller counts it.
func (p *packer) controller(pod *corev1.Pod) {
	owner := metav1.GetControllerOf(pod)
	has := owner != nil && owner.Kind == "Job" && strings.HasPrefix(owner.APIVersion, batchv1.GroupName+"/")
	tracked := slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
	flag(p, &tracked)
	flag(p, &has)
	if p.reading && tracked {
		pod.Finalizers = []string{batchv1.JobTrackingFinalizer}
	}
	if !has {
		return
	}
	if p.reading {
		isController := true
		owner = &metav1.OwnerReference{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job", Controller: &isController}
	}
	identity(p, &owner.UID)
	name := owner.Name
	isLabelled := name == pod.Labels[batchv1.JobNameLabel]
	flag(p, &isLabelled)
	if !isLabelled {
		words(p, &name)
	} else if p.reading {
		name = pod.Labels[batchv1.JobNameLabel]
	}
	if p.reading {
		owner.Name = name
		pod.OwnerReferences = []metav1.OwnerReference{*owner}
	}
}

// index keeps the completion index of a Pod of an Indexed Job, and how often it had failed before.
func (p *packer) index(pod *corev1.Pod) {
	for _, name := range []string{batchv1.JobCompletionIndexAnnotation, batchv1.JobIndexFailureCountAnnotation} {
		value, has := pod.Annotations[name]
		has = has && len(value) <= maxIndexDigits
		flag(p, &has)
		if !has {
			continue
		}
		words(p, &value)
		if p.reading {
			metav1.SetMetaDataAnnotation(&pod.ObjectMeta, name, value)
		}
	}
}

// maxIndexDigits is how long an index is that is kept: completions has ten digits.
const maxIndexDigits = 10

// meta keeps what a record does not have beside.
func (p *packer) meta(m *metav1.ObjectMeta) {
	identity(p, &m.UID)
	optional(p, &m.DeletionTimestamp, moment)
	var pairs []string
	hasCommon := p.labels.hasCommon(m.Labels)
	if !p.reading {
		pairs = p.labels.others(m.Labels, hasCommon)
	}
	flag(p, &hasCommon)
	list(p, &pairs, words[string])
	if !p.reading {
		return
	}
	m.Labels = make(map[string]string, len(p.labels.common)+len(pairs)/2+2)
	if hasCommon {
		maps.Copy(m.Labels, p.labels.common)
	}
	for pair := range slices.Chunk(pairs, 2) {
		m.Labels[pair[0]] = pair[1]
	}
}

// hasCommon reports whether an object has the labels that were asked for, as it must.
func (l *Labels) hasCommon(labels map[string]string) bool {
	for name, value := range l.common {
		if has, ok := labels[name]; !ok || has != value {
			return false
		}
	}
	return true
}

// others returns the labels to be written out: names and values in turn.
func (l *Labels) others(labels map[string]string, hasCommon bool) []string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		_, isCommon := l.common[name]
		ours := l.domain != "" && strings.HasPrefix(name, l.domain)
		if name != l.key && (ours || isCommon) && !(isCommon && hasCommon) {
			pairs = append(pairs, name, labels[name])
		}
	}
	return pairs
}

// jobName keeps the label that names the Job of a Pod. Job controllers name the Pod after its Job;
// then the length of the Job's name is enough.
func (p *packer) jobName(pod *corev1.Pod) {
	name, has := pod.Labels[batchv1.JobNameLabel]
	flag(p, &has)
	if !has {
		return
	}
	length := int32(-1)
	if strings.HasPrefix(pod.Name, name) {
		length = int32(len(name)) //nolint:gosec // a label's value has at most 63 bytes
	}
	number(p, &length)
	if length < 0 {
		words(p, &name)
	} else {
		name = pod.Name[:length]
	}
	if p.reading {
		pod.Labels[batchv1.JobNameLabel] = name
	}
}
