package pooledjob

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/access"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/placement"
)

// snapshot is everything that a decision about a PooledJob is made from.
type snapshot struct {
	now time.Time
	job *v1alpha1.PooledJob

	// cluster is the ClusterConnection to run on; empty while none was chosen, and
	// then there are candidates, or badSelector says why there cannot be any.
	cluster     string
	candidates  []placement.Candidate
	badSelector error

	// intent is where the remote Job is, or would be. bound is true if it was
	// recorded on the PooledJob, and stripped that it is not there as it was.
	intent   jobspec.Intent
	bound    bool
	stripped bool

	// connection is the ClusterConnection; nil when it does not exist.
	connection *v1alpha1.ClusterConnection
	// access is what its access rules say.
	access access.Decision
	// notReady says why there is no lease, and notReadyReason in one word; both are
	// empty when there is one. connecting is true if this is because the contact is
	// still under way.
	notReady       string
	notReadyReason string
	connecting     bool
	// fenced is true if this is because a person has stated that nothing runs on
	// the cluster any more.
	fenced bool
	// expiredAt is when the credential ended that the connection uses; zero if it
	// has not.
	expiredAt time.Time

	// remote is the Job in the connection's view, and pods its Pods; nil when
	// there is none of ours.
	remote *batchv1.Job
	pods   []*corev1.Pod
	// endedPods are Pods that have ended and are gone.
	endedPods []*corev1.Pod

	// memory is what this process remembers of its own requests.
	memory memory
}

// RequestLifetime is how long a request whose outcome we never heard may still take
// effect: the API server ends a request after 60 s, and the way there takes time.
const RequestLifetime = 75 * time.Second

// requestsInFlight is how much longer a request to create the Job, of ours or of a
// process before us, may take effect.
func (s *snapshot) requestsInFlight() time.Duration {
	var since time.Time
	switch {
	case jobstatus.Finished(&s.job.Status) && !s.wasObserved():
		return 0 // it was proven then that none was
	case s.memory.current:
		since = s.memory.unknownSince
	case s.wasObserved():
		if lost := s.job.Status.UnansweredRequestTime; lost != nil {
			since = lost.Add(time.Second) // it was cut to seconds
			if lost.After(s.now) {
				since = s.memory.creatorSeenAt // it is of another clock
			}
		}
	default:
		since = s.memory.creatorSeenAt
	}
	if since.IsZero() {
		return 0
	}
	return max(0, since.Add(RequestLifetime).Sub(s.now))
}

// clockMargin is how far the clocks of hub and manager may be apart before an age is taken for
// too small.
const clockMargin = time.Minute

// mayHaveSent reports whether an earlier request may have created the Job: one whose answer was
// lost, or one of another process.
func (s *snapshot) mayHaveSent() bool {
	return !s.memory.current || !s.memory.unknownSince.IsZero() || s.memory.existed
}

// outlives reports whether a Job with that ttlSecondsAfterFinished, created by any request of the
// run, would still be there.
func (s *snapshot) outlives(ttl *int32) bool {
	age := s.now.Sub(s.memory.boundAt)
	if s.memory.boundAt.IsZero() {
		age = s.now.Sub(s.job.CreationTimestamp.Time) + clockMargin
	}
	return ttl == nil || time.Duration(*ttl)*time.Second > age
}

// leftPods says which Pods go on without their Job: whoever deleted that asked for them to be
// orphaned.
func (s *snapshot) leftPods() string {
	var names []string
	for _, pod := range s.pods {
		if len(pod.OwnerReferences) == 0 && pod.DeletionTimestamp.IsZero() && !hasEnded(pod) {
			names = append(names, pod.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return fmt.Sprintf(" Pods that it left go on (%d, such as %s); they are deleted with the PooledJob.", len(names), names[0])
}

// neverStarted reports whether the Job that is gone was seen not to have started when its deletion
// began: after that the Job controller makes no Pods. (It makes them before it writes that it
// did; so they are asked for, too. It takes the start time back when a Job is suspended.)
func (s *snapshot) neverStarted() bool {
	gone := s.memory.gone
	if gone == nil || !s.memory.goneWatched || s.memory.gonePodsMissing || (s.memory.goneForgotten && !s.memory.goneSettled) {
		return false
	}
	if gone.UID != s.observedUID() || gone.DeletionTimestamp.IsZero() || jobstatus.Decided(gone) {
		return false
	}
	status := &gone.Status
	return status.StartTime == nil && status.Active == 0 && status.Succeeded == 0 && status.Failed == 0 &&
		s.job.Status.StartTime == nil && !jobstatus.Started(&s.job.Status) && len(s.memory.gonePods) == 0 && len(s.pods) == 0 && len(s.endedPods) == 0
}

// isKnown reports whether a Job is the one that was observed, if one was.
func isKnown(s *snapshot, job *batchv1.Job) bool {
	known := s.observedUID()
	return known == "" || known == job.UID
}

// provesJob reports whether there was a Job of that name, by one of its Pods. (Labels prove
// nothing: whoever makes Pods can copy them.)
func provesJob(name string, pod *corev1.Pod) bool {
	if len(pod.OwnerReferences) == 0 { // the Job was deleted, and let its Pods stay
		return pod.Labels[batchv1.JobNameLabel] == name && slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
	}
	return slices.ContainsFunc(pod.OwnerReferences, func(owner metav1.OwnerReference) bool {
		return owner.Kind == "Job" && owner.Name == name
	})
}

// whyNoCluster says why the run cannot be placed.
func whyNoCluster(s *snapshot) string {
	if s.badSelector != nil {
		return fmt.Sprintf("spec.clusterSelector cannot be used: %v. Create a new PooledJob.", s.badSelector)
	}
	return placement.WhyNone(s.candidates, s.job.Namespace, jobspec.TargetNamespace(s.job))
}

// hasEnded reports whether a Pod has ended.
func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
