package controllers

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
)

var decisionTime = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// given is a snapshot of a PooledJob that could run now, after the changes.
func given(changes ...func(*snapshot)) *snapshot {
	job := &v1alpha1.PooledJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "run", UID: "uid", CreationTimestamp: metav1.NewTime(decisionTime)},
		Spec:       v1alpha1.PooledJobSpec{ClusterName: "prod"},
	}
	s := &snapshot{
		now: decisionTime, job: job, access: access{permitted: true},
		connection: &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: "prod"}},
		intent:     jobspec.NewIntent(job, "hub", "cluster"),
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
func seenJob(s *snapshot)       { bound(s); s.job.Status.JobRef.UID = "job" }
func inView(s *snapshot)        { s.remote = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "job"}} }
func anotherInView(s *snapshot) { s.remote = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "other"}} }
func remoteDeleting(s *snapshot) {
	inView(s)
	s.remote.DeletionTimestamp = &metav1.Time{Time: decisionTime}
}
func podLeft(s *snapshot) {
	s.pods = []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: decisionTime}}}}
}
func podOrphaned(s *snapshot) { s.pods = []*corev1.Pod{{}} }
func notReady(s *snapshot) {
	s.notReady, s.notReadyReason = "connection prod is Unreachable", v1alpha1.ReasonClusterNotReady
}
func notWatched(s *snapshot) {
	s.notReady, s.notReadyReason = "not in its spec.namespaces", v1alpha1.ReasonNamespaceNotWatched
}
func connecting(s *snapshot) {
	s.notReady, s.notReadyReason, s.connecting = "connection prod is not open yet", v1alpha1.ReasonClusterNotReady, true
}
func expired(s *snapshot) { s.expiredAt = decisionTime }
func noConnection(s *snapshot) {
	s.connection, s.access.permitted, s.notReady = nil, false, "no connection"
}
func denied(s *snapshot)      { s.access.permitted = false }
func deleted(s *snapshot)     { s.job.DeletionTimestamp = &metav1.Time{Time: decisionTime} }
func orphan(s *snapshot)      { s.job.Spec.DeletionPolicy = v1alpha1.DeletionPolicyOrphan }
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
func ended(s *snapshot) {
	seenJob(s)
	s.job.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue}}
}

type changes []func(*snapshot)

