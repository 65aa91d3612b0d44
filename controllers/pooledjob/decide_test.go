package pooledjob

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

// given is a snapshot of a PooledJob that could run now, after the changes.
func given(changes ...func(*snapshot)) *snapshot {
	job := &v1alpha1.PooledJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "run", UID: "uid", CreationTimestamp: metav1.NewTime(decisionTime)},
		Spec:       v1alpha1.PooledJobSpec{ClusterName: "prod"},
	}
	s := &snapshot{
		now: decisionTime, job: job, cluster: "prod", access: access.Decision{Permitted: true},
		connection: &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: "prod"}},
		intent:     jobspec.NewIntent(job, "hub", "prod", "cluster"),
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// The changes, by name.
func bound(s *snapshot) {
	s.bound = true
	s.job.Finalizers = []string{v1alpha1.FinalizerPooledJob}
}
func stripped(s *snapshot) {
	bound(s)
	s.job.Finalizers, s.stripped = nil, true
}
func seenJob(s *snapshot) { bound(s); s.job.Status.JobRef.UID = "job" }
func inView(s *snapshot) {
	if s.remote == nil {
		s.remote = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "job"}}
	}
}
func anotherInView(s *snapshot) { s.remote = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "other"}} }
func remoteDeleting(s *snapshot) {
	inView(s)
	s.remote.DeletionTimestamp = &metav1.Time{Time: decisionTime}
}
func podLeft(s *snapshot) {
	s.pods = []*corev1.Pod{podOfJob(s)}
	s.pods[0].DeletionTimestamp = &metav1.Time{Time: decisionTime}
}
func podOrphaned(s *snapshot) { s.pods = []*corev1.Pod{podOfJob(s)} }
func podForged(s *snapshot)   { s.pods = []*corev1.Pod{{}} }
func podOfJob(s *snapshot) *corev1.Pod {
	owner := metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: s.intent.JobName, UID: "job", Controller: new(true)}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{owner}}}
}
func wentUnended(s *snapshot) {
	bound(s)
	s.memory.gone = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "job"}}
}
func wentEnded(s *snapshot) {
	wentUnended(s)
	s.memory.gone.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
}
func expires(s *snapshot) { inView(s); s.remote.Spec.TTLSecondsAfterFinished = new(int32) }
func notReady(s *snapshot) {
	s.notReady, s.notReadyReason = "connection prod is Unreachable", v1alpha1.ReasonClusterNotReady
}
func notWatched(s *snapshot) {
	s.notReady, s.notReadyReason = "not in its spec.namespaces", v1alpha1.ReasonNamespaceNotWatched
}
func connecting(s *snapshot) {
	s.notReady, s.notReadyReason, s.connecting = "connection prod is not open yet", v1alpha1.ReasonClusterNotReady, true
}
func clusterless(s *snapshot) {
	s.job.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse}}
}
func expired(s *snapshot) { s.expiredAt = decisionTime }
func noConnection(s *snapshot) {
	s.connection, s.access.Permitted, s.notReady = nil, false, "no connection"
}
func denied(s *snapshot)      { s.access.Permitted = false }
func deleted(s *snapshot)     { s.job.DeletionTimestamp = &metav1.Time{Time: decisionTime} }
func orphaned(s *snapshot)    { s.job.Spec.DeletionPolicy = v1alpha1.DeletionPolicyOrphan }
func minuteLater(s *snapshot) { s.now = s.now.Add(time.Minute) }
func deadline(s *snapshot)    { s.job.Spec.DispatchDeadlineSeconds = 30 }
func connectionDeleted(s *snapshot) {
	s.connection.DeletionTimestamp = &metav1.Time{Time: decisionTime}
}
func justCreated(s *snapshot) { bound(s); s.memory.jobUID, s.memory.createdAt = "job", decisionTime }
func refusedUntilLater(s *snapshot) {
	bound(s)
	s.memory.refusal, s.memory.retryAt = &refusal{reason: v1alpha1.ReasonQuotaExceeded, message: "full"}, decisionTime.Add(5*time.Second)
}

