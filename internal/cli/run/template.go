package run

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/command"
)

// jobOptions say what to run, by flags.
type jobOptions struct {
	image, pullPolicy, serviceAccount  string
	cluster, selector, targetNamespace string
	selectorGiven                      bool
	env, labels, annotations           []string
	requests, limits                   string
	backoffLimit                       int32
	deadline, dispatchDeadline, ttl    time.Duration
	ttlGiven                           bool
	command                            []string
}

// build makes the PooledJob that the flags describe.
func (o *jobOptions) build(namespace, name string) (*v1alpha1.PooledJob, error) {
	if o.image == "" {
		return nil, errors.New("give --image IMAGE, or a PooledJob's manifest with -f FILE")
	}
	if err := o.checkTimes(); err != nil {
		return nil, err
	}
	labels, labelsErr := command.KeyValues("--labels", o.labels)
	annotations, annotationsErr := command.KeyValues("--annotations", splitPairs(o.annotations))
	container, containerErr := o.container()
	spec, placeErr := o.place()
	if err := errors.Join(labelsErr, annotationsErr, containerErr, placeErr); err != nil {
		return nil, err
	}
	spec.Template = &batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{
		BackoffLimit:          &o.backoffLimit,
		ActiveDeadlineSeconds: seconds(o.deadline),
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations},
			Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever, ServiceAccountName: o.serviceAccount,
				Containers: []corev1.Container{container},
			},
		},
	}}
	return &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}, Spec: spec}, nil
}

// checkTimes refuses what the API would round or cut: its times are whole seconds.
func (o *jobOptions) checkTimes() error {
	for _, flag := range []struct {
		name  string
		value time.Duration
	}{{"--deadline", o.deadline}, {"--dispatch-deadline", o.dispatchDeadline}, {"--ttl", o.ttl}} {
		if flag.value < 0 || flag.value%time.Second != 0 || flag.value > math.MaxInt32*time.Second {
			return fmt.Errorf("%s is %s; it must be whole seconds, from 0s to %ds", flag.name, flag.value, math.MaxInt32)
		}
	}
	return nil
}

// place sets where to run, and for how long to keep the PooledJob.
func (o *jobOptions) place() (v1alpha1.PooledJobSpec, error) {
	spec := v1alpha1.PooledJobSpec{ClusterName: o.cluster, TargetNamespace: o.targetNamespace}
	switch {
	case o.cluster == "" && !o.selectorGiven:
		return spec, errors.New("give --cluster NAME, or --cluster-selector LABELS to have one chosen; see `kubectl pooledjob clusters`")
	case o.selectorGiven:
		selector, err := clusterSelector(o.selector)
		if err != nil {
			return spec, err
		}
		spec.ClusterSelector = selector
	}
	if o.ttlGiven {
		ttl := int32(o.ttl / time.Second)
		spec.TTLSecondsAfterFinished = &ttl
	}
	spec.DispatchDeadlineSeconds = int32(o.dispatchDeadline / time.Second)
	return spec, nil
}

func (o *jobOptions) container() (corev1.Container, error) {
	c := corev1.Container{Name: "main", Image: o.image, ImagePullPolicy: corev1.PullPolicy(o.pullPolicy), Command: o.command}
	for _, pair := range o.env {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return c, fmt.Errorf("--env is %q; it must be NAME=VALUE", pair)
		}
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value})
	}
	var requestsErr, limitsErr error
	c.Resources.Requests, requestsErr = quantities("--requests", o.requests)
	c.Resources.Limits, limitsErr = quantities("--limits", o.limits)
	return c, errors.Join(requestsErr, limitsErr)
}

// clusterSelector reads a selector as -l of kubectl has it.
func clusterSelector(text string) (*v1alpha1.LabelSelector, error) {
	parsed, err := metav1.ParseToLabelSelector(text)
	if err != nil {
		return nil, fmt.Errorf("--cluster-selector: %w", err)
	}
	selector := &v1alpha1.LabelSelector{MatchLabels: parsed.MatchLabels}
	for _, e := range parsed.MatchExpressions {
		selector.MatchExpressions = append(selector.MatchExpressions,
			v1alpha1.LabelSelectorRequirement{Key: e.Key, Operator: e.Operator, Values: e.Values})
	}
	return selector, nil
}

func quantities(flag, text string) (corev1.ResourceList, error) {
	if text == "" {
		return nil, nil
	}
	list := corev1.ResourceList{}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(pair, "=")
		quantity, err := resource.ParseQuantity(value)
		if err != nil || name == "" {
			return nil, fmt.Errorf("%s is %q; it must be RESOURCE=QUANTITY, such as cpu=500m,memory=1Gi", flag, text)
		}
		list[corev1.ResourceName(name)] = quantity
	}
	return list, nil
}

// splitPairs splits texts at the commas after which another KEY= begins: a comma may also be
// part of a value, such as one that is JSON.
func splitPairs(texts []string) []string {
	var pairs []string
	for _, text := range texts {
		for i, part := range strings.Split(text, ",") {
			key, _, isPair := strings.Cut(part, "=")
			if i > 0 && (!isPair || len(validation.IsQualifiedName(key)) > 0) {
				pairs[len(pairs)-1] += "," + part
				continue
			}
			pairs = append(pairs, part)
		}
	}
	return pairs
}

// seconds returns a duration in whole seconds; nil for none.
func seconds(d time.Duration) *int64 {
	if d <= 0 {
		return nil
	}
	whole := int64(d / time.Second)
	return &whole
}