func TestDecide(t *testing.T) {
	tests := map[string]struct {
		given changes
		want  action // message: a part of it
	}{
		"new":                        {nil, action{verb: bind}},
		"no ClusterConnection":       {changes{noConnection}, action{verb: wait, condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonClusterNotFound, message: `"prod" does not exist`}},
		"not permitted":              {changes{denied}, action{verb: refuse, reason: v1alpha1.ReasonNotPermitted, message: `hub namespace "team-a"`}},
		"not permitted, not ready":   {changes{denied, notReady}, action{verb: refuse, reason: v1alpha1.ReasonNotPermitted}},
		"connection not ready":       {changes{notReady}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady, message: "Unreachable"}},
		"namespace not watched":      {changes{notWatched}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonNamespaceNotWatched, message: "spec.namespaces"}},
		"expired":                    {changes{expired}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady, message: "expired at"}},
		"expired, bound":             {changes{expired, bound}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady}},
		"expired, deadline passed":   {changes{expired, deadline, minuteLater}, action{verb: refuse, reason: v1alpha1.ReasonDispatchDeadlineExceeded, message: "expired at"}},
		"first contact":              {changes{connecting}, action{verb: settle}},
		"first contact, seen":        {changes{seenJob, connecting}, action{verb: settle}},
		"first contact, deadline":    {changes{deadline, connecting}, action{verb: settle, after: 30 * time.Second}},
		"connection being deleted":   {changes{connectionDeleted}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady, message: "being deleted"}},
		"bound":                      {changes{bound}, action{verb: create}},
		"bound, no longer permitted": {changes{bound, denied}, action{verb: refuse, reason: v1alpha1.ReasonNotPermitted}},
		"refused for now":            {changes{refusedUntilLater}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonQuotaExceeded, message: "full", after: 5 * time.Second}},
		"refused, time to try again": {changes{refusedUntilLater, minuteLater}, action{verb: create}},
		"deadline to come":           {changes{deadline, notReady}, action{verb: wait, condition: v1alpha1.ConditionDispatched, reason: v1alpha1.ReasonClusterNotReady, after: 30 * time.Second}},
		"deadline passed":            {changes{deadline, minuteLater, notReady}, action{verb: refuse, reason: v1alpha1.ReasonDispatchDeadlineExceeded, message: "Unreachable"}},
		"deadline passed, denied":    {changes{deadline, minuteLater, notReady, denied}, action{verb: refuse, reason: v1alpha1.ReasonNotPermitted}},
		"deadline passed, bound":     {changes{deadline, minuteLater, bound}, action{verb: refuse, reason: v1alpha1.ReasonDispatchDeadlineExceeded}},
		"deadline passed, seen":      {changes{deadline, minuteLater, seenJob, inView}, action{verb: observe}},

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

		"deleted, never bound":           {changes{deleted}, action{verb: settle}},
		"deleted, orphan":                {changes{bound, deleted, orphan, notReady}, action{verb: release}},
		"deleted, no ClusterConnection":  {changes{bound, deleted, noConnection}, action{verb: wait, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonClusterNotFound, message: "Orphan"}},
		"deleted, unreachable":           {changes{bound, deleted, notReady}, action{verb: wait, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonClusterNotReady, message: "Unreachable"}},
		"deleted, not watched":           {changes{bound, deleted, notWatched}, action{verb: wait, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonNamespaceNotWatched, message: "spec.namespaces"}},
		"deleted, in view":               {changes{seenJob, inView, deleted}, action{verb: deleteRemote}},
		"deleted, finished, in view":     {changes{ended, inView, deleted}, action{verb: deleteRemote}},
		"deleted, no longer permitted":   {changes{seenJob, inView, deleted, denied}, action{verb: deleteRemote}},
		"deleted, Job being deleted":     {changes{seenJob, remoteDeleting, deleted}, action{verb: awaitDeletion, after: podsGrace}},
		"deleted, Job slow to go":        {changes{seenJob, remoteDeleting, podLeft, deleted, minuteLater}, action{verb: awaitDeletion, condition: v1alpha1.ConditionDeleting, reason: v1alpha1.ReasonWaitingForPods, message: "1 Pods"}},
		"deleted, Pods outlive the Job":  {changes{seenJob, podLeft, deleted}, action{verb: awaitDeletion, after: podsGrace}},
		"deleted, Job left Pods":         {changes{seenJob, podOrphaned, deleted}, action{verb: confirmGone}},
		"deleted, nothing in view":       {changes{seenJob, deleted}, action{verb: confirmGone}},
		"deleted, nothing ever observed": {changes{bound, deleted}, action{verb: confirmGone}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := decide(given(test.given...))
			if !strings.Contains(got.message, test.want.message) {
				t.Errorf("message %q does not contain %q", got.message, test.want.message)
			}
			got.message, test.want.message = "", ""
			if got != test.want {
				t.Errorf("decide = %+v, want %+v", got, test.want)
			}
		})
	}
}

// Whatever comes together, nothing is ever created for a run that was seen, has
// ended or is being deleted, and nothing deleted for one that is not.
func TestDecideKeepsThePromisesInEveryState(t *testing.T) {
	all := changes{bound, seenJob, inView, anotherInView, remoteDeleting, podLeft, podOrphaned, notReady, connecting, noConnection, expired, denied, deleted,
		orphan, minuteLater, deadline, justCreated, refusedUntilLater, ended}
	for mask := range 1 << len(all) {
		var some changes
		for i, change := range all {
			if mask&(1<<i) != 0 {
				some = append(some, change)
			}
		}
		s := given(some...)
		isDeleted := s.job.DeletionTimestamp != nil
		switch got := decide(s).verb; got {
		case bind, create:
			if s.wasObserved() || isDeleted || !s.access.permitted || s.notReady != "" || !s.expiredAt.IsZero() {
				t.Fatalf("%b: %d for %+v", mask, got, s)
			}
		case deleteRemote, confirmGone, awaitDeletion, release:
			if !isDeleted {
				t.Fatalf("%b: %d for %+v", mask, got, s)
			}
		case settle, wait: // always safe
		case refuse, confirmLoss, observe:
			if isDeleted || s.job.Status.Conditions != nil {
				t.Fatalf("%b: %d for %+v", mask, got, s)
			}
		}
	}
}
