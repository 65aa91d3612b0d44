package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/follow"
)

// truth is what one target's own objects said, by watches of the suite.
type truth struct {
	mu   sync.Mutex
	jobs map[types.UID]*remoteJob
	pods map[string]*remotePod // by name
}

// remoteJob is what a Job of ours has come to. It is remembered when the Job is gone, whoever
// has deleted it.
type remoteJob struct {
	uid             types.UID
	namespace, name string
	owner           types.UID // of the PooledJob, by the label
	// condition, reason and at are those of its verdict; empty without one.
	condition, reason string
	at                time.Time
	// decided is true if its end was decided, and perhaps not declared yet.
	decided bool
	// made is the Job's creation, by the target's clock in whole seconds.
	made   time.Time
	gone   bool
	goneAt time.Time
}

// String returns the Job in one line.
func (j *remoteJob) String() string {
	text := fmt.Sprintf("Job %s/%s (UID %s), made at %s", j.namespace, j.name, j.uid, j.made.Format(clock))
	if j.condition != "" {
		text += fmt.Sprintf(", %s/%s at %s", j.condition, j.reason, j.at.Format(clock))
	}
	if j.gone {
		text += ", gone at " + j.goneAt.Format(clock)
	}
	return text
}

// completed reports whether the Job had completed by then; the times of both are in whole seconds.
func (j *remoteJob) completed(by time.Time) bool {
	return j.condition == string(batchv1.JobComplete) && !j.at.After(by)
}

// remotePod is how a Pod of ours ended.
type remotePod struct {
	owner    types.UID
	exitCode string // "" while it has not ended
	job      string // the name of its Job
	// startedAt is when a container of it was first seen to have started.
	startedAt time.Time
	// byItself is true if a container of it ended before anybody had asked for the Pod's deletion.
	byItself bool
}

// seekTruth begins to follow a target.
func seekTruth(ctx context.Context, c client.WithWatch) *truth {
	t := &truth{jobs: map[types.UID]*remoteJob{}, pods: map[string]*remotePod{}}
	ours := client.HasLabels{v1alpha1.LabelHub}
	follow.Objects(ctx, c, &batchv1.Job{}, &batchv1.JobList{}, follow.Told[*batchv1.Job]{Is: t.ofJob, Gone: t.jobGone}, ours)
	follow.Objects(ctx, c, &corev1.Pod{}, &corev1.PodList{}, follow.Told[*corev1.Pod]{Is: t.ofPod}, ours)
	return t
}

func (t *truth) ofJob(job *batchv1.Job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	j := t.jobs[job.UID]
	if j == nil {
		j = &remoteJob{uid: job.UID, namespace: job.Namespace, name: job.Name, owner: types.UID(job.Labels[v1alpha1.LabelUID])}
		if job.Labels[v1alpha1.LabelHub] == foreignHub {
			j.owner = ""
		}
		j.made = job.CreationTimestamp.Time
		t.jobs[job.UID] = j
	}
	// What lost its labels looked gone.
	j.gone, j.goneAt = false, time.Time{}
	for _, c := range job.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete, batchv1.JobFailed:
			j.condition, j.reason, j.at = string(c.Type), c.Reason, c.LastTransitionTime.Time
		case batchv1.JobSuccessCriteriaMet, batchv1.JobFailureTarget:
			j.decided = true
		case batchv1.JobSuspended:
		}
	}
}

func (t *truth) jobGone(job *batchv1.Job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.jobs[job.UID].gone, t.jobs[job.UID].goneAt = true, time.Now()
}

func (t *truth) ofPod(pod *corev1.Pod) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pods[pod.Name]
	if p == nil {
		p = &remotePod{owner: types.UID(pod.Labels[v1alpha1.LabelUID]), job: pod.Labels[batchv1.JobNameLabel]}
		t.pods[pod.Name] = p
	}
	for _, c := range pod.Status.ContainerStatuses {
		if p.startedAt.IsZero() && (c.State.Running != nil || c.State.Terminated != nil) {
			p.startedAt = time.Now()
		}
		if c.State.Terminated != nil {
			p.exitCode = fmt.Sprint(c.State.Terminated.ExitCode)
			p.byItself = p.byItself || pod.DeletionTimestamp == nil
		}
	}
}

// jobsOf returns the Jobs that there ever were for a PooledJob.
func (t *truth) jobsOf(owner types.UID) []remoteJob {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []remoteJob
	for _, j := range t.jobs {
		if j.owner == owner {
			found = append(found, *j)
		}
	}
	return found
}

// pod returns what is known of a Pod.
func (t *truth) pod(name string) (remotePod, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.pods[name]; p != nil {
		return *p, true
	}
	return remotePod{}, false
}

// ranBefore reports whether a Pod of a Job was seen to have started before that time.
func (t *truth) ranBefore(job string, before time.Time) bool {
	return t.hasPod(job, func(p *remotePod) bool { return !p.startedAt.IsZero() && p.startedAt.Before(before) })
}

// endedByItself reports whether a Pod of a Job was seen to end before its deletion was requested.
func (t *truth) endedByItself(job string) bool {
	return t.hasPod(job, func(p *remotePod) bool { return p.byItself })
}

// hasPod reports whether there ever was such a Pod of a Job.
func (t *truth) hasPod(job string, such func(*remotePod) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pods {
		if p.job == job && such(p) {
			return true
		}
	}
	return false
}

// podsOf returns the names of the Pods that there ever were for a PooledJob.
func (t *truth) podsOf(owner types.UID) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []string
	for name, p := range t.pods {
		if p.owner == owner {
			found = append(found, name)
		}
	}
	return found
}

// unended returns the UIDs of the PooledJobs whose Job has no verdict and is there.
func (t *truth) unended() []types.UID {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []types.UID
	for _, uid := range slices.Sorted(maps.Keys(t.jobs)) {
		if j := t.jobs[uid]; j.condition == "" && !j.gone && j.owner != "" {
			found = append(found, j.owner)
		}
	}
	return found
}
