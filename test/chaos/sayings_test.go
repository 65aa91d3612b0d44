package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/follow"
)

// sayings are what the hub was ever seen to say.
type sayings struct {
	mu          sync.Mutex
	runs        map[types.UID]*claims
	connections map[string][]readiness
}

// claims are what was said of one run.
type claims struct {
	// now is the present status.
	now  v1alpha1.PooledJobStatus
	gone bool // the PooledJob is
	// at is when its end was first said, and end what.
	at  time.Time
	end end
	// changed are later words that differ.
	changed []string
}

// readiness is what was said of a ClusterConnection at a time.
type readiness struct {
	at     time.Time
	ready  bool
	reason string
}

// listen begins to follow the hub.
func listen(ctx context.Context, hub client.WithWatch) *sayings {
	s := &sayings{runs: map[types.UID]*claims{}, connections: map[string][]readiness{}}
	follow.Objects(ctx, hub, &v1alpha1.PooledJob{}, &v1alpha1.PooledJobList{}, follow.Told[*v1alpha1.PooledJob]{Is: s.ofRun, Gone: s.runGone})
	follow.Objects(ctx, hub, &v1alpha1.ClusterConnection{}, &v1alpha1.ClusterConnectionList{}, follow.Told[*v1alpha1.ClusterConnection]{Is: s.ofConnection})
	return s
}

func (s *sayings) ofRun(job *v1alpha1.PooledJob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.runs[job.UID]
	if c == nil {
		c = &claims{}
		s.runs[job.UID] = c
	}
	c.now = job.Status
	said := endOf(job)
	switch {
	case c.end.String() == "" && said.String() != "":
		c.at, c.end = time.Now(), said
	case c.end.String() != said.String():
		c.changed = append(c.changed, fmt.Sprintf("%q, later %q", c.end, said))
	}
}

func (s *sayings) runGone(job *v1alpha1.PooledJob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[job.UID].gone = true
}

func (s *sayings) ofConnection(connection *v1alpha1.ClusterConnection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := readiness{at: time.Now()}
	if ready := meta.FindStatusCondition(connection.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		said.ready, said.reason = ready.Status == metav1.ConditionTrue, ready.Reason
	}
	before := s.connections[connection.Name]
	if n := len(before); n > 0 && before[n-1].ready == said.ready && before[n-1].reason == said.reason {
		return
	}
	s.connections[connection.Name] = append(before, said)
}

// of returns a copy of what was said of a run.
func (s *sayings) of(uid types.UID) claims {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.runs[uid]; c != nil {
		return *c
	}
	return claims{}
}

// readyAt returns what was last said of a ClusterConnection at a time.
func (s *sayings) readyAt(name string, at time.Time) readiness {
	s.mu.Lock()
	defer s.mu.Unlock()
	var last readiness
	for _, said := range s.connections[name] {
		if said.at.Before(at) {
			last = said
		}
	}
	return last
}

// end is how a run ended, as the hub says; empty while it has not.
type end struct {
	condition, reason string
	phase             v1alpha1.PooledJobPhase
	exitCode          string // "" when it is not known
	podName           string
}

func endOf(job *v1alpha1.PooledJob) end {
	e := end{phase: job.Status.Phase, podName: job.Status.Result.PodName}
	for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionFailed} {
		if c := meta.FindStatusCondition(job.Status.Conditions, kind); c != nil && c.Status == metav1.ConditionTrue {
			e.condition += kind // both would be an error
			e.reason = c.Reason
		}
	}
	if code := job.Status.Result.ExitCode; code != nil {
		e.exitCode = fmt.Sprint(*code)
	}
	return e
}

// String returns empty while the run has not ended.
func (e end) String() string {
	if e.condition == "" && e.phase != v1alpha1.PooledJobSucceeded && e.phase != v1alpha1.PooledJobFailed {
		return ""
	}
	return fmt.Sprintf("%s %s/%s exit %q by %s", e.phase, e.condition, e.reason, e.exitCode, e.podName)
}
