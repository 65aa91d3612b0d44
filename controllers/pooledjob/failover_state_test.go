package pooledjob

import (
	"testing"
	"time"


	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// A leader that was stopped, replaced and continued remembers that it has the creation of a
// Job to itself. It must not believe that once another process has taken over.
func TestMemoryEndsWithATakeover(t *testing.T) {
	r := &Reconciler{process: "us"}
	s := boundRun()
	job := s.job
	creator := func(name string) { job.Annotations = map[string]string{v1alpha1.AnnotationCreator: name} }
	look := func(after time.Duration) memory { return r.rememberCreator(job, boundAt.Add(after)) }

	creator("us")
	r.memories.update(job, func(m *memory) { m.current = true })
	if !look(0).current {
		t.Fatal("what it bound itself is not its own")
	}
	creator("heir")
	for _, after := range []time.Duration{time.Hour, 2 * time.Hour} {
		if m := look(after); m.current || !m.creatorSeenAt.Equal(boundAt.Add(time.Hour)) {
			t.Fatalf("after the takeover: current %v, since %s", m.current, m.creatorSeenAt)
		}
	}
	// It takes over in its turn, and loses it again.
	r.memories.update(job, func(m *memory) { m.current, m.creator = true, "us" })
	creator("us")
	if !look(3 * time.Hour).current {
		t.Fatal("what it took over is not its own")
	}
	creator("heir")
	if m := look(4 * time.Hour); m.current || !m.creatorSeenAt.Equal(boundAt.Add(4*time.Hour)) {
		t.Fatalf("after the second takeover: current %v, since %s", m.current, m.creatorSeenAt)
	}
}
