package pooledjob

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/jobspec"
)

// boundAt is when the runs of these tests are looked at.
var boundAt = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// boundRun returns a snapshot of a run that is bound to a cluster.
func boundRun() *decision.Snapshot {
	job := &v1alpha1.PooledJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "run", UID: "uid", Finalizers: []string{v1alpha1.FinalizerPooledJob}},
		Spec:       v1alpha1.PooledJobSpec{ClusterName: "prod"},
	}
	return &decision.Snapshot{Time: boundAt, Job: job, Cluster: "prod", Bound: true, Intent: jobspec.RunOf("hub", job).NewIntent("prod", "cluster")}
}

// What a run waits for that has no ClusterConnection is nothing that will soon be known.
func TestNoConnectionIsNotConnecting(t *testing.T) {
	s := boundRun()
	recordNoLease(s, connpool.ErrClosed)
	if s.Contact != decision.Away || s.ContactMessage == "" {
		t.Errorf("contact: %v, message: %q", s.Contact, s.ContactMessage)
	}
}
