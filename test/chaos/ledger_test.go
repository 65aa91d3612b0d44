package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

// tardiness bounds how late the suite may be to see what its targets tell.
const tardiness = 3 * time.Second

// ledger is what the manager did, by the audit logs of the hub and of the targets.
type ledger struct {
	logs map[*cluster]*localcluster.AuditLog
	// owners are the UIDs of the PooledJobs for which a Job was asked for, by
	// "target/namespace/name".
	owners map[string]types.UID
	// created are the UIDs of the Jobs that were created for a PooledJob, as
	// "target/UID".
	created map[types.UID]map[string]bool
	// asked is when a Job was first asked for.
	asked map[types.UID]time.Time
	// bound is when the PooledJob of that name was first patched.
	bound map[string]time.Time
	// lines are the audited requests for a PooledJob.
	lines map[types.UID][]string
	// collected are the deletions of Jobs by anybody but the manager.
	collected map[types.UID][]string
	// writes are all writes to the targets that are not to Jobs of ours.
	writes []write
}

// write is a request of the manager that changes a target.
type write struct {
	target *target
	event  localcluster.AuditEvent
}

// newLedger begins with the start of the clusters.
func newLedger() *ledger {
	l := &ledger{
		logs: map[*cluster]*localcluster.AuditLog{}, owners: map[string]types.UID{}, created: map[types.UID]map[string]bool{},
		asked: map[types.UID]time.Time{}, bound: map[string]time.Time{}, lines: map[types.UID][]string{},
		collected: map[types.UID][]string{},
	}
	for _, c := range allClusters() {
		var err error
		l.logs[c], err = c.AuditLog()
		Expect(err).NotTo(HaveOccurred())
	}
	return l
}

// openLedger returns the suite's ledger, up to now.
func openLedger() *ledger {
	l := world.ledger
	events, err := l.logs[world.hub].Next()
	Expect(err).NotTo(HaveOccurred())
	for _, event := range events {
		name := event.ObjectRef.Name
		bind := event.Verb == "patch" && event.ObjectRef.Resource == "pooledjobs" && event.ObjectRef.Subresource == "" && event.User.Username == localenv.ManagerUser
		if bind && l.bound[name].IsZero() {
			l.bound[name] = event.Received
		}
	}
	for _, t := range world.targets {
		events, err := l.logs[t.cluster].Next()
		Expect(err).NotTo(HaveOccurred())
		for _, event := range events {
			l.read(t, event)
		}
	}
	return l
}

func (l *ledger) read(t *target, event localcluster.AuditEvent) {
	byManager := event.User.Username == localenv.TargetUser
	key := t.Name() + "/" + event.ObjectRef.Namespace + "/" + event.ObjectRef.Name
	creates := event.ObjectRef.Resource == "jobs" && event.Verb == "create"
	if byManager && creates {
		l.readCreation(t, event, key)
	}
	owner := l.owners[key]
	if event.ObjectRef.Resource == "jobs" && owner != "" {
		l.lines[owner] = append(l.lines[owner], t.Name()+" "+event.String())
	}
	ours := event.ObjectRef.Resource == "jobs" && event.ObjectRef.Subresource == "" && owner != "" && slices.Contains([]string{"create", "patch", "delete"}, event.Verb)
	if !byManager && event.ObjectRef.Resource == "jobs" && event.Verb == "delete" && owner != "" && event.ResponseStatus.Code == http.StatusOK {
		l.collected[owner] = append(l.collected[owner], t.Name()+" "+event.String())
	}
	if byManager && !ours && event.Verb != "get" && event.Verb != "list" {
		l.writes = append(l.writes, write{t, event})
	}
}

