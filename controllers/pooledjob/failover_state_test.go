package pooledjob

import (
	"testing"
	"time"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
)

// A leader that was stopped, replaced and continued remembers that it has the creation of a
// Job to itself. It must not believe that once another process has taken over.
func TestMemoryEndsWithATakeover(t *testing.T) {
	r := &Reconciler{process: "us"}
	s := boundRun()
	job := s.Job
	creator := func(name string) { job.Annotations = map[string]string{v1alpha1.AnnotationCreator: name} }
	look := func(after time.Duration) decision.Memory { return r.rememberCreator(job, boundAt.Add(after)) }

	creator("us")
	r.memories.update(job, func(m *decision.Memory) { m.Current = true })
	if !look(0).Current {
		t.Fatal("what it bound itself is not its own")
	}
	creator("heir")
	for _, after := range []time.Duration{time.Hour, 2 * time.Hour} {
		if m := look(after); m.Current || !m.CreatorSeenAt.Equal(boundAt.Add(time.Hour)) {
			t.Fatalf("after the takeover: current %v, since %s", m.Current, m.CreatorSeenAt)
		}
	}
	// It takes over in its turn, and loses it again.
	r.memories.update(job, func(m *decision.Memory) { m.Current, m.Creator = true, "us" })
	creator("us")
	if !look(3 * time.Hour).Current {
		t.Fatal("what it took over is not its own")
	}
	creator("heir")
	if m := look(4 * time.Hour); m.Current || !m.CreatorSeenAt.Equal(boundAt.Add(4*time.Hour)) {
		t.Fatalf("after the second takeover: current %v, since %s", m.Current, m.CreatorSeenAt)
	}
}
