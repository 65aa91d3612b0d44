package store

import (
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/internal/connpool/sanitize"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// This file says what is read of Jobs and Pods. What is not named here is not decoded.

const (
	// maxRules is how many rules the API takes in a podFailurePolicy or a successPolicy, and
	// maxRuleValues how many exit codes in one of them.
	maxRules      = 20
	maxRuleValues = 255
	// maxConditionsRead is how many conditions an object may have.
	maxConditionsRead = 64
	// maxFinalizers is how many finalizers an object may have.
	maxFinalizers = 32
	// maxIndexList bounds the indexes of an Indexed Job that completed or failed, in bytes.
	maxIndexList = 64 << 10
)

// The most that a Job and the status of a Job and a Pod may take in memory: what those with the most that is
// allowed above take. The kubelet bounds what the containers of one Pod say at their end to 12 KiB
// together; a Pod shows of each the last two.
var (
	jobBounds       = prune.Bounds{Types: 128 << 10, Texts: 96 << 10}
	jobStatusBounds = prune.Bounds{Types: 16 << 10, Texts: 160 << 10}
	podStatusBounds = prune.Bounds{Types: 256 << 10, Texts: 64 << 10}
)

// Schemas returns what is kept of the objects of each kind that a store holds.
func (l *Labels) Schemas() (schemas [Kinds]*prune.Schema) {
	schemas[KindJob] = prune.NewSchema(&batchv1.Job{}, "Job", jobBounds, prune.Fields{
		"metadata": l.metaFields(), "spec": l.jobSpecFields(), "status": prune.Within(jobStatusBounds, jobStatusFields),
	})
	schemas[KindPod] = prune.NewSchema(&corev1.Pod{}, "Pod", sanitize.PodBounds, prune.Fields{
		"metadata": l.metaFields(), "spec": podSpecFields, "status": prune.Within(podStatusBounds, podStatusFields),
	})
	return schemas
}

// metaFields returns the metadata of a Job or a Pod. Of the labels those that packing keeps are
// kept, and of the annotations those of an index, and that of a bookmark.
func (l *Labels) metaFields() prune.Rule {
	return prune.Message(prune.Fields{
		"name": prune.Exact(prune.MaxName), "namespace": prune.Exact(prune.MaxName), "uid": prune.Text(sanitize.MaxUID + 1),
		"resourceVersion": prune.Exact(prune.MaxVersion), "creationTimestamp": prune.Time(),
		"deletionTimestamp": prune.Time(), "deletionGracePeriodSeconds": prune.Number(),
		"labels": prune.Map(sanitize.MaxOwnLabels, prune.MaxLabel, l.isKept),
		"annotations": prune.Map(4, prune.MaxLabel, func(key string) bool {
			return key == batchv1.JobCompletionIndexAnnotation || key == batchv1.JobIndexFailureCountAnnotation ||
				key == metav1.InitialEventsAnnotationKey
		}),
		"ownerReferences": prune.List(sanitize.MaxOwners, prune.Message(prune.Fields{
			"apiVersion": prune.Text(prune.MaxName), "kind": prune.Text(prune.MaxName), "name": prune.Text(prune.MaxName),
			"uid": prune.Text(sanitize.MaxUID + 1), "controller": prune.Number(),
		})),
		"finalizers": prune.List(maxFinalizers, prune.Text(prune.MaxName)),
	})
}

// isKept reports whether a label says something to a run.
func (l *Labels) isKept(name string) bool {
	_, common := l.common[name]
	return common || name == l.key || name == batchv1.JobNameLabel || (l.domain != "" && strings.HasPrefix(name, l.domain))
}

func (l *Labels) jobSpecFields() prune.Rule {
	return prune.Message(prune.Fields{
		"parallelism": prune.Number(), "completions": prune.Number(), "activeDeadlineSeconds": prune.Number(),
		"backoffLimit": prune.Number(), "backoffLimitPerIndex": prune.Number(), "maxFailedIndexes": prune.Number(),
		"ttlSecondsAfterFinished": prune.Number(), "suspend": prune.Number(), "podReplacementPolicy": prune.Text(prune.MaxLabel),
		"podFailurePolicy": prune.Message(prune.Fields{"rules": prune.List(maxRules, prune.Message(prune.Fields{
			"action": prune.Text(prune.MaxLabel),
			"onExitCodes": prune.Message(prune.Fields{
				"containerName": prune.Text(prune.MaxName), "operator": prune.Text(prune.MaxLabel),
				"values": prune.List(maxRuleValues, prune.Number()),
			}),
			"onPodConditions": prune.List(maxRules, prune.Message(prune.Fields{
				"type": prune.Text(prune.MaxName), "status": prune.Text(prune.MaxLabel),
			})),
		}))}),
		"successPolicy": prune.Message(prune.Fields{"rules": prune.List(maxRules, prune.Message(prune.Fields{
			"succeededIndexes": prune.Whole(maxIndexList), "succeededCount": prune.Number(),
		}))}),
		// The labels of its Pods show whose a Job is when somebody has removed its own.
		"template": prune.Message(prune.Fields{
			"metadata": prune.Message(prune.Fields{"labels": prune.Map(sanitize.MaxOwnLabels, prune.MaxLabel, l.isKept)}),
			"spec":     prune.Message(prune.Fields{"restartPolicy": prune.Text(prune.MaxLabel)}),
		}),
	})
}

var jobStatusFields = prune.Message(prune.Fields{
	"active": prune.Number(), "succeeded": prune.Number(), "failed": prune.Number(),
	"completedIndexes": prune.Whole(maxIndexList), "failedIndexes": prune.Whole(maxIndexList), "ready": prune.Number(),
	"startTime": prune.Time(), "completionTime": prune.Time(), "conditions": conditionFields,
})

// conditionFields are those of a list of conditions.
var conditionFields = prune.List(maxConditionsRead, prune.Message(prune.Fields{
	"type": prune.Text(prune.MaxName), "status": prune.Text(prune.MaxLabel), "lastTransitionTime": prune.Time(),
	"reason": prune.Text(prune.MaxName), "message": prune.Text(prune.MaxWords),
}))

var podSpecFields = prune.Message(prune.Fields{
	"nodeName": prune.Text(prune.MaxName),
	"containers": prune.List(sanitize.MaxContainers, prune.Message(prune.Fields{
		"name": prune.Text(prune.MaxName),
	})),
	"initContainers": prune.List(sanitize.MaxContainers, prune.Message(prune.Fields{
		"name": prune.Text(prune.MaxName), "restartPolicy": prune.Text(prune.MaxLabel),
	})),
})

var podStatusFields = prune.Message(prune.Fields{
	"phase": prune.Text(prune.MaxLabel), "reason": prune.Text(prune.MaxName), "message": prune.Text(prune.MaxWords),
	"startTime": prune.Time(), "conditions": conditionFields,
	"initContainerStatuses": containerStatusFields, "containerStatuses": containerStatusFields,
})

var containerStatusFields = prune.List(sanitize.MaxContainers, prune.Message(prune.Fields{
	"name": prune.Text(prune.MaxName), "restartCount": prune.Number(),
	"state": prune.Message(prune.Fields{
		"terminated": sanitize.TerminatedFields, "running": prune.Message(prune.Fields{}),
		"waiting": prune.Message(prune.Fields{"reason": prune.Text(prune.MaxName), "message": prune.Text(prune.MaxWords)}),
	}),
	"lastState": prune.Message(prune.Fields{"terminated": sanitize.TerminatedFields}),
}))
