// Package sanitize makes what targets answer safe to go by. A target is not trusted to answer as an API
// server would: a value that cannot be is none, an object without a usable UID is nobody's, and lists and
// texts have bounds.
package sanitize

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// MaxUID is how long a UID may be: API servers make UUIDs of 36 characters, and the API of
// PooledJob takes 128.
const MaxUID = 128

// CheckUID returns why a UID cannot be used, nil if it can.
func CheckUID(uid types.UID) error {
	if uid == "" {
		return errors.New("the target's answer cannot be used: an object without a UID")
	}
	if len(uid) > MaxUID {
		return fmt.Errorf("the target's answer cannot be used: a UID of %d bytes, of which at most %d are possible", len(uid), MaxUID)
	}
	for _, c := range string(uid) {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			return errors.New("the target's answer cannot be used: a UID with characters that cannot be printed")
		}
	}
	return nil
}

// Job makes the numbers and times of a Job that cannot be ones that are not known.
func Job(job *batchv1.Job) {
	tidyDeletion(job.DeletionTimestamp)
	for _, n := range []*int32{
		job.Spec.BackoffLimit, job.Spec.BackoffLimitPerIndex, job.Spec.MaxFailedIndexes, job.Spec.TTLSecondsAfterFinished,
		&job.Status.Active, &job.Status.Succeeded, &job.Status.Failed,
	} {
		if n != nil {
			*n = max(*n, 0)
		}
	}
	job.Status.StartTime, job.Status.CompletionTime = possible(job.Status.StartTime), possible(job.Status.CompletionTime)
	for i := range job.Status.Conditions {
		tidyTime(&job.Status.Conditions[i].LastTransitionTime)
	}
}

// Pod makes the times of a Pod that cannot be ones that are not known.
func Pod(pod *corev1.Pod) {
	tidyDeletion(pod.DeletionTimestamp)
	tidyTime(&pod.CreationTimestamp)
	pod.Status.StartTime = possible(pod.Status.StartTime)
	for i := range pod.Status.Conditions {
		tidyTime(&pod.Status.Conditions[i].LastTransitionTime)
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			for _, t := range []*corev1.ContainerStateTerminated{statuses[i].State.Terminated, statuses[i].LastTerminationState.Terminated} {
				if t != nil {
					tidyTime(&t.StartedAt)
					tidyTime(&t.FinishedAt)
				}
			}
		}
	}
}

// maxYear is the last that RFC 3339 can write; API servers refuse what is later.
const maxYear = 9999

// tidyDeletion keeps that there is a deletion, whenever it is.
func tidyDeletion(t *metav1.Time) {
	if t != nil && !isPossible(t) {
		*t = metav1.Unix(0, 0)
	}
}

// tidyTime makes a time that cannot be written one that is not known.
func tidyTime(t *metav1.Time) {
	if t != nil && !isPossible(t) {
		*t = metav1.Time{}
	}
}

func possible(t *metav1.Time) *metav1.Time {
	if t.IsZero() || !isPossible(t) {
		return nil
	}
	return t
}

func isPossible(t *metav1.Time) bool {
	year := t.UTC().Year()
	return year >= 1 && year <= maxYear
}