func (l *ledger) readCreation(t *target, event localcluster.AuditEvent, key string) {
	var asked, made metav1.PartialObjectMetadata
	// What cannot be decoded has no labels, and that will be found.
	_ = json.Unmarshal(event.RequestObject, &asked)
	owner := types.UID(asked.Labels[v1alpha1.LabelUID])
	if asked.Labels[v1alpha1.LabelHub] != ourHub {
		return
	}
	l.owners[key] = owner
	if event.DryRun() {
		return // it makes nothing
	}
	if l.asked[owner].IsZero() {
		l.asked[owner] = event.Received
	}
	if event.ResponseStatus.Code == http.StatusCreated {
		_ = json.Unmarshal(event.ResponseObject, &made)
		if l.created[owner] == nil {
			l.created[owner] = map[string]bool{}
		}
		l.created[owner][t.Name()+"/"+string(made.UID)] = true
	}
}

// trespasses returns writes to anything but Jobs that the manager created, and Pods of
// theirs.
func (l *ledger) trespasses() []string {
	var wrong []string
	for _, w := range l.writes {
		ref := w.event.ObjectRef
		pod, known := w.target.truth.pod(ref.Name)
		ofOurs := ref.Resource == "pods" && w.event.Verb == "delete" && known && l.created[pod.owner] != nil
		// A name is noted when the object was read: what failed before has written nothing.
		unread := w.event.Verb == "create" && ref.Name == "" && w.event.ResponseStatus.Code >= http.StatusBadRequest
		if (ofOurs && !w.target.foreign.has(ref.Name)) || ref.Resource == "selfsubjectaccessreviews" || unread {
			continue
		}
		wrong = append(wrong, "not ours to write: "+w.target.Name()+" "+w.event.String())
	}
	return wrong
}

