package decision

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/access"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/placement"
)

// Snapshot is everything that a decision about a PooledJob is made from.
type Snapshot struct {
	Time time.Time
	Job  *v1alpha1.PooledJob

	// Cluster is the ClusterConnection to run on; empty while none was chosen, and
	// then there are candidates, or BadSelector says why there cannot be any.
	Cluster     string
	Candidates  []placement.Candidate
	BadSelector error

	// Intent is where the remote Job is, or would be. Bound is true if it was
	// recorded on the PooledJob, and Stripped that it is not there as it was.
	Intent   binding.Intent
	Bound    bool
	Stripped bool

	// Connection is the ClusterConnection; nil when it does not exist.
	Connection *v1alpha1.ClusterConnection
	// Access is what its access rules say.
	Access access.Decision
	// Contact is whether the target can be asked. If it is Connecting, Away or Fenced,
	// ContactMessage says why, and ContactReason in one word.
	Contact        Contact
	ContactReason  string
	ContactMessage string
	// ExpiredAt is when the credential ended that the connection uses; zero if it
	// has not.
	ExpiredAt time.Time

	// Remote is the Job in the connection's view, and Pods its Pods; nil when
	// there is none of ours.
	Remote *batchv1.Job
	Pods   []*corev1.Pod
	// EndedPods are Pods that have ended and are gone.
	EndedPods []*corev1.Pod

	// PodsLateAt is when the view was last known to show the Pods late: no watch of them was open, or the
	// target sent more than the connection reads. Before that time they may be of a moment that is many seconds
	// before that of the Job.
	PodsLateAt time.Time

	// Memory is what this process remembers of its own requests.
	Memory Memory
}

// RequestLifetime is how long a request whose outcome we never heard may still take
// effect: the API server ends a request after 60 s, and the way there takes time.
const RequestLifetime = 75 * time.Second

// RequestsInFlight returns how much longer a request to create the Job, of ours or of a
// process before us, may take effect.
func (s *Snapshot) RequestsInFlight() time.Duration {
	var since time.Time
	switch {
	case jobstatus.Finished(&s.Job.Status) && !s.WasObserved():
		return 0 // it was proven then that none was
	case s.Memory.Current:
		since = s.Memory.UnknownSince
	case s.WasObserved():
		if lost := s.Job.Status.UnansweredRequestTime; lost != nil {
			since = lost.Add(time.Second) // it was cut to seconds
			if lost.After(s.Time) {
				since = s.Memory.CreatorSeenAt // it is of another clock
			}
		}
	default:
		since = s.Memory.CreatorSeenAt
	}
	if since.IsZero() {
		return 0
	}
	return max(0, since.Add(RequestLifetime).Sub(s.Time))
}

// clockMargin is how far the clocks of hub and manager may be apart before an age is taken for
// too small.
const clockMargin = time.Minute

// MayHaveSent reports whether an earlier request may have created the Job: one whose answer was
// lost, or one of another process.
func (s *Snapshot) MayHaveSent() bool {
	return !s.Memory.Current || !s.Memory.UnknownSince.IsZero() || s.Memory.Existed
}

// Outlives reports whether a Job with that ttlSecondsAfterFinished, created by any request of the
// run, would still be there.
func (s *Snapshot) Outlives(ttl *int32) bool {
	age := s.Time.Sub(s.Memory.BoundAt)
	if s.Memory.BoundAt.IsZero() {
		age = s.Time.Sub(s.Job.CreationTimestamp.Time) + clockMargin
	}
	return ttl == nil || time.Duration(*ttl)*time.Second > age
}

// LeftPods returns a sentence about the Pods that go on without their Job: whoever deleted that asked for them to be
// orphaned.
func (s *Snapshot) LeftPods() string {
	var names []string
	for _, pod := range s.Pods {
		if len(pod.OwnerReferences) == 0 && pod.DeletionTimestamp.IsZero() && !HasEnded(pod) {
			names = append(names, pod.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return fmt.Sprintf(" Pods that it left go on (%d, such as %s); they are deleted with the PooledJob.", len(names), names[0])
}

// NeverStarted reports whether the Job that is gone was seen not to have started when its deletion
// began: after that the Job controller makes no Pods. (It makes them before it writes that it
// did; so they are asked for, too. It takes the start time back when a Job is suspended.)
func (s *Snapshot) NeverStarted() bool {
	gone := s.Memory.Gone.Job
	if gone == nil || !s.Memory.Gone.Watched || s.Memory.Gone.PodsMissing || (s.Memory.Gone.Forgotten && !s.Memory.Gone.Settled) {
		return false
	}
	if gone.UID != s.ObservedUID() || gone.DeletionTimestamp.IsZero() || jobstatus.Decided(gone) {
		return false
	}
	status := &gone.Status
	return status.StartTime == nil && status.Active == 0 && status.Succeeded == 0 && status.Failed == 0 &&
		s.Job.Status.StartTime == nil && !jobstatus.Started(&s.Job.Status) && len(s.Memory.Gone.Pods) == 0 && len(s.Pods) == 0 && len(s.EndedPods) == 0
}

// IsKnown reports whether a Job is the one that was observed, if one was.
func IsKnown(s *Snapshot, job *batchv1.Job) bool {
	known := s.ObservedUID()
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

// whyNoCluster returns why the run cannot be placed.
func whyNoCluster(s *Snapshot) string {
	if s.BadSelector != nil {
		return fmt.Sprintf("spec.clusterSelector cannot be used: %v. Create a new PooledJob.", s.BadSelector)
	}
	return placement.WhyNone(s.Candidates, s.Job.Namespace, jobspec.TargetNamespace(s.Job))
}

// HasEnded reports whether a Pod has ended.
func HasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
