package connpool

import (
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/internal/prune"
)

// This file says what is read of a target's answers. What is not named here is not decoded.

const (
	// maxOwnLabels is how many labels an object may have that say something to a run.
	maxOwnLabels = 16
	// maxContainers is how many containers of each kind a Pod may have for its end to be told.
	maxContainers = 128
	// maxRules is how many rules the API takes in a podFailurePolicy or a successPolicy, and
	// maxRuleValues how many exit codes in one of them.
	maxRules      = 20
	maxRuleValues = 255
	// maxConditionsRead is how many conditions an object may have.
	maxConditionsRead = 64
	// maxFinalizers and maxOwners are how many of them an object may have.
	maxFinalizers = 32
	maxOwners     = 32
	// maxIndexList bounds the indexes of an Indexed Job that completed or failed, in bytes.
	maxIndexList = 64 << 10
)

// The most that an object may take in memory: what the Job and the Pod with the most that is
// allowed above take. The kubelet bounds what the containers of one Pod say at their end to 12
// KiB together; a Pod shows of each the last two.
var (
	jobBounds       = prune.Bounds{Types: 128 << 10, Texts: 96 << 10}
	jobStatusBounds = prune.Bounds{Types: 16 << 10, Texts: 160 << 10}
	podBounds       = prune.Bounds{Types: 256 << 10, Texts: 48 << 10}
	podStatusBounds = prune.Bounds{Types: 256 << 10, Texts: 64 << 10}
	smallBounds     = prune.Bounds{Types: 16 << 10, Texts: 64 << 10}
)

// schemas are what is kept of the objects of each kind that a store holds.
func (l *labelling) schemas() (schemas [kinds]*prune.Schema) {
	schemas[kindJob] = prune.NewSchema(&batchv1.Job{}, "Job", jobBounds, prune.Fields{
		"metadata": l.metaFields(), "spec": l.jobSpecFields(), "status": prune.Within(jobStatusBounds, jobStatusFields),
	})
	schemas[kindPod] = prune.NewSchema(&corev1.Pod{}, "Pod", podBounds, prune.Fields{
		"metadata": l.metaFields(), "spec": podSpecFields, "status": prune.Within(podStatusBounds, podStatusFields),
	})
	return schemas
}

// metaFields are the metadata of a Job or a Pod. Of the labels those that packing keeps are
// kept, and of the annotations those of an index, and that of a bookmark.
func (l *labelling) metaFields() prune.Rule {
	return prune.Message(prune.Fields{
		"name": prune.Exact(prune.MaxName), "namespace": prune.Exact(prune.MaxName), "uid": prune.Text(maxUID + 1),
		"resourceVersion": prune.Exact(prune.MaxVersion), "creationTimestamp": prune.Time(),
		"deletionTimestamp": prune.Time(), "deletionGracePeriodSeconds": prune.Number(),
		"labels": prune.Map(maxOwnLabels, prune.MaxLabel, l.isKept),
		"annotations": prune.Map(4, prune.MaxLabel, func(key string) bool {
			return key == batchv1.JobCompletionIndexAnnotation || key == batchv1.JobIndexFailureCountAnnotation ||
				key == metav1.InitialEventsAnnotationKey
		}),
		"ownerReferences": prune.List(maxOwners, prune.Message(prune.Fields{
			"apiVersion": prune.Text(prune.MaxName), "kind": prune.Text(prune.MaxName), "name": prune.Text(prune.MaxName),
			"uid": prune.Text(maxUID + 1), "controller": prune.Number(),
		})),
		"finalizers": prune.List(maxFinalizers, prune.Text(prune.MaxName)),
	})
}

// isKept reports whether a label says something to a run.
func (l *labelling) isKept(name string) bool {
	_, common := l.common[name]
	return common || name == l.key || name == batchv1.JobNameLabel || (l.domain != "" && strings.HasPrefix(name, l.domain))
}

