package decision

import (
	"math/rand/v2"
	"strings"
	"testing"
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

var decisionTime = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// given returns a snapshot of a PooledJob that could run now, after the changes.
func given(changes ...func(*Snapshot)) *Snapshot {
	job := &v1alpha1.PooledJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "run", UID: "uid", CreationTimestamp: metav1.NewTime(decisionTime)},
		Spec:       v1alpha1.PooledJobSpec{ClusterName: "prod"},
	}
	s := &Snapshot{
		Time: decisionTime, Job: job, Cluster: "prod", Access: access.Decision{Permitted: true},
		Connection: &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: "prod"}},
		Intent:     jobspec.RunOf("hub", job).NewIntent("prod", "cluster"),
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// The changes, by name.
func bound(s *Snapshot) {
	s.Bound = true
	s.Job.Finalizers = []string{v1alpha1.FinalizerPooledJob}
}
func stripped(s *Snapshot) {
	bound(s)
	s.Job.Finalizers, s.Stripped = nil, true
}
func seenJob(s *Snapshot) { bound(s); s.Job.Status.JobRef.UID = "job" }
func inView(s *Snapshot) {
	if s.Remote == nil {
		s.Remote = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "job"}}
	}
}
func anotherInView(s *Snapshot) { s.Remote = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "other"}} }
func remoteDeleting(s *Snapshot) {
	inView(s)
	s.Remote.DeletionTimestamp = &metav1.Time{Time: decisionTime}
}
func podLeft(s *Snapshot) {
	s.Pods = []*corev1.Pod{podOfJob(s)}
	s.Pods[0].DeletionTimestamp = &metav1.Time{Time: decisionTime}
}
func podOrphaned(s *Snapshot) { s.Pods = []*corev1.Pod{podOfJob(s)} }
func podForged(s *Snapshot)   { s.Pods = []*corev1.Pod{{}} }
func podOfJob(s *Snapshot) *corev1.Pod {
	owner := metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: s.Intent.JobName, UID: "job", Controller: new(true)}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{owner}}}
}
func wentUnended(s *Snapshot) {
	bound(s)
	s.Memory.Gone.Job = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "job"}}
}
func wentEnded(s *Snapshot) {
	wentUnended(s)
	s.Memory.Gone.Job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
}
func expires(s *Snapshot) { inView(s); s.Remote.Spec.TTLSecondsAfterFinished = new(int32) }
func notReady(s *Snapshot) {
	s.Contact, s.ContactMessage, s.ContactReason = Away, "connection prod is Unreachable", v1alpha1.ReasonClusterNotReady
}
func notWatched(s *Snapshot) {
	s.Contact, s.ContactMessage, s.ContactReason = Away, "not in its spec.namespaces", v1alpha1.ReasonNamespaceNotWatched
}
func connecting(s *Snapshot) {
	s.Contact, s.ContactMessage, s.ContactReason = Connecting, "connection prod is not open yet", v1alpha1.ReasonClusterNotReady
}
func clusterless(s *Snapshot) {
	s.Job.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse}}
}
func expired(s *Snapshot) { s.ExpiredAt = decisionTime }
func noConnection(s *Snapshot) {
	s.Connection, s.Access.Permitted, s.Contact, s.ContactMessage = nil, false, Away, "no connection"
}
func denied(s *Snapshot)      { s.Access.Permitted = false }
func deleted(s *Snapshot)     { s.Job.DeletionTimestamp = &metav1.Time{Time: decisionTime} }
func orphaned(s *Snapshot)    { s.Job.Spec.DeletionPolicy = v1alpha1.DeletionPolicyOrphan }
func minuteLater(s *Snapshot) { s.Time = s.Time.Add(time.Minute) }
func deadline(s *Snapshot)    { s.Job.Spec.DispatchDeadlineSeconds = 30 }
func connectionDeleted(s *Snapshot) {
	s.Connection.DeletionTimestamp = &metav1.Time{Time: decisionTime}
}
func justCreated(s *Snapshot) { bound(s); s.Memory.JobUID, s.Memory.CreatedAt = "job", decisionTime }
func refusedUntilLater(s *Snapshot) {
	bound(s)
	s.Memory.Refusal, s.Memory.RetryAt = &Refusal{Reason: v1alpha1.ReasonQuotaExceeded, Message: "full"}, decisionTime.Add(5*time.Second)
}

