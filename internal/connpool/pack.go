package connpool

import (
	"maps"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// labelling says which labels are kept, and of those which every object has.
type labelling struct {
	key    string            // whose value is kept elsewhere
	domain string            // the others of its domain are kept
	common map[string]string // what the selector asks for: kept as one bit
}

// newLabelling keeps the labels of the domain of the key label. All others are those of
// whoever wrote the Job, and nothing to us.
func newLabelling(o Options) *labelling {
	l := &labelling{key: o.KeyLabel}
	if slash := strings.IndexByte(o.KeyLabel, '/'); slash >= 0 {
		l.domain = o.KeyLabel[:slash+1]
	}
	if selector, err := metav1.ParseToLabelSelector(o.Selector); err == nil {
		l.common = selector.MatchLabels
	}
	return l
}

func (p *packer) job(j *batchv1.Job) {
	p.meta(&j.ObjectMeta)
	optional(p, &j.Spec.BackoffLimit, number[int32])
	optional(p, &j.Spec.ActiveDeadlineSeconds, number[int64])
	optional(p, &j.Spec.Suspend, flag)
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

func (p *packer) pod(pod *corev1.Pod) {
	p.meta(&pod.ObjectMeta)
	p.jobName(pod)
	words(p, &pod.Status.Phase)
	words(p, &pod.Status.Reason)
	words(p, &pod.Status.Message)
	telling := &pod.Status.Conditions
	if !p.reading {
		kept := tellingConditions(pod.Status.Conditions)
		telling = &kept
	}
	list(p, telling, func(p *packer, c *corev1.PodCondition) {
		words(p, &c.Type)
		words(p, &c.Status)
		words(p, &c.Reason)
		words(p, &c.Message)
	})
	list(p, &pod.Status.InitContainerStatuses, container)
	list(p, &pod.Status.ContainerStatuses, container)
}

// tellingConditions keeps that a Pod is ready, and why it is not scheduled.
func tellingConditions(conditions []corev1.PodCondition) []corev1.PodCondition {
	var kept []corev1.PodCondition
	for _, c := range conditions {
		switch {
		case c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue:
			kept = append(kept, corev1.PodCondition{Type: c.Type, Status: c.Status})
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse:
			kept = append(kept, c)
		}
	}
	return kept
}

// container keeps how one ended, or why it waits.
func container(p *packer, s *corev1.ContainerStatus) {
	words(p, &s.Name)
	optional(p, &s.State.Terminated, func(p *packer, t *corev1.ContainerStateTerminated) {
		number(p, &t.ExitCode)
		words(p, &t.Reason)
		words(p, &t.Message)
		moment(p, &t.FinishedAt)
	})
	optional(p, &s.State.Waiting, func(p *packer, w *corev1.ContainerStateWaiting) {
		words(p, &w.Reason)
		words(p, &w.Message)
	})
}

// meta keeps what a record does not have beside.
func (p *packer) meta(m *metav1.ObjectMeta) {
	words(p, &m.UID)
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

// hasCommon tells whether an object has the labels that were asked for, as it must.
func (l *labelling) hasCommon(labels map[string]string) bool {
	for name, value := range l.common {
		if has, ok := labels[name]; !ok || has != value {
			return false
		}
	}
	return true
}

// others are the labels to be written out: names and values in turn.
func (l *labelling) others(labels map[string]string, hasCommon bool) []string {
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

// jobName keeps the label that tells the Job of a Pod; of one whose Pod is named after its
// Job, as Job controllers do, only the length.
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