func (l *labelling) jobSpecFields() prune.Rule {
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
		// The labels of its Pods tell whose a Job is from which somebody has taken its own.
		"template": prune.Message(prune.Fields{
			"metadata": prune.Message(prune.Fields{"labels": prune.Map(maxOwnLabels, prune.MaxLabel, l.isKept)}),
			"spec":     prune.Message(prune.Fields{"restartPolicy": prune.Text(prune.MaxLabel)}),
		}),
	})
}

var jobStatusFields = prune.Message(prune.Fields{
	"active": prune.Number(), "succeeded": prune.Number(), "failed": prune.Number(),
	"completedIndexes": prune.Whole(maxIndexList), "failedIndexes": prune.Whole(maxIndexList), "ready": prune.Number(),
	"startTime": prune.Time(), "completionTime": prune.Time(), "conditions": conditionFields,
})

var conditionFields = prune.List(maxConditionsRead, prune.Message(prune.Fields{
	"type": prune.Text(prune.MaxName), "status": prune.Text(prune.MaxLabel), "lastTransitionTime": prune.Time(),
	"reason": prune.Text(prune.MaxName), "message": prune.Text(prune.MaxWords),
}))

var podSpecFields = prune.Message(prune.Fields{
	"nodeName": prune.Text(prune.MaxName),
	"containers": prune.List(maxContainers, prune.Message(prune.Fields{
		"name": prune.Text(prune.MaxName),
	})),
	"initContainers": prune.List(maxContainers, prune.Message(prune.Fields{
		"name": prune.Text(prune.MaxName), "restartPolicy": prune.Text(prune.MaxLabel),
	})),
})

var podStatusFields = prune.Message(prune.Fields{
	"phase": prune.Text(prune.MaxLabel), "reason": prune.Text(prune.MaxName), "message": prune.Text(prune.MaxWords),
	"startTime": prune.Time(), "conditions": conditionFields,
	"initContainerStatuses": containerStatusFields, "containerStatuses": containerStatusFields,
})

var (
	terminatedFields = prune.Message(prune.Fields{
		"exitCode": prune.Number(), "reason": prune.Text(prune.MaxName), "message": prune.Text(prune.MaxWords),
		"startedAt": prune.Time(), "finishedAt": prune.Time(),
	})
	containerStatusFields = prune.List(maxContainers, prune.Message(prune.Fields{
		"name": prune.Text(prune.MaxName), "restartCount": prune.Number(),
		"state": prune.Message(prune.Fields{
			"terminated": terminatedFields, "running": prune.Message(prune.Fields{}),
			"waiting": prune.Message(prune.Fields{"reason": prune.Text(prune.MaxName), "message": prune.Text(prune.MaxWords)}),
		}),
		"lastState": prune.Message(prune.Fields{"terminated": terminatedFields}),
	}))
)

// eventSchema is what is kept of an Event.
var eventSchema = prune.NewSchema(&corev1.Event{}, "Event", smallBounds, prune.Fields{
	"metadata": prune.Message(prune.Fields{"name": prune.Exact(prune.MaxName), "creationTimestamp": prune.Time()}),
	"reason":   prune.Text(prune.MaxName), "message": prune.Text(prune.MaxWords), "type": prune.Text(prune.MaxLabel),
	"lastTimestamp": prune.Time(), "eventTime": prune.Time(), "series": prune.Message(prune.Fields{"lastObservedTime": prune.Time()}),
})

// The answers to questions about the cluster and the identity.
var (
	namespaceSchema = prune.NewSchema(&corev1.Namespace{}, "Namespace", smallBounds, prune.Fields{
		"metadata": prune.Message(prune.Fields{"name": prune.Exact(prune.MaxName), "uid": prune.Text(maxUID + 1)}),
	})
	reviewSchema = prune.NewSchema(&authorizationv1.SelfSubjectAccessReview{}, "SelfSubjectAccessReview", smallBounds, prune.Fields{
		"status": prune.Message(prune.Fields{"allowed": prune.Number(), "reason": prune.Text(prune.MaxWords)}),
	})
	tokenSchema = prune.NewSchema(&authenticationv1.TokenRequest{}, "TokenRequest", smallBounds, prune.Fields{
		"status": prune.Message(prune.Fields{"token": prune.Text(maxToken + 1)}),
	})
)