func released(s *Snapshot)  { s.Memory.ReleasedAt = decisionTime }
func cancelled(s *Snapshot) { s.Job.Spec.Cancel = new(true) }
func suspended(s *Snapshot) { s.Job.Spec.Suspend = new(true) }
func remoteAsked(s *Snapshot) {
	inView(s)
	s.Remote.Labels = map[string]string{v1alpha1.LabelSuspend: "true"}
}
func remoteHeld(s *Snapshot)  { inView(s); s.Remote.Spec.Suspend = new(true) }
func remoteStops(s *Snapshot) { inView(s); s.Remote.Spec.ActiveDeadlineSeconds = new(int64) }
func abandoned(s *Snapshot) {
	s.Job.Annotations = map[string]string{v1alpha1.AnnotationAbandon: "cluster"}
}
func misabandoned(s *Snapshot) {
	s.Job.Annotations = map[string]string{v1alpha1.AnnotationAbandon: "another"}
}
func remoteEnded(s *Snapshot) {
	inView(s)
	s.Remote.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
}
func selecting(s *Snapshot) {
	s.Job.Spec.ClusterName, s.Job.Spec.ClusterSelector = "", &v1alpha1.LabelSelector{}
	s.Job.Spec.Failover.AfterSeconds = 30
}
func unplaced(s *Snapshot) {
	selecting(s)
	s.Cluster, s.Connection, s.Access, s.Bound, s.Contact = "", nil, access.Decision{}, false, NotAsked
	s.Candidates = []placement.Candidate{
		{Name: "b", Unusable: v1alpha1.ReasonUnreachable}, {Name: "a", Unusable: "is fenced"}, {Name: "secret", Closed: true},
	}
}
func usable(s *Snapshot) { s.Candidates = append(s.Candidates, placement.Candidate{Name: "c"}) }
func away(s *Snapshot) {
	notReady(s)
	s.Connection.Status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, LastTransitionTime: metav1.NewTime(decisionTime),
	}}
}

// expiredOnly: the connection is not Ready because its credential has expired; there is a
// lease.
func expiredOnly(s *Snapshot) {
	expired(s)
	s.Contact, s.ContactMessage, s.ContactReason = Reached, "", ""
}
func fenced(s *Snapshot) {
	s.Contact, s.ContactMessage, s.ContactReason = Fenced, "fenced", v1alpha1.ReasonClusterFenced
}
func boundByUs(s *Snapshot) { bound(s); s.Memory.Current = true }
func lostBefore(s *Snapshot) {
	s.Job.Status.UnansweredRequestTime = &metav1.Time{Time: decisionTime}
}
func inDoubt(s *Snapshot) { boundByUs(s); s.Memory.UnknownSince = decisionTime }
func ended(s *Snapshot) {
	seenJob(s)
	s.Job.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue}}
}

// failed: it ended before it had a Job.
func failed(s *Snapshot) {
	s.Job.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionFailed, Status: metav1.ConditionTrue}}
}

type changes []func(*Snapshot)