func released(s *snapshot)  { s.memory.releasedAt = decisionTime }
func cancelled(s *snapshot) { s.job.Spec.Cancel = new(true) }
func suspended(s *snapshot) { s.job.Spec.Suspend = new(true) }
func remoteAsked(s *snapshot) {
	inView(s)
	s.remote.Labels = map[string]string{v1alpha1.LabelSuspend: "true"}
}
func remoteHeld(s *snapshot)  { inView(s); s.remote.Spec.Suspend = new(true) }
func remoteStops(s *snapshot) { inView(s); s.remote.Spec.ActiveDeadlineSeconds = new(int64) }
func abandoned(s *snapshot) {
	s.job.Annotations = map[string]string{v1alpha1.AnnotationAbandon: "cluster"}
}
func misabandoned(s *snapshot) {
	s.job.Annotations = map[string]string{v1alpha1.AnnotationAbandon: "another"}
}
func remoteEnded(s *snapshot) {
	inView(s)
	s.remote.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
}
func selecting(s *snapshot) {
	s.job.Spec.ClusterName, s.job.Spec.ClusterSelector = "", &v1alpha1.LabelSelector{}
	s.job.Spec.Failover.AfterSeconds = 30
}
func unplaced(s *snapshot) {
	selecting(s)
	s.cluster, s.connection, s.access, s.bound, s.notReady = "", nil, access.Decision{}, false, "no cluster was chosen yet"
	s.candidates = []placement.Candidate{
		{Name: "b", Unusable: v1alpha1.ReasonUnreachable}, {Name: "a", Unusable: "is fenced"}, {Name: "secret", Closed: true},
	}
}
func usable(s *snapshot) { s.candidates = append(s.candidates, placement.Candidate{Name: "c"}) }
func away(s *snapshot) {
	notReady(s)
	s.connection.Status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, LastTransitionTime: metav1.NewTime(decisionTime),
	}}
}

// expiredOnly: the connection is not Ready because its credential has expired; there is a
// lease.
func expiredOnly(s *snapshot) { expired(s); s.notReady, s.notReadyReason = "", "" }
func fenced(s *snapshot) {
	s.fenced, s.notReady, s.notReadyReason = true, "fenced", v1alpha1.ReasonClusterFenced
}
func boundByUs(s *snapshot) { bound(s); s.memory.current = true }
func lostBefore(s *snapshot) {
	s.job.Status.UnansweredRequestTime = &metav1.Time{Time: decisionTime}
}
func inDoubt(s *snapshot) { boundByUs(s); s.memory.unknownSince = decisionTime }
func ended(s *snapshot) {
	seenJob(s)
	s.job.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue}}
}

// failed: it ended before it had a Job.
func failed(s *snapshot) {
	s.job.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionFailed, Status: metav1.ConditionTrue}}
}

type changes []func(*snapshot)

