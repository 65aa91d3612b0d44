package pooledjob

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/metrics"
	"github.com/pooledjob/pooledjob/internal/requeue"
)

const (
	// knowledgeLife is how long a process may rely on having the creation of a Job to
	// itself: a leader that was stopped for longer may have been replaced, and the Job
	// may have come and gone meanwhile. Leases last 15 s.
	knowledgeLife = 10 * time.Second
	// decisionLife is how old the decision to create a Job may be when the request is
	// sent, for the same reason.
	decisionLife = 5 * time.Second
	// recheck is the wait until the cache has caught up.
	recheck = 100 * time.Millisecond
	// busyTemplates is the wait while too many large templates are in use.
	busyTemplates = 2 * time.Second
)

// claimAndCreate creates the remote Job, once this process has the creation to itself. One that
// another process began it takes over first, and after a pause it makes sure that nobody has taken
// over from it: a Job that was seen already must not be created again.
func (r *run) claimAndCreate(ctx context.Context) (time.Duration, error) {
	if !r.Memory.Current {
		if err := r.takeOver(ctx); err != nil || !r.Memory.Current {
			return 0, err
		}
	} else if r.Time.Sub(r.Memory.CheckedAt) > knowledgeLife {
		if current, err := r.isCurrent(ctx); !current {
			return recheck, err
		}
		r.remember(func(m *decision.Memory) { m.CheckedAt = r.Time })
	}
	return r.create(ctx)
}

// isCurrent asks the hub's API server whether the PooledJob is still as it was when the run was
// decided about.
func (r *run) isCurrent(ctx context.Context) (bool, error) {
	live, err := r.PooledJobs.Get(ctx, client.ObjectKeyFromObject(r.Job))
	if err != nil {
		return false, client.IgnoreNotFound(fmt.Errorf("reading the PooledJob: %w", err))
	}
	if live.UID != r.Job.UID || live.ResourceVersion != r.Job.ResourceVersion {
		r.memories.outdated(client.ObjectKeyFromObject(r.Job))
		return false, nil
	}
	return true, nil
}

// takeOver takes over a creation from another process. From here on that one's writes
// fail, for they are made on an older version; and so does ours, if what the cache shows
// is not the latest.
func (r *run) takeOver(ctx context.Context) error {
	taken := r.Job.ObjectMeta.DeepCopy()
	metav1.SetMetaDataAnnotation(taken, v1alpha1.AnnotationCreator, r.process)
	if err := r.writeMeta(ctx, metrics.WriteTakeover, taken); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("taking over the creation of the Job: %w", err))
	}
	r.remember(func(m *decision.Memory) {
		m.Current, m.CheckedAt, m.UnknownSince = true, r.Time, r.Time
		m.Creator, m.Intent = r.process, r.Intent
	})
	return nil
}

// create asks the target for the remote Job. The name makes it safe to ask again.
func (r *run) create(ctx context.Context) (time.Duration, error) {
	if r.Clock.Now().Sub(r.Time) > decisionLife {
		return recheck, nil
	}
	r.accept()
	if r.Memory.Existed {
		return r.endUnseen(ctx, wasThere)
	}
	wanted, release, after, err := r.buildJob(ctx)
	if wanted == nil {
		return after, err
	}
	defer release()
	if r.MayHaveSent() {
		if ask, after, err := r.tryFirst(ctx, wanted); !ask {
			return after, err
		}
	}
	if r.Clock.Now().Sub(r.Time) > decisionLife { // reading the template, or asking the target, took long
		if current, err := r.isCurrent(ctx); !current {
			return recheck, err
		}
	}
	created, warnings, err := r.lease.CreateJob(ctx, *wanted)
	switch {
	case err == nil:
		logf.FromContext(ctx).Info("Created the Job", "cluster", r.Cluster, "targetNamespace", created.Namespace, "job", created.Name, "uid", created.UID)
		r.found(created)
		r.remember(func(m *decision.Memory) { m.Warnings = warnings })
		if err := r.observe(ctx, created); err != nil || !jobspec.ExpiresSoon(created) {
			return 0, err
		}
		return r.keepFinished(ctx, created)
	case wasNotSent(err):
		return 0, err // nothing was sent
	case apierrors.IsAlreadyExists(err):
		return r.adopt(ctx)
	default:
		return r.refused(ctx, decision.Classify(err))
	}
}

// buildJob makes the remote Job; release must be called when it is not used any more. While that
// cannot be, it is nil, and the run is to be looked at again after a while.
func (r *run) buildJob(ctx context.Context) (job *connpool.NewJob, release func(), after time.Duration, err error) {
	template, release, err := r.PooledJobs.Template(ctx, r.Job)
	switch {
	case errors.Is(err, hubcache.ErrOutdated):
		r.memories.outdated(client.ObjectKeyFromObject(r.Job))
		return nil, nil, recheck, nil
	case errors.Is(err, hubcache.ErrBusy):
		r.writer.Waiting(v1alpha1.ReasonCreating, "The template is large, and others that are have to be sent to their clusters first.")
		return nil, nil, busyTemplates, nil
	case err != nil:
		return nil, nil, 0, client.IgnoreNotFound(fmt.Errorf("reading spec.template: %w", err))
	}
	encoded, err := jobspec.Encode(r.Job, template, r.HubID, r.Intent)
	if err != nil {
		release()
		return nil, nil, 0, err
	}
	return &connpool.NewJob{Namespace: r.Intent.Namespace, Name: r.Intent.JobName, JSON: encoded}, release, 0, nil
}