func TestDecide(t *testing.T) {
	tests := map[string]struct {
		given changes
		want  Action // message: a part of it
	}{
		"new":                         {nil, Action{Verb: Bind}},
		"bound, a forged Pod":         {changes{boundByUs, podForged}, Action{Verb: Create}},
		"went with a verdict":         {changes{wentEnded}, Action{Verb: ObserveGone}},
		"went with a verdict, seen":   {changes{seenJob, wentEnded, away}, Action{Verb: ObserveGone}},
		"went without a verdict":      {changes{wentUnended}, Action{Verb: ConfirmLoss}},
		"went, cancelled, never seen": {changes{wentUnended, cancelled}, Action{Verb: ConfirmLoss}},
		"is to be kept":               {changes{seenJob, expires}, Action{Verb: KeepJob}},
		"is to be kept, has ended":    {changes{seenJob, expires, remoteEnded}, Action{Verb: Observe}},
		"is to be kept, cancelled":    {changes{seenJob, expires, cancelled}, Action{Verb: PatchRemote, Patch: `{"metadata":{"uid":"job"},"spec":{"activeDeadlineSeconds":0}}`, Doing: "cancelling the remote Job"}},
		"no ClusterConnection":        {changes{noConnection}, Action{Verb: Wait, Condition: v1alpha1.ConditionAccepted, Reason: v1alpha1.ReasonClusterNotFound, Message: `"prod" does not exist`}},
		"not permitted":               {changes{denied}, Action{Verb: Refuse, Reason: v1alpha1.ReasonNotPermitted, Message: `hub namespace "team-a"`}},
		"not permitted, not ready":    {changes{denied, notReady}, Action{Verb: Refuse, Reason: v1alpha1.ReasonNotPermitted}},
		"connection not ready":        {changes{notReady}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonClusterNotReady, Message: "Unreachable"}},
		"namespace not watched":       {changes{notWatched}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonNamespaceNotWatched, Message: "spec.namespaces"}},
		"expired":                     {changes{expired}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonClusterNotReady, Message: "expired at"}},
		"expired, bound":              {changes{expired, bound}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonClusterNotReady}},
		"expired, deadline passed":    {changes{expired, deadline, minuteLater}, Action{Verb: Refuse, Reason: v1alpha1.ReasonDispatchDeadlineExceeded, Message: "expired at"}},
		"first contact":               {changes{connecting}, Action{Verb: Settle}},
		"first contact, long sought":  {changes{clusterless, connecting}, Action{Verb: Accept}},
		"first contact, seen":         {changes{seenJob, connecting}, Action{Verb: Settle}},
		"first contact, deadline":     {changes{deadline, connecting}, Action{Verb: Settle, After: 30 * time.Second}},
		"connection being deleted":    {changes{connectionDeleted}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonClusterNotReady, Message: "being deleted"}},
		"bound":                       {changes{bound}, Action{Verb: Create}},
		"bound, no longer permitted":  {changes{bound, denied}, Action{Verb: Refuse, Reason: v1alpha1.ReasonNotPermitted}},
		"refused for now":             {changes{refusedUntilLater}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonQuotaExceeded, Message: "full", After: 5 * time.Second}},
		"refused, time to try again":  {changes{refusedUntilLater, minuteLater}, Action{Verb: Create}},
		"deadline to come":            {changes{deadline, notReady}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonClusterNotReady, After: 30 * time.Second}},
		"deadline passed":             {changes{deadline, minuteLater, notReady}, Action{Verb: Refuse, Reason: v1alpha1.ReasonDispatchDeadlineExceeded, Message: "Unreachable"}},
		"deadline passed, denied":     {changes{deadline, minuteLater, notReady, denied}, Action{Verb: Refuse, Reason: v1alpha1.ReasonNotPermitted}},
		"deadline passed, bound":      {changes{deadline, minuteLater, bound}, Action{Verb: Refuse, Reason: v1alpha1.ReasonDispatchDeadlineExceeded}},
		"deadline passed, seen":       {changes{deadline, minuteLater, seenJob, inView}, Action{Verb: Observe}},

		"in view, first time":          {changes{bound, inView}, Action{Verb: Observe}},
		"in view":                      {changes{seenJob, inView}, Action{Verb: Observe}},
		"in view, no longer permitted": {changes{seenJob, inView, denied}, Action{Verb: Observe}},
		"in view, expired":             {changes{seenJob, inView, expired}, Action{Verb: Observe}},
		"another in view":              {changes{seenJob, anotherInView}, Action{Verb: ConfirmLoss}},
		"seen, out of view":            {changes{seenJob}, Action{Verb: ConfirmLoss}},
		"seen, unreachable":            {changes{seenJob, notReady}, Action{Verb: Wait, Condition: v1alpha1.ConditionSynced, Reason: v1alpha1.ReasonClusterNotReady, Message: "Unreachable"}},
		"seen, no ClusterConnection":   {changes{seenJob, noConnection}, Action{Verb: Wait, Condition: v1alpha1.ConditionSynced, Reason: v1alpha1.ReasonClusterNotFound}},
		"just created":                 {changes{justCreated}, Action{Verb: Settle, After: InformerGrace}},
		"created, never in view":       {changes{justCreated, minuteLater}, Action{Verb: ConfirmLoss}},
		"finished":                     {changes{ended}, Action{Verb: Settle}},
		"finished, something in view":  {changes{ended, inView, podLeft}, Action{Verb: Settle}},

		"stripped":                {changes{stripped, noConnection}, Action{Verb: Restore}},
		"stripped, in view":       {changes{seenJob, stripped, remoteEnded}, Action{Verb: Restore}},
		"stripped, ended":         {changes{ended, stripped}, Action{Verb: Restore}},
		"stripped, never had one": {changes{stripped, failed}, Action{Verb: Settle}},
		"stripped, deleted":       {changes{seenJob, stripped, deleted}, Action{Verb: Settle}},

		"cancelled, new":                 {changes{cancelled, noConnection}, Action{Verb: Refuse, Reason: v1alpha1.ReasonCancelled}},
		"cancelled, bound":               {changes{bound, cancelled}, Action{Verb: Refuse, Reason: v1alpha1.ReasonCancelled}},
		"cancelled, unplaced":            {changes{unplaced, usable, cancelled}, Action{Verb: Refuse, Reason: v1alpha1.ReasonCancelled}},
		"cancelled, in view":             {changes{seenJob, inView, cancelled}, Action{Verb: PatchRemote, Patch: `{"metadata":{"uid":"job"},"spec":{"activeDeadlineSeconds":0}}`, Doing: "cancelling the remote Job"}},
		"cancelled, Job being stopped":   {changes{seenJob, remoteStops, cancelled}, Action{Verb: Observe}},
		"cancelled, Job ended before":    {changes{seenJob, remoteEnded, cancelled}, Action{Verb: Observe}},
		"cancelled, Job suspended":       {changes{seenJob, remoteHeld, cancelled}, Action{Verb: DeleteRemote}},
		"cancelled, both":                {changes{seenJob, remoteHeld, remoteStops, cancelled}, Action{Verb: DeleteRemote}},
		"cancelled, Job being deleted":   {changes{seenJob, remoteDeleting, cancelled}, Action{Verb: Observe}},
		"cancelled, Job gone":            {changes{seenJob, cancelled}, Action{Verb: ConfirmLoss}},
		"cancelled, unreachable":         {changes{seenJob, notReady, cancelled}, Action{Verb: Wait, Condition: v1alpha1.ConditionSynced, Reason: v1alpha1.ReasonClusterNotReady}},
		"to be suspended":                {changes{seenJob, inView, suspended}, Action{Verb: PatchRemote, Patch: `{"metadata":{"labels":{"pooledjob.io/suspend":"true"},"uid":"job"},"spec":{"suspend":true}}`, Doing: "suspending the remote Job"}},
		"to be suspended, ended":         {changes{seenJob, remoteEnded, suspended}, Action{Verb: Observe}},
		"to be resumed":                  {changes{seenJob, remoteAsked, remoteHeld}, Action{Verb: PatchRemote, Patch: `{"metadata":{"labels":{"pooledjob.io/suspend":"false"},"uid":"job"},"spec":{"suspend":false}}`, Doing: "resuming the remote Job"}},
		"suspended as asked":             {changes{seenJob, remoteAsked, remoteHeld, suspended}, Action{Verb: Observe}},
		"resumed by somebody else":       {changes{seenJob, remoteAsked, suspended}, Action{Verb: Observe}},
		"suspended by somebody else":     {changes{seenJob, remoteHeld}, Action{Verb: Observe}},
		"bound, Pods but no Job in view": {changes{bound, podLeft}, Action{Verb: ConfirmLoss}},

		"unplaced":                         {changes{unplaced, usable}, Action{Verb: Place}},
		"unplaced, none usable":            {changes{unplaced}, Action{Verb: Wait, Condition: v1alpha1.ConditionAccepted, Reason: v1alpha1.ReasonNoClusterMatches, Message: `a: is fenced; b: Unreachable; 1 do not let hub namespace "team-a"`}},
		"unplaced, none at all":            {changes{unplaced, func(s *Snapshot) { s.Candidates = nil }}, Action{Verb: Wait, Condition: v1alpha1.ConditionAccepted, Reason: v1alpha1.ReasonNoClusterMatches, Message: "has the labels"}},
		"unplaced, deadline passed":        {changes{unplaced, deadline, minuteLater}, Action{Verb: Refuse, Reason: v1alpha1.ReasonDispatchDeadlineExceeded, Message: "b: Unreachable"}},
		"moved, deadline passed":           {changes{unplaced, usable, deadline, minuteLater, func(s *Snapshot) { s.Job.Status.Attempt = 1 }}, Action{Verb: Place}},
		"never sent, away":                 {changes{selecting, boundByUs, away}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonClusterNotReady, After: 30 * time.Second}},
		"never sent, away for long":        {changes{selecting, boundByUs, away, minuteLater}, Action{Verb: MoveAway, Message: "no request that could"}},
		"never sent, away, no failover":    {changes{boundByUs, away, minuteLater}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonClusterNotReady}},
		"never sent, connecting":           {changes{selecting, boundByUs, away, connecting, minuteLater}, Action{Verb: Settle}},
		"bound by another process, away":   {changes{selecting, bound, away, minuteLater}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonClusterNotReady, Message: "pooledjob.io/fenced=cluster"}},
		"perhaps sent, away":               {changes{selecting, inDoubt, away, minuteLater}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonClusterNotReady, Message: "pooledjob.io/fenced=cluster"}},
		"seen, away":                       {changes{selecting, seenJob, away, minuteLater}, Action{Verb: Wait, Condition: v1alpha1.ConditionSynced, Reason: v1alpha1.ReasonClusterNotReady, Message: "pooledjob.io/fenced=cluster"}},
		"seen, fenced":                     {changes{selecting, seenJob, fenced}, Action{Verb: MoveAway, Message: "fenced"}},
		"perhaps sent, fenced":             {changes{selecting, inDoubt, fenced}, Action{Verb: MoveAway, Message: "fenced"}},
		"seen, fenced, no failover":        {changes{seenJob, fenced}, Action{Verb: Wait, Condition: v1alpha1.ConditionSynced, Reason: v1alpha1.ReasonClusterFenced}},
		"new, fenced":                      {changes{fenced}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonClusterFenced}},
		"cancelled, perhaps sent, fenced":  {changes{selecting, inDoubt, fenced, cancelled}, Action{Verb: MoveAway, Message: "fenced"}},
		"never sent, away, expired":        {changes{selecting, boundByUs, away, minuteLater, expiredOnly}, Action{Verb: MoveAway, Message: "no request that could"}},
		"never sent, expired, no failover": {changes{boundByUs, expired}, Action{Verb: Wait, Condition: v1alpha1.ConditionDispatched, Reason: v1alpha1.ReasonClusterNotReady}},
		"ended, fenced":                    {changes{selecting, ended, fenced}, Action{Verb: Settle}},

		"deleted, never bound":                     {changes{deleted}, Action{Verb: Settle}},
		"deleted, orphan":                          {changes{seenJob, inView, deleted, orphaned}, Action{Verb: OrphanJob}},
		"deleted, orphan, unreachable":             {changes{bound, deleted, orphaned, notReady}, Action{Verb: Wait, Condition: v1alpha1.ConditionDeleting, Reason: v1alpha1.ReasonClusterNotReady, Message: "pooledjob.io/abandon=cluster"}},
		"deleted, abandoned":                       {changes{bound, deleted, notReady, abandoned}, Action{Verb: Abandon}},
		"deleted, abandoned, no ClusterConnection": {changes{bound, deleted, noConnection, abandoned}, Action{Verb: Abandon}},
		"deleted, abandoned elsewhere":             {changes{bound, deleted, notReady, misabandoned}, Action{Verb: Wait, Condition: v1alpha1.ConditionDeleting, Reason: v1alpha1.ReasonClusterNotReady}},
		"deleted, connecting":                      {changes{bound, deleted, connecting}, Action{Verb: Settle}},
		"deleted, abandoned, connecting":           {changes{bound, deleted, connecting, abandoned}, Action{Verb: Settle}},
		"deleted, abandoned, reachable":            {changes{seenJob, inView, deleted, abandoned}, Action{Verb: DeleteRemote}},
		"deleted, moved away":                      {changes{bound, unplaced, deleted}, Action{Verb: Release}},
		"deleted, no ClusterConnection":            {changes{bound, deleted, noConnection}, Action{Verb: Wait, Condition: v1alpha1.ConditionDeleting, Reason: v1alpha1.ReasonClusterNotFound, Message: "pooledjob.io/abandon=cluster"}},
		"deleted, unreachable":                     {changes{bound, deleted, notReady}, Action{Verb: Wait, Condition: v1alpha1.ConditionDeleting, Reason: v1alpha1.ReasonClusterNotReady, Message: "Unreachable"}},
		"deleted, not watched":                     {changes{bound, deleted, notWatched}, Action{Verb: Wait, Condition: v1alpha1.ConditionDeleting, Reason: v1alpha1.ReasonNamespaceNotWatched, Message: "spec.namespaces"}},
		"deleted, in view":                         {changes{seenJob, inView, deleted}, Action{Verb: DeleteRemote}},
		"deleted, request lost":                    {changes{seenJob, inDoubt, inView, deleted}, Action{Verb: PatchRemote, Patch: `{"metadata":{"uid":"job"},"spec":{"activeDeadlineSeconds":0}}`, Doing: "stopping the remote Job", After: RequestLifetime}},
		"deleted, request lost, stopped":           {changes{seenJob, inDoubt, remoteStops, deleted}, Action{Verb: Wait, Condition: v1alpha1.ConditionDeleting, Reason: v1alpha1.ReasonCreating, After: RequestLifetime}},
		"deleted, request lost before a restart":   {changes{seenJob, lostBefore, remoteEnded, deleted}, Action{Verb: Wait, Condition: v1alpha1.ConditionDeleting, Reason: v1alpha1.ReasonCreating, After: RequestLifetime + time.Second}},
		"deleted, finished, in view":               {changes{ended, inView, deleted}, Action{Verb: DeleteRemote}},
		"deleted, no longer permitted":             {changes{seenJob, inView, deleted, denied}, Action{Verb: DeleteRemote}},
		"deleted, Job being deleted":               {changes{seenJob, remoteDeleting, deleted}, Action{Verb: AwaitDeletion, After: PodsGrace}},
		"deleted, Job slow to go":                  {changes{seenJob, remoteDeleting, podLeft, deleted, minuteLater}, Action{Verb: AwaitDeletion, Condition: v1alpha1.ConditionDeleting, Reason: v1alpha1.ReasonWaitingForPods, Message: "1 Pods"}},
		"deleted, Pods outlive the Job":            {changes{seenJob, podLeft, deleted}, Action{Verb: AwaitDeletion, After: PodsGrace}},
		"deleted, Job left Pods":                   {changes{seenJob, podOrphaned, deleted}, Action{Verb: ConfirmGone}},
		"deleted, nothing in view":                 {changes{seenJob, deleted}, Action{Verb: ConfirmGone}},
		"deleted, nothing ever observed":           {changes{bound, deleted}, Action{Verb: ConfirmGone}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := Decide(given(test.given...))
			if !strings.Contains(got.Message, test.want.Message) {
				t.Errorf("message %q does not contain %q", got.Message, test.want.Message)
			}
			got.Rule, got.Message, test.want.Message = "", "", ""
			if got != test.want {
				t.Errorf("decide = %+v, want %+v", got, test.want)
			}
		})
	}
}

