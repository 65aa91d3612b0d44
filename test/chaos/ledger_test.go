package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

// ledger is what the manager did on the targets, by their audit logs.
type ledger struct {
	// created are the UIDs of the Jobs that were created for a PooledJob, as
	// "target/UID".
	created map[types.UID]map[string]bool
	// lines are the audited requests for a PooledJob.
	lines map[types.UID][]string
	// trespasses are writes to what is not ours.
	trespasses []string
}

// openLedger reads the audit logs.
func openLedger() *ledger {
	l := &ledger{created: map[types.UID]map[string]bool{}, lines: map[types.UID][]string{}}
	for _, t := range world.targets {
		events, err := t.AuditEvents()
		Expect(err).NotTo(HaveOccurred())
		l.read(t, events)
	}
	return l
}

func (l *ledger) read(t *target, events []localcluster.AuditEvent) {
	owners := map[string]types.UID{} // by namespace/name of the Job
	for _, event := range events {
		if event.ObjectRef.Resource != "jobs" || event.Verb != "create" || event.User.Username != localenv.TargetUser {
			continue
		}
		var asked, made metav1.PartialObjectMetadata
		_ = json.Unmarshal(event.RequestObject, &asked)
		key := event.ObjectRef.Namespace + "/" + asked.Name
		owner := types.UID(asked.Labels[v1alpha1.LabelUID])
		owners[key] = owner
		if owner == "" || asked.Labels[v1alpha1.LabelHub] == "" {
			l.trespasses = append(l.trespasses, t.Name()+" a Job without our labels: "+event.String())
		}
		if event.ResponseStatus.Code == 201 {
			_ = json.Unmarshal(event.ResponseObject, &made)
			l.note(owner, t.Name()+"/"+string(made.UID))
		}
	}
	for _, event := range events {
		owner := owners[event.ObjectRef.Namespace+"/"+event.ObjectRef.Name]
		if owner != "" {
			l.lines[owner] = append(l.lines[owner], t.Name()+" "+event.String())
		}
		if event.User.Username == localenv.TargetUser && l.trespass(t, event, owner != "") {
			l.trespasses = append(l.trespasses, t.Name()+" "+event.String())
		}
	}
}

func (l *ledger) note(owner types.UID, job string) {
	if l.created[owner] == nil {
		l.created[owner] = map[string]bool{}
	}
	l.created[owner][job] = true
}

// trespass tells whether a request of the manager is a write to something else than
// Jobs that it created, and Pods of theirs.
func (l *ledger) trespass(t *target, event localcluster.AuditEvent, ours bool) bool {
	ref := event.ObjectRef
	switch {
	case event.Verb == "get" || event.Verb == "list" || ref.Resource == "selfsubjectaccessreviews":
		return false
	case t.foreign.has(ref.Name):
		return true
	case ref.Resource == "jobs":
		return !ours || ref.Subresource != "" || !slices.Contains([]string{"create", "patch", "delete"}, event.Verb)
	case ref.Resource == "pods":
		pod, known := t.truth.pod(ref.Name)
		return event.Verb != "delete" || !known || l.created[pod.owner] == nil
	default:
		return true
	}
}

// jobsOf are all Jobs that there ever were for a PooledJob, by the audit logs and by
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
	wrong := slices.Clone(l.trespasses)
	for _, run := range runs {
		problems := l.checkRun(ctx, run)
		for _, problem := range problems {
			wrong = append(wrong, fmt.Sprintf("%s (%s on %s, UID %s): %s", run.job.Name, run.kind.name, run.target.Name(), run.job.UID, problem))
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
	if len(jobs) > 1 {
		return append(wrong, fmt.Sprintf("there were %d Jobs: %v", len(jobs), jobs))
	}
	if run.deleted() {
		return wrong
	}
	latest := &v1alpha1.PooledJob{}
	if err := world.hub.client.Get(ctx, client.ObjectKeyFromObject(run.job), latest); err != nil {
		return append(wrong, err.Error())
	}
	says := endOf(latest)
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

// checkVerdict compares the end of a run with that of its one Job.
func (p *planned) checkVerdict(says end, saidAt time.Time) []string {
	job := p.target.truth.jobsOf(p.job.UID)
	if len(job) != 1 {
		return []string{"its Job was created, and never seen"}
	}
	remote := job[0]
	if lostAt := p.lostAt(); !lostAt.IsZero() && says.reason == v1alpha1.ReasonRemoteJobDeleted {
		if saidAt.Before(lostAt) {
			return []string{"the hub said that the Job was deleted before it was"}
		}
		return nil
	}
	if remote.condition != says.condition || remote.reason != says.reason {
		return []string{fmt.Sprintf("the hub says %s, the Job %s/%s", says, remote.condition, remote.reason)}
	}
	if saidAt.Before(remote.at) {
		return []string{fmt.Sprintf("the hub said the end at %s, the Job ended at %s", saidAt, remote.at)}
	}
	pod, known := p.target.truth.pod(says.podName)
	if known && pod.exitCode != says.exitCode {
		return []string{fmt.Sprintf("the hub says exit code %q, Pod %s had %q", says.exitCode, says.podName, pod.exitCode)}
	}
	if says.podName == "" && says.exitCode != "" {
		return []string{fmt.Sprintf("the hub says exit code %s of no Pod", says.exitCode)}
	}
	return nil
}