// found remembers that the Job exists.
func (r *run) found(job *batchv1.Job) {
	r.remember(func(m *decision.Memory) {
		m.JobUID, m.CreatedAt = job.UID, r.Time
		m.Refusal, m.Refusals = nil, 0
	})
}

// noteUnanswered records for the next process that a request to create the Job may still
// take effect.
func (r *run) noteUnanswered() {
	since := r.Memory.UnknownSince
	if since.IsZero() && !r.Memory.Current && r.before.JobRef.UID == "" {
		since = r.Memory.CreatorSeenAt // the other process may have died waiting for an answer
	}
	if !since.IsZero() && !jobstatus.Finished(&r.Job.Status) {
		lost := metav1.NewTime(since).Rfc3339Copy()
		r.Job.Status.UnansweredRequestTime = &lost
	}
}

// adopt looks at the Job that has our name already: if it is ours, an earlier request
// has created it. (Also when it is being deleted: then it is a Job that was, and its
// absence will be loss.)
func (r *run) adopt(ctx context.Context) (time.Duration, error) {
	verdict, err := r.proveAbsence(ctx)
	if err != nil {
		return 0, err
	}
	if verdict.outcome == binding.Unproven || verdict.outcome == binding.Absent { // nobody else uses that name
		r.remember(func(m *decision.Memory) { m.Existed = true })
	}
	if verdict.outcome == binding.Absent {
		return r.endUnseen(ctx, wasThere)
	}
	return r.notAbsent(ctx, verdict)
}

// failNameConflict ends the run because a Job that is not ours has its Job's name.
func (r *run) failNameConflict() {
	r.writer.Fail(v1alpha1.ReasonNameConflict, fmt.Sprintf(
		"Job %s/%s exists on the cluster and does not belong to this PooledJob; it was left alone.", r.Intent.Namespace, r.Intent.JobName))
}

// refused acts on the target's refusal: a final one ends the run, if no earlier
// request can have created the Job; any other is tried again.
func (r *run) refused(ctx context.Context, answer decision.Refusal) (time.Duration, error) {
	if answer.Final {
		return r.refuse(ctx, decision.Action{Reason: answer.Reason, Message: answer.Message})
	}
	r.remember(func(m *decision.Memory) {
		m.Refusal, m.RetryAt = &answer, r.Time.Add(decision.Backoff(m.Refusals))
		m.Refusals++
		if answer.Unknown {
			m.UnknownSince = r.Clock.Now()
		}
	})
	r.writer.Waiting(answer.Reason, answer.Message)
	left, _ := r.DispatchTimeLeft()
	return requeue.Earliest(r.Memory.RetryAt.Sub(r.Time), max(left, 0)), nil
}

// refuse ends the run before it has a remote Job. A run that is bound may have one
// all the same; then its absence must be proven first.
func (r *run) refuse(ctx context.Context, a decision.Action) (time.Duration, error) {
	if a.Reason == v1alpha1.ReasonNotPermitted {
		if permitted, err := r.permittedLive(ctx); permitted || err != nil {
			return recheck, err
		}
	}
	if r.Bound {
		r.nameCluster()
	}
	if r.Bound && r.MayHaveSent() {
		verdict, err := r.proveAbsence(ctx)
		if err != nil {
			return 0, err
		}
		if verdict.outcome == binding.Absent {
			unseen, why, err := r.mayHaveCompleted(ctx, a.Reason)
			if err != nil {
				return 0, err
			}
			if unseen {
				r.failUnseen(why)
				return 0, nil
			}
			a.Message = strings.TrimSpace(a.Message) + " (Whether an earlier request to create the Job was answered is not known; there is none now.)"
		} else {
			verdict.why = fmt.Sprintf("The run is to end (%s), once it is certain that its Job does not exist. %s", a.Reason, verdict.why)
			return r.notAbsent(ctx, verdict)
		}
	}
	if a.Reason == v1alpha1.ReasonNotPermitted {
		r.writer.Accepted(metav1.ConditionFalse, a.Reason, a.Message)
	}
	r.writer.Fail(a.Reason, a.Message)
	return 0, nil
}

// permittedLive checks the access rules against the hub's API server: a refusal is
// final, and a cache may be behind a namespace's labels or a rule.
func (r *run) permittedLive(ctx context.Context) (bool, error) {
	connection := &v1alpha1.ClusterConnection{}
	if err := r.Live.Get(ctx, client.ObjectKey{Name: r.Cluster}, connection); err != nil {
		if apierrors.IsNotFound(err) {
			return true, nil // it waits for the connection then
		}
		return false, fmt.Errorf("reading the access rules: %w", err)
	}
	live, err := r.checkAccess(ctx, r.Live, connection, r.Job)
	return live.Permitted, err
}