// Whatever comes together, nothing is ever created for a run that was seen, has
// ended, is cancelled or is being deleted, nothing deleted for one that is neither
// deleted nor cancelled, nothing changed for one whose Job has ended, and none moved
// whose cluster can be used.
func TestDecideKeepsThePromisesInEveryState(t *testing.T) {
	all := changes{selecting, bound, seenJob, boundByUs, inDoubt, lostBefore, inView, anotherInView, remoteAsked, remoteHeld, remoteStops, remoteEnded, remoteDeleting, podLeft, podOrphaned,
		away, notReady, fenced, connecting, noConnection, expired, denied, unplaced, usable, deleted, orphaned, abandoned, minuteLater, deadline,
		justCreated, refusedUntilLater, cancelled, suspended, ended, stripped, failed, podForged, wentUnended, wentEnded, expires, released}
	fired := map[string]bool{}
	check := func(mask uint64) {
		var some changes
		for i, change := range all {
			if mask&(1<<i) != 0 {
				some = append(some, change)
			}
		}
		s := given(some...)
		got := Decide(s)
		fired[got.Rule] = true
		if err := violation(s, got); err != "" {
			t.Fatalf("%b: %+v for %+v: %s", mask, got, s, err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 1 << 19 {
		check(random.Uint64() & random.Uint64()) // a quarter of them at once
	}
	for i := range all { // and every four
		for j := range i {
			for k := range j {
				for l := range k {
					check(1<<i | 1<<j | 1<<k | 1<<l)
				}
			}
		}
	}
	for _, state := range states {
		for _, rule := range state.rules {
			if name := state.name + "/" + rule.name; !fired[name] {
				t.Errorf("rule %q never decides", name)
			}
		}
	}
}

// violation tells which promise a decision breaks; empty if none.
func violation(s *Snapshot, got Action) string {
	isDeleted, hasEnded := s.Job.DeletionTimestamp != nil, jobstatus.Finished(&s.Job.Status)
	if s.Stripped && !isDeleted && !hasEnded && got.Verb != Restore {
		return "went on without finalizer and intent"
	}
	verdict := s.Remote != nil && jobstatus.Verdict(s.Remote) != nil
	switch got.Verb {
	case Place:
		if s.WasObserved() || isDeleted || hasEnded || s.Cancelled() || s.Cluster != "" {
			return "placed"
		}
	case Bind, Create:
		if s.WasObserved() || isDeleted || hasEnded || s.Cancelled() || !s.Access.Permitted || s.Contact != Reached || !s.ExpiredAt.IsZero() {
			return "created"
		}
	case DeleteRemote:
		if s.RequestsInFlight() > 0 && isSameJob(s) {
			return "gave a name free"
		}
		if !isDeleted && (!s.Cancelled() || hasEnded || verdict) {
			return "deleted"
		}
		if s.Job.Spec.DeletionPolicy == v1alpha1.DeletionPolicyOrphan && isDeleted {
			return "deleted an orphan"
		}
	case ConfirmGone, AwaitDeletion, Release, OrphanJob, Abandon:
		if !isDeleted {
			return "let go"
		}
		if got.Verb == Abandon && s.Contact == Reached {
			return "given up although it can be reached"
		}
	case Refuse, ConfirmLoss, Observe, ObserveGone:
		if isDeleted || hasEnded {
			return "judged"
		}
		if got.Verb == Refuse && s.WasObserved() {
			return "refused although there was a Job"
		}
	case KeepJob:
		if isDeleted || hasEnded || verdict || s.Remote == nil || s.Cancelled() {
			return "kept"
		}
	case PatchRemote:
		holds := isDeleted && s.RequestsInFlight() > 0 && got.Doing == "stopping the remote Job"
		if (isDeleted || hasEnded) && !holds || verdict || s.Remote == nil {
			return "patched"
		}
	case MoveAway:
		mayMove := s.Contact == Fenced || !s.mayHaveJob()
		if isDeleted || hasEnded || (s.Contact == Reached && s.awaySince().IsZero()) || !mayMove || s.Job.Spec.Failover.AfterSeconds == 0 {
			return "moved"
		}
	case Restore:
		if isDeleted || !s.Stripped || !s.Bound {
			return "restored"
		}
	case Accept:
		if !s.Access.Permitted || s.Cluster == "" {
			return "accepted"
		}
	case Settle, Wait: // always safe
	default:
		return "no such verb"
	}
	return ""
}