// jobsOf returns all Jobs that there ever were for a PooledJob, by the audit logs and by
// what was seen: a server that is stopped may not have written its last words.
func (l *ledger) jobsOf(owner types.UID) []string {
	all := maps.Clone(l.created[owner])
	if all == nil {
		all = map[string]bool{}
	}
	for _, t := range world.targets {
		for _, job := range t.truth.jobsOf(owner) {
			all[t.Name()+"/"+string(job.uid)] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// check compares what the hub says with what happened. It returns what is wrong, with
// the audited requests of the runs in question.
func (l *ledger) check(ctx context.Context, runs []*planned) []string {
	wrong := l.trespasses()
	for _, run := range runs {
		problems := l.checkRun(ctx, run)
		for _, problem := range problems {
			wrong = append(wrong, fmt.Sprintf("%s (%s, UID %s): %s", run.job.Name, run.kind.name, run.job.UID, problem))
		}
		if len(problems) > 0 {
			wrong = append(wrong, l.lines[run.job.UID]...)
		}
	}
	for _, t := range world.targets {
		wrong = append(wrong, t.foreign.touched(ctx)...)
	}
	return wrong
}

func (l *ledger) checkRun(ctx context.Context, run *planned) []string {
	var wrong []string
	jobs := l.jobsOf(run.job.UID)
	said := world.said.of(run.job.UID)
	if len(said.changed) > 0 {
		wrong = append(wrong, "the hub said that it ended, and then something else: "+strings.Join(said.changed, ", "))
	}
	if asked := l.asked[run.job.UID]; !asked.IsZero() && (l.bound[run.job.Name].IsZero() || asked.Before(l.bound[run.job.Name])) {
		wrong = append(wrong, "its Job was asked for before the hub was told where it would be")
	}
	if len(jobs) > 1 && !(run.kind.moves && oneByOne(run)) {
		return append(append(wrong, fmt.Sprintf("there were %d Jobs: %v", len(jobs), jobs)), successors(run)...)
	}
	wrong = append(wrong, successors(run)...)
	if run.deleted() {
		return append(wrong, checkKept(ctx, run)...)
	}
	says := said.end
	if !run.kind.expires {
		latest := &v1alpha1.PooledJob{}
		if err := world.hub.client.Get(ctx, client.ObjectKeyFromObject(run.job), latest); err != nil {
			return append(wrong, err.Error())
		}
		says = endOf(latest)
	} else if says.String() == "" {
		return wrong // it ended and went while the suite did not see the hub
	}
	if says.reason == v1alpha1.ReasonRemoteJobEndUnknown {
		return append(wrong, l.checkUnknown(ctx, run, says, said.at)...)
	}
	if len(jobs) == 0 {
		if !run.kind.noJob {
			wrong = append(wrong, fmt.Sprintf("there was no Job, and the hub says %s", says))
		}
	} else {
		wrong = append(wrong, run.checkVerdict(says, said.at)...)
	}
	if want := run.kind.end; !run.isDisturbed() && !want.matches(says) {
		wrong = append(wrong, fmt.Sprintf("the hub says %s, the kind ends %+v", says, want))
	}
	return wrong
}

// oneByOne reports whether the Jobs of a run that was moved were never there at once, but for
// one that a person has given up.
func oneByOne(run *planned) bool {
	var jobs []remoteJob
	for _, t := range world.targets {
		if on := t.truth.jobsOf(run.job.UID); t != run.fenced || len(on) > 1 {
			jobs = append(jobs, on...)
		}
	}
	slices.SortFunc(jobs, func(a, b remoteJob) int { return a.made.Compare(b.made) })
	for i := range len(jobs) - 1 {
		// The time of creation is cut to seconds.
		if !jobs[i].gone || jobs[i].goneAt.After(jobs[i+1].made.Add(time.Second)) {
			return false
		}
	}
	return true
}

// successors tells what is wrong with the Jobs that a run had after its first, on whatever
// target. A Job may only follow one that cannot have completed: one that was gone before it
// began to run, or that a person has given up.
func successors(run *planned) []string {
	type placed struct {
		remoteJob
		on *target
	}
	var jobs []placed
	for _, t := range world.targets {
		for _, job := range t.truth.jobsOf(run.job.UID) {
			jobs = append(jobs, placed{job, t})
		}
	}
	slices.SortStableFunc(jobs, func(a, b placed) int { return a.made.Compare(b.made) })
	var wrong []string
	for i := range jobs {
		for j := range i {
			first, second := &jobs[j], &jobs[i]
			if first.on == run.fenced {
				continue
			}
			// The time of creation is cut to seconds.
			until := second.made.Add(time.Second)
			if first.gone && first.goneAt.Before(until) {
				until = first.goneAt
			}
			pair := fmt.Sprintf("on %s %s; on %s %s", first.on.Name(), &first.remoteJob, second.on.Name(), &second.remoteJob)
			switch {
			case first.completed(second.made):
				wrong = append(wrong, "a second Job was made after the first had completed: "+pair)
			case first.on.truth.ranBefore(first.name, until.Add(-time.Second)):
				wrong = append(wrong, "a second Job was made after the first had begun to run: "+pair)
			}
		}
	}
	return wrong
}

// proving is how long the manager may take after a Job went to make sure that it was deleted before
// it had ended, by its Pods. If it is killed meanwhile, what it saw of that is lost.
const proving = 10 * time.Second

// checkUnknown tells what is wrong with the hub's word that it does not know how a Job ended: if
// the Job is there, if nobody else took it away, or if the manager could see it all.
func (l *ledger) checkUnknown(ctx context.Context, run *planned, says end, saidAt time.Time) []string {
	var wrong []string
	if says.condition != v1alpha1.ConditionFailed || says.phase != v1alpha1.PooledJobFailed {
		wrong = append(wrong, fmt.Sprintf("the hub says %s of a run whose end nobody saw", says))
	}
	from, until := run.job.CreationTimestamp.Time, saidAt
	remote, on := lastJob(run.job.UID)
	if remote == nil {
		// A Job that may have come and gone between two looks.
		among := run.candidates()
		if !slices.ContainsFunc(among, func(t *target) bool { return t.collects.byPolicy.overlap(from, until) }) {
			wrong = append(wrong, fmt.Sprintf("the hub says %s, there was no Job, and nothing would have collected one", says))
		}
		if !troubled(from, until, among...) {
			wrong = append(wrong, fmt.Sprintf("the hub says %s, and nothing disturbed the run", says))
		}
		return wrong
	}
	job := &batchv1.Job{}
	err := on.client.Get(ctx, client.ObjectKey{Namespace: remote.namespace, Name: remote.name}, job)
	switch {
	case err == nil && job.UID == remote.uid:
		return append(wrong, fmt.Sprintf("the hub says %s, and its Job is there: %s", says, remote))
	case client.IgnoreNotFound(err) != nil:
		return append(wrong, err.Error())
	}
	if remote.gone {
		if saidAt.Before(remote.goneAt.Add(-tardiness)) {
			wrong = append(wrong, fmt.Sprintf("the hub said at %s that it does not know the end of what was still there: %s", saidAt.Format(clock), remote))
		}
		until = remote.goneAt
	}
	if run.lostAt().IsZero() && len(l.collected[run.job.UID]) == 0 && !on.collects.during(from, until) {
		wrong = append(wrong, fmt.Sprintf("the hub says %s, and nobody but the manager deleted its Job: %s", says, remote))
	}
	// A Job that is deleted when its Pod has ended, or its end was decided, may have ended: its labels
	// may have been taken off meanwhile, which a watch shows as a deletion.
	mayHaveEnded := !run.lostAt().IsZero() && (remote.decided || on.truth.endedByItself(remote.name))
	if witnessed := until.Add(proving); !troubled(from, witnessed, on) && !mayHaveEnded {
		wrong = append(wrong, fmt.Sprintf("the hub says %s, and nothing disturbed the run: %s", says, remote))
	}
	return append(wrong, checkExitCode(says, on)...)
}

// candidates returns the targets that a run may be on.
func (p *planned) candidates() []*target {
	if p.job.Spec.ClusterName == "" {
		return world.targets
	}
	return []*target{p.target}
}

// lastJob returns the Job of a run, the last one if it was moved, and the target that it is
// on; nil if none was seen.
func lastJob(owner types.UID) (*remoteJob, *target) {
	var last *remoteJob
	var on *target
	for _, t := range world.targets {
		for _, job := range t.truth.jobsOf(owner) {
			if last == nil || job.made.After(last.made) {
				last, on = &job, t
			}
		}
	}
	return last, on
}

// checkVerdict compares the end of a run with that of its Job.
func (p *planned) checkVerdict(says end, saidAt time.Time) []string {
	remote, on := lastJob(p.job.UID)
	if remote == nil {
		return []string{"its Job was created, and never seen"}
	}
	lostAt := p.lostAt()
	switch {
	case !lostAt.IsZero() && (says.reason == v1alpha1.ReasonRemoteJobDeleted || says.reason == v1alpha1.ReasonCancelled):
		if saidAt.Before(lostAt) {
			return []string{"the hub said that the Job was deleted before it was"}
		}
		if says.reason == v1alpha1.ReasonRemoteJobDeleted && remote.condition != "" {
			return []string{fmt.Sprintf("the hub says %s, and the Job had ended before it was deleted: %s", says, remote)}
		}
		return nil
	case says.reason == v1alpha1.ReasonCancelled:
		// A Job is cancelled by a deadline that is over.
		says.reason = batchv1.JobReasonDeadlineExceeded
	}
	if remote.condition != says.condition || remote.reason != says.reason {
		return []string{fmt.Sprintf("the hub says %s, the Job %s/%s", says, remote.condition, remote.reason)}
	}
	if saidAt.Before(remote.at) {
		return []string{fmt.Sprintf("the hub said the end at %s, the Job ended at %s", saidAt, remote.at)}
	}
	return checkExitCode(says, on)
}

// checkExitCode compares the exit code of a run with that of its Pod.
func checkExitCode(says end, on *target) []string {
	pod, known := on.truth.pod(says.podName)
	if known && pod.exitCode != says.exitCode {
		return []string{fmt.Sprintf("the hub says exit code %q, Pod %s had %q", says.exitCode, says.podName, pod.exitCode)}
	}
	if says.podName == "" && says.exitCode != "" {
		return []string{fmt.Sprintf("the hub says exit code %s of no Pod", says.exitCode)}
	}
	return nil
}
