package pooledjob

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/placement"
)

// placedRun returns a PooledJob as the hub has it: on a cluster, or on none.
func placedRun(uid types.UID, cluster string) *v1alpha1.PooledJob {
	job := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: string(uid), UID: uid}}
	job.Spec.ClusterSelector = &v1alpha1.LabelSelector{}
	if cluster != "" {
		job.Finalizers = []string{v1alpha1.FinalizerPooledJob}
		job.Annotations = map[string]string{v1alpha1.AnnotationIntent: jobspec.RunOf("hub", job).NewIntent(cluster, "uid").Encode()}
	}
	return job
}

// lastSeen returns how an informer tells of the end of an object that it did not see.
func lastSeen(job *v1alpha1.PooledJob) toolscache.DeletedFinalStateUnknown {
	return toolscache.DeletedFinalStateUnknown{Key: job.Namespace + "/" + job.Name, Obj: job}
}

func TestPlacements(t *testing.T) {
	all := []placement.Candidate{{Name: "c"}, {Name: "b"}, {Name: "a"}}
	finish := func(job *v1alpha1.PooledJob) *v1alpha1.PooledJob {
		job.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue}}
		return job
	}
	del := func(job *v1alpha1.PooledJob) *v1alpha1.PooledJob {
		job.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		return job
	}
	moved := func(job *v1alpha1.PooledJob) *v1alpha1.PooledJob { job.Status.Attempt++; return job }
	tests := map[string]struct {
		do   func(p *placements)
		want map[string]int
	}{
		"nothing":                                 {func(*placements) {}, map[string]int{}},
		"observation of what was reserved":        {func(p *placements) { p.Place("1", all); p.observe(placedRun("1", "a")) }, map[string]int{"a": 1}},
		"stale observation without a cluster":     {func(p *placements) { p.Place("1", all); p.observe(placedRun("1", "")) }, map[string]int{"a": 1}},
		"observed elsewhere than reserved":        {func(p *placements) { p.Place("1", all); p.observe(placedRun("1", "c")) }, map[string]int{"c": 1}},
		"never placed, without a cluster":         {func(p *placements) { p.observe(placedRun("1", "")) }, map[string]int{}},
		"forgotten":                               {func(p *placements) { p.Place("1", all); p.Forget("1"); p.Forget("1"); p.Forget("2") }, map[string]int{}},
		"finished":                                {func(p *placements) { p.observe(placedRun("1", "a")); p.observe(finish(placedRun("1", "a"))) }, map[string]int{}},
		"finished before it was seen":             {func(p *placements) { p.observe(finish(placedRun("1", "a"))) }, map[string]int{}},
		"being deleted":                           {func(p *placements) { p.observe(del(placedRun("1", "a"))) }, map[string]int{"a": 1}},
		"finished and being deleted":              {func(p *placements) { p.observe(del(finish(placedRun("1", "a")))) }, map[string]int{"a": 1}},
		"being deleted, with nothing to clean up": {func(p *placements) { p.Place("1", all); p.observe(del(placedRun("1", ""))) }, map[string]int{}},
		"moved away, intent of the attempt before": {func(p *placements) {
			p.observe(placedRun("1", "a"))
			p.Forget("1")
			p.observe(moved(placedRun("1", "a")))
		}, map[string]int{}},
		"by its handler": {func(p *placements) {
			h := p.handler()
			h.OnAdd(placedRun("1", "a"), true)
			h.OnAdd(placedRun("2", "b"), false)
			h.OnAdd(placedRun("3", ""), false)
			h.OnUpdate(placedRun("3", ""), placedRun("3", "c"))
			h.OnDelete(placedRun("1", "a"))
			h.OnUpdate(placedRun("2", "b"), finish(placedRun("2", "b")))
		}, map[string]int{"c": 1}},
		"by its handler, deleted while nobody watched": {func(p *placements) {
			h := p.handler()
			h.OnAdd(placedRun("1", "a"), true)
			h.OnDelete(lastSeen(placedRun("1", "a")))
		}, map[string]int{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := &placements{hubID: "hub"}
			test.do(p)
			for _, connection := range []string{"a", "b", "c"} {
				if got := p.Runs(connection); got != test.want[connection] {
					t.Errorf("%s has %d runs, want %d", connection, got, test.want[connection])
				}
			}
		})
	}
}
