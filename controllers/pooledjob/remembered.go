package pooledjob

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
)

// memory is what one process remembers of its own requests for one PooledJob.
// Nothing depends on it being there: without it the next process asks the hub and
// the target instead.
type memory struct {
	uid     types.UID
	attempt int32
	// current is true if this process has the creation of the Job to itself: it
	// wrote the intent, or took over by a write of its own since. checkedAt is when
	// it last made sure that nobody has taken over from it.
	current   bool
	checkedAt time.Time
	// creator is the other process that has the creation to itself, or had, and
	// creatorSeenAt when that was noticed: its requests are not younger.
	creator       string
	creatorSeenAt time.Time
	// intent is the one by which the run is bound; empty if it is not.
	intent jobspec.Intent
	// written is the PooledJob as this process wrote it last, until the cache shows that
	// or a later version, and writtenOver the resourceVersions that it was written over since
	// the cache was up to date. Do not change what written points to.
	written     *v1alpha1.PooledJob
	writtenOver []string
	// createdAt is when the target answered that the Job exists, and jobUID
	// what Job; seen is true if the informer has shown it since.
	createdAt time.Time
	jobUID    types.UID
	seen      bool
	// existed is true if the target said that a Job of the run's name exists, which is in no
	// view since.
	existed bool
	// boundAt is when this process bound the run; zero if another one did. No request to
	// create the Job is older.
	boundAt time.Time
	// unknownSince is when the last request to create the Job ended without an
	// answer to tell whether it was created.
	unknownSince time.Time
	// refusal is the target's last answer that is worth another try, retryAt
	// when, and refusals how many came in a row.
	refusal  *refusal
	retryAt  time.Time
	refusals int
	// endedAt is when the end of the Job became known.
	endedAt time.Time
	// patch is the last change of the Job that the target took, and patchedAt when.
	patch     string
	patchedAt time.Time
	// deletedUID is the Job whose deletion the target accepted, and deletedAt when.
	deletedUID types.UID
	deletedAt  time.Time
	// gone is the Job as it was when it left the view, nil if it is there or was not seen to go.
	// gonePods are the Pods that were known then. goneAt is when that was, and goneWatched says that
	// nothing can have happened to the Job in between.
	gone        *batchv1.Job
	gonePods    []*corev1.Pod
	goneAt      time.Time
	goneWatched bool
	// gonePodsMissing says that gonePods are not all: there was no room for them.
	gonePodsMissing bool
	// goneSettled says that the view still remembered the Job PodsPause after it had left, so that
	// gonePods has all Pods that ended before it left.
	goneSettled bool
	// goneForgotten says that the view does not remember the Job any more: Pods that have ended since
	// it left are not known.
	goneForgotten bool
	// deletionSeen is the Job that was seen to be deleted before it had ended.
	deletionSeen types.UID
	// ttlAskedAt is when the target was last asked to keep the finished Job, ttlKept is true if
	// it said it would, and ttlRefused if it said that it will not.
	ttlAskedAt time.Time
	ttlKept    bool
	ttlRefused bool
	// warnings are what the target's API server said when it took the Job.
	warnings []string
	// standstill is what is known of why nothing happens; see standstill.go.
	standstill standstill
	// releasedAt is when the finalizer was taken off.
	releasedAt time.Time
	// writtenAt is when the PooledJob was last written, and waitsSince since when a change of
	// its status waits that can go with another one; zero if none does.
	writtenAt, waitsSince time.Time
}

// forgetGone drops what is remembered of the Job that went.
func (m *memory) forgetGone() {
	m.gone, m.gonePods = nil, nil
	m.gonePodsMissing, m.goneSettled, m.goneForgotten = false, false, false
}

// goneSize is about how many bytes what is remembered of a Job that is gone takes.
func (m *memory) goneSize() (size int) {
	const object = 2 << 10 // beside what its encoding takes
	if m.gone != nil {
		size += m.gone.Size() + object
	}
	for _, pod := range m.gonePods {
		size += 3*pod.Size() + object
	}
	return size
}

// standstill is what a process knows of a run that stands still.
type standstill struct {
	// subject is what stands still, a Pod or the Job without one, and since is when that was
	// seen; zero while nothing does.
	subject types.UID
	since   time.Time
	// looked is true if the run was looked at before, and is not one that was taken over.
	looked bool
	// reads counts how often the Events were read since, lastRead is when that was, and turn
	// when the next may be.
	reads          int
	lastRead, turn time.Time
	// trouble is what they said.
	trouble v1alpha1.Result
}
