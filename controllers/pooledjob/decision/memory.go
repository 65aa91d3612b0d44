package decision

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/binding"
)

// Memory is what one process remembers of its own requests for one PooledJob.
// Nothing depends on it being there: without it the next process asks the hub and
// the target instead.
type Memory struct {
	UID     types.UID
	Attempt int32
	// Current is true if this process has the creation of the Job to itself: it
	// wrote the intent, or took over by a write of its own since. CheckedAt is when
	// it last made sure that nobody has taken over from it.
	Current   bool
	CheckedAt time.Time
	// Creator is the other process that has the creation to itself, or had, and
	// CreatorSeenAt when that was noticed: its requests are not younger.
	Creator       string
	CreatorSeenAt time.Time
	// Intent is the one by which the run is bound; empty if it is not.
	Intent binding.Intent
	// Written is the PooledJob as this process wrote it last, until the cache shows that
	// or a later version, and WrittenOver the resourceVersions that it was written over since
	// the cache was up to date. Do not change what Written points to.
	Written     *v1alpha1.PooledJob
	WrittenOver []string
	// CreatedAt is when the target answered that the Job exists, and JobUID
	// what Job; Seen is true if the informer has shown it since.
	CreatedAt time.Time
	JobUID    types.UID
	Seen      bool
	// Existed is true if the target said that a Job of the run's name exists, which is in no
	// view since.
	Existed bool
	// BoundAt is when this process bound the run; zero if another one did. No request to
	// create the Job is older.
	BoundAt time.Time
	// UnknownSince is when the last request to create the Job ended without an
	// answer, so that it is not known whether it was created.
	UnknownSince time.Time
	// Refusal is the target's last answer that is worth another try, RetryAt
	// when, and Refusals how many came in a row.
	Refusal  *Refusal
	RetryAt  time.Time
	Refusals int
	// EndedAt is when the end of the Job became known. PodsAsks counts how often its Pods were asked for
	// since, while the view did not show them as they are.
	EndedAt  time.Time
	PodsAsks int
	// Patch is the last change of the Job that the target took, and PatchedAt when.
	Patch     string
	PatchedAt time.Time
	// DeletedUID is the Job whose deletion the target accepted, and DeletedAt when.
	DeletedUID types.UID
	DeletedAt  time.Time
	// Gone is the Job that left the view.
	Gone Gone
	// DeletionSeen is the Job that was seen to be deleted before it had ended.
	DeletionSeen types.UID
	// TTLAskedAt is when the target was last asked to keep the finished Job, TTLKept is true if
	// it said it would, and TTLRefused if it said that it will not.
	TTLAskedAt time.Time
	TTLKept    bool
	TTLRefused bool
	// Warnings are what the target's API server said when it took the Job.
	Warnings []string
	// Standstill is what is known of why nothing happens; see standstill.go.
	Standstill Standstill
	// ReleasedAt is when the finalizer was taken off.
	ReleasedAt time.Time
	// WrittenAt is when the PooledJob was last written, and WaitsSince since when a change of
	// its status waits that can go with another one; zero if none does.
	WrittenAt, WaitsSince time.Time
}

// Gone is what a process remembers of a Job that left the view.
type Gone struct {
	// Job is the Job as it was then; nil if it is there or was not seen to go. Pods are those that were
	// known then, and At is when that was.
	Job  *batchv1.Job
	Pods []*corev1.Pod
	At   time.Time
	// Watched says that nothing can have happened to the Job between that state and its going.
	Watched bool
	// PodsMissing says that Pods are not all: there was no room for them.
	PodsMissing bool
	// Settled says that the view still remembered the Job when it showed everything that had happened
	// when it left, so that Pods has all that ended before.
	Settled bool
	// Awaited says that the Job was proven absent since: while the Pods are late the target is not asked again,
	// for it has enough to send. Asks counts how often it was asked for its Pods.
	Awaited bool
	Asks    int
	// Forgotten says that the view does not remember the Job any more: Pods that have ended since
	// it left are not known.
	Forgotten bool
}

// Size returns about how many bytes it takes.
func (g *Gone) Size() (size int) {
	const object = 2 << 10 // beside what its encoding takes
	if g.Job != nil {
		size += g.Job.Size() + object
	}
	for _, pod := range g.Pods {
		size += 3*pod.Size() + object
	}
	return size
}

// Standstill is what a process knows of a run that stands still.
type Standstill struct {
	// Subject is what stands still, a Pod or the Job without one, and Since is when that was
	// seen; zero while nothing does.
	Subject types.UID
	Since   time.Time
	// Looked is true if the run was looked at before, and is not one that was taken over.
	Looked bool
	// Reads counts how often the Events were read since, LastRead is when that was, and Turn
	// when the next may be.
	Reads          int
	LastRead, Turn time.Time
	// Trouble is what they said.
	Trouble v1alpha1.Result
}