func TestDecide(t *testing.T) {
	tests := map[string]struct {
		given changes
		want  action // message: a part of it
	}{
		"new":                         {nil, action{verb: bind}},
		"bound, a forged Pod":         {changes{boundByUs, podForged}, action{verb: create}},
		"went with a verdict":         {changes{wentEnded}, action{verb: observeGone}},
		"went with a verdict, seen":   {changes{seenJob, wentEnded, away}, action{verb: observeGone}},
		"went without a verdict":      {changes{wentUnended}, action{verb: confirmLoss}},
		"went, cancelled, never seen": {changes{wentUnended, cancelled}, action{verb: confirmLoss}},
		"is to be kept":               {changes{seenJob, expires}, action{verb: keepJob}},
		"is to be kept, has ended":    {changes{seenJob, expires, remoteEnded}, action{verb: observe}},
		"is to be kept, cancelled":    {changes{seenJob, expires, cancelled}, action{verb: patchRemote, patch: `{"metadata":{"uid":"job"},"spec":{"activeDeadlineSeconds":0}}`, doing: "cancelling the remote Job"}},
		"no ClusterConnection":        {changes{noConnection}, action{verb: wait, condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonClusterNotFound, message: `"prod" does not exist`}},
		"not permitted":               {changes{denied}, action{verb: refuse, reason: v1alpha1.ReasonNotPermitted, message: `hub namespace "team-a"`}},
		"not permitted, not ready":    {changes{denied, notReady}, action{verb: refuse, reason: v1alpha1.ReasonNotPermitted}},
		"connection not ready":        {changes{notReady}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady, message: "Unreachable"}},
		"namespace not watched":       {changes{notWatched}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonNamespaceNotWatched, message: "spec.namespaces"}},
		"expired":                     {changes{expired}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady, message: "expired at"}},
		"expired, bound":              {changes{expired, bound}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady}},
		"expired, deadline passed":    {changes{expired, deadline, minuteLater}, action{verb: refuse, reason: v1alpha1.ReasonDispatchDeadlineExceeded, message: "expired at"}},
		"first contact":               {changes{connecting}, action{verb: settle}},
		"first contact, long sought":  {changes{clusterless, connecting}, action{verb: accept}},
		"first contact, seen":         {changes{seenJob, connecting}, action{verb: settle}},
		"first contact, deadline":     {changes{deadline, connecting}, action{verb: settle, after: 30 * time.Second}},
		"connection being deleted":    {changes{connectionDeleted}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady, message: "being deleted"}},
		"bound":                       {changes{bound}, action{verb: create}},
		"bound, no longer permitted":  {changes{bound, denied}, action{verb: refuse, reason: v1alpha1.ReasonNotPermitted}},
		"refused for now":             {changes{refusedUntilLater}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonQuotaExceeded, message: "full", after: 5 * time.Second}},
		"refused, time to try again":  {changes{refusedUntilLater, minuteLater}, action{verb: create}},
		"deadline to come":            {changes{deadline, notReady}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady, after: 30 * time.Second}},
		"deadline passed":             {changes{deadline, minuteLater, notReady}, action{verb: refuse, reason: v1alpha1.ReasonDispatchDeadlineExceeded, message: "Unreachable"}},
		"deadline passed, denied":     {changes{deadline, minuteLater, notReady, denied}, action{verb: refuse, reason: v1alpha1.ReasonNotPermitted}},
		"deadline passed, bound":      {changes{deadline, minuteLater, bound}, action{verb: refuse, reason: v1alpha1.ReasonDispatchDeadlineExceeded}},
		"deadline passed, seen":       {changes{deadline, minuteLater, seenJob, inView}, action{verb: observe}},

		"in view, first time":          {changes{bound, inView}, action{verb: observe}},
		"in view":                      {changes{seenJob, inView}, action{verb: observe}},
		"in view, no longer permitted": {changes{seenJob, inView, denied}, action{verb: observe}},
		"in view, expired":             {changes{seenJob, inView, expired}, action{verb: observe}},
		"another in view":              {changes{seenJob, anotherInView}, action{verb: confirmLoss}},
		"seen, out of view":            {changes{seenJob}, action{verb: confirmLoss}},
		"seen, unreachable":            {changes{seenJob, notReady}, action{verb: wait, condition: v1alpha1.ConditionSynced, reason: v1alpha1.ReasonClusterNotReady, message: "Unreachable"}},
		"seen, no ClusterConnection":   {changes{seenJob, noConnection}, action{verb: wait, condition: v1alpha1.ConditionSynced, reason: v1alpha1.ReasonClusterNotFound}},
		"just created":                 {changes{justCreated}, action{verb: settle, after: informerGrace}},
		"created, never in view":       {changes{justCreated, minuteLater}, action{verb: confirmLoss}},
		"finished":                     {changes{ended}, action{verb: settle}},
		"finished, something in view":  {changes{ended, inView, podLeft}, action{verb: settle}},

		"stripped":                {changes{stripped, noConnection}, action{verb: restore}},
		"stripped, in view":       {changes{seenJob, stripped, remoteEnded}, action{verb: restore}},
		"stripped, ended":         {changes{ended, stripped}, action{verb: restore}},
		"stripped, never had one": {changes{stripped, failed}, action{verb: settle}},
		"stripped, deleted":       {changes{seenJob, stripped, deleted}, action{verb: settle}},

		"cancelled, new":                 {changes{cancelled, noConnection}, action{verb: refuse, reason: v1alpha1.ReasonCancelled}},
		"cancelled, bound":               {changes{bound, cancelled}, action{verb: refuse, reason: v1alpha1.ReasonCancelled}},
		"cancelled, unplaced":            {changes{unplaced, usable, cancelled}, action{verb: refuse, reason: v1alpha1.ReasonCancelled}},
		"cancelled, in view":             {changes{seenJob, inView, cancelled}, action{verb: patchRemote, patch: `{"metadata":{"uid":"job"},"spec":{"activeDeadlineSeconds":0}}`, doing: "cancelling the remote Job"}},
		"cancelled, Job being stopped":   {changes{seenJob, remoteStops, cancelled}, action{verb: observe}},
		"cancelled, Job ended before":    {changes{seenJob, remoteEnded, cancelled}, action{verb: observe}},
		"cancelled, Job suspended":       {changes{seenJob, remoteHeld, cancelled}, action{verb: deleteRemote}},
		"cancelled, both":                {changes{seenJob, remoteHeld, remoteStops, cancelled}, action{verb: deleteRemote}},
		"cancelled, Job being deleted":   {changes{seenJob, remoteDeleting, cancelled}, action{verb: observe}},
		"cancelled, Job gone":            {changes{seenJob, cancelled}, action{verb: confirmLoss}},
		"cancelled, unreachable":         {changes{seenJob, notReady, cancelled}, action{verb: wait, condition: v1alpha1.ConditionSynced, reason: v1alpha1.ReasonClusterNotReady}},
		"to be suspended":                {changes{seenJob, inView, suspended}, action{verb: patchRemote, patch: `{"metadata":{"labels":{"pooledjob.io/suspend":"true"},"uid":"job"},"spec":{"suspend":true}}`, doing: "suspending the remote Job"}},
		"to be suspended, ended":         {changes{seenJob, remoteEnded, suspended}, action{verb: observe}},
		"to be resumed":                  {changes{seenJob, remoteAsked, remoteHeld}, action{verb: patchRemote, patch: `{"metadata":{"labels":{"pooledjob.io/suspend":"false"},"uid":"job"},"spec":{"suspend":false}}`, doing: "resuming the remote Job"}},
		"suspended as asked":             {changes{seenJob, remoteAsked, remoteHeld, suspended}, action{verb: observe}},
		"resumed by somebody else":       {changes{seenJob, remoteAsked, suspended}, action{verb: observe}},
		"suspended by somebody else":     {changes{seenJob, remoteHeld}, action{verb: observe}},
		"bound, Pods but no Job in view": {changes{bound, podLeft}, action{verb: confirmLoss}},

		"unplaced":                         {changes{unplaced, usable}, action{verb: place}},
		"unplaced, none usable":            {changes{unplaced}, action{verb: wait, condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonNoClusterMatches, message: `a: is fenced; b: Unreachable; 1 do not let hub namespace "team-a"`}},
		"unplaced, none at all":            {changes{unplaced, func(s *snapshot) { s.candidates = nil }}, action{verb: wait, condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonNoClusterMatches, message: "has the labels"}},
		"unplaced, deadline passed":        {changes{unplaced, deadline, minuteLater}, action{verb: refuse, reason: v1alpha1.ReasonDispatchDeadlineExceeded, message: "b: Unreachable"}},
		"moved, deadline passed":           {changes{unplaced, usable, deadline, minuteLater, func(s *snapshot) { s.job.Status.Attempt = 1 }}, action{verb: place}},
		"never sent, away":                 {changes{selecting, boundByUs, away}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady, after: 30 * time.Second}},
		"never sent, away for long":        {changes{selecting, boundByUs, away, minuteLater}, action{verb: moveAway, message: "no request that could"}},
		"never sent, away, no failover":    {changes{boundByUs, away, minuteLater}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady}},
		"never sent, connecting":           {changes{selecting, boundByUs, away, connecting, minuteLater}, action{verb: settle}},
		"bound by another process, away":   {changes{selecting, bound, away, minuteLater}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady, message: "pooledjob.io/fenced=cluster"}},
		"perhaps sent, away":               {changes{selecting, inDoubt, away, minuteLater}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady, message: "pooledjob.io/fenced=cluster"}},
		"seen, away":                       {changes{selecting, seenJob, away, minuteLater}, action{verb: wait, condition: v1alpha1.ConditionSynced, reason: v1alpha1.ReasonClusterNotReady, message: "pooledjob.io/fenced=cluster"}},
		"seen, fenced":                     {changes{selecting, seenJob, fenced}, action{verb: moveAway, message: "fenced"}},
		"perhaps sent, fenced":             {changes{selecting, inDoubt, fenced}, action{verb: moveAway, message: "fenced"}},
		"seen, fenced, no failover":        {changes{seenJob, fenced}, action{verb: wait, condition: v1alpha1.ConditionSynced, reason: v1alpha1.ReasonClusterFenced}},
		"new, fenced":                      {changes{fenced}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterFenced}},
		"cancelled, perhaps sent, fenced":  {changes{selecting, inDoubt, fenced, cancelled}, action{verb: moveAway, message: "fenced"}},
		"never sent, away, expired":        {changes{selecting, boundByUs, away, minuteLater, expiredOnly}, action{verb: moveAway, message: "no request that could"}},
		"never sent, expired, no failover": {changes{boundByUs, expired}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady}},
		"ended, fenced":                    {changes{selecting, ended, fenced}, action{verb: settle}},

		"deleted, never bound":                     {changes{deleted}, action{verb: settle}},
		"deleted, orphan":                          {changes{seenJob, inView, deleted, orphaned}, action{verb: orphanJob}},
		"deleted, orphan, unreachable":             {changes{bound, deleted, orphaned, notReady}, action{verb: wait, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonClusterNotReady, message: "pooledjob.io/abandon=cluster"}},
		"deleted, abandoned":                       {changes{bound, deleted, notReady, abandoned}, action{verb: abandon}},
		"deleted, abandoned, no ClusterConnection": {changes{bound, deleted, noConnection, abandoned}, action{verb: abandon}},
		"deleted, abandoned elsewhere":             {changes{bound, deleted, notReady, misabandoned}, action{verb: wait, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonClusterNotReady}},
		"deleted, connecting":                      {changes{bound, deleted, connecting}, action{verb: settle}},
		"deleted, abandoned, connecting":           {changes{bound, deleted, connecting, abandoned}, action{verb: settle}},
		"deleted, abandoned, reachable":            {changes{seenJob, inView, deleted, abandoned}, action{verb: deleteRemote}},
		"deleted, moved away":                      {changes{bound, unplaced, deleted}, action{verb: release}},
		"deleted, no ClusterConnection":            {changes{bound, deleted, noConnection}, action{verb: wait, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonClusterNotFound, message: "pooledjob.io/abandon=cluster"}},
		"deleted, unreachable":                     {changes{bound, deleted, notReady}, action{verb: wait, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonClusterNotReady, message: "Unreachable"}},
		"deleted, not watched":                     {changes{bound, deleted, notWatched}, action{verb: wait, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonNamespaceNotWatched, message: "spec.namespaces"}},
		"deleted, in view":                         {changes{seenJob, inView, deleted}, action{verb: deleteRemote}},
		"deleted, request lost":                    {changes{seenJob, inDoubt, inView, deleted}, action{verb: patchRemote, patch: `{"metadata":{"uid":"job"},"spec":{"activeDeadlineSeconds":0}}`, doing: "stopping the remote Job", after: RequestLifetime}},
		"deleted, request lost, stopped":           {changes{seenJob, inDoubt, remoteStops, deleted}, action{verb: wait, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonCreating, after: RequestLifetime}},
		"deleted, request lost before a restart":   {changes{seenJob, lostBefore, remoteEnded, deleted}, action{verb: wait, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonCreating, after: RequestLifetime + time.Second}},
		"deleted, finished, in view":               {changes{ended, inView, deleted}, action{verb: deleteRemote}},
		"deleted, no longer permitted":             {changes{seenJob, inView, deleted, denied}, action{verb: deleteRemote}},
		"deleted, Job being deleted":               {changes{seenJob, remoteDeleting, deleted}, action{verb: awaitDeletion, after: PodsGrace}},
		"deleted, Job slow to go":                  {changes{seenJob, remoteDeleting, podLeft, deleted, minuteLater}, action{verb: awaitDeletion, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonWaitingForPods, message: "1 Pods"}},
		"deleted, Pods outlive the Job":            {changes{seenJob, podLeft, deleted}, action{verb: awaitDeletion, after: PodsGrace}},
		"deleted, Job left Pods":                   {changes{seenJob, podOrphaned, deleted}, action{verb: confirmGone}},
		"deleted, nothing in view":                 {changes{seenJob, deleted}, action{verb: confirmGone}},
		"deleted, nothing ever observed":           {changes{bound, deleted}, action{verb: confirmGone}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := decide(given(test.given...))
			if !strings.Contains(got.message, test.want.message) {
				t.Errorf("message %q does not contain %q", got.message, test.want.message)
			}
			got.rule, got.message, test.want.message = "", "", ""
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
		got := decide(s)
		fired[got.rule] = true
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
func violation(s *snapshot, got action) string {
	isDeleted, hasEnded := s.job.DeletionTimestamp != nil, jobstatus.Finished(&s.job.Status)
	if s.stripped && !isDeleted && !hasEnded && got.verb != restore {
		return "went on without finalizer and intent"
	}
	verdict := s.remote != nil && jobstatus.Verdict(s.remote) != nil
	switch got.verb {
	case place:
		if s.wasObserved() || isDeleted || hasEnded || s.cancelled() || s.cluster != "" {
			return "placed"
		}
	case bind, create:
		if s.wasObserved() || isDeleted || hasEnded || s.cancelled() || !s.access.Permitted || s.notReady != "" || !s.expiredAt.IsZero() {
			return "created"
		}
	case deleteRemote:
		if s.requestsInFlight() > 0 && isSameJob(s) {
			return "gave a name free"
		}
		if !isDeleted && (!s.cancelled() || hasEnded || verdict) {
			return "deleted"
		}
		if s.job.Spec.DeletionPolicy == v1alpha1.DeletionPolicyOrphan && isDeleted {
			return "deleted an orphan"
		}
	case confirmGone, awaitDeletion, release, orphanJob, abandon:
		if !isDeleted {
			return "let go"
		}
		if got.verb == abandon && s.notReady == "" {
			return "given up although it can be reached"
		}
	case refuse, confirmLoss, observe, observeGone:
		if isDeleted || hasEnded {
			return "judged"
		}
		if got.verb == refuse && s.wasObserved() {
			return "refused although there was a Job"
		}
	case keepJob:
		if isDeleted || hasEnded || verdict || s.remote == nil || s.cancelled() {
			return "kept"
		}
	case patchRemote:
		holds := isDeleted && s.requestsInFlight() > 0 && got.doing == "stopping the remote Job"
		if (isDeleted || hasEnded) && !holds || verdict || s.remote == nil {
			return "patched"
		}
	case moveAway:
		mayMove := s.fenced || !s.mayHaveJob()
		if isDeleted || hasEnded || (s.notReady == "" && s.awaySince().IsZero()) || !mayMove || s.job.Spec.Failover.AfterSeconds == 0 {
			return "moved"
		}
	case restore:
		if isDeleted || !s.stripped || !s.bound {
			return "restored"
		}
	case accept:
		if !s.access.Permitted || s.cluster == "" {
			return "accepted"
		}
	case settle, wait: // always safe
	default:
		return "no such verb"
	}
	return ""
}
