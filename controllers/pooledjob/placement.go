package pooledjob

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/access"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/placement"
)

// gatherCandidates looks for the connections that spec.clusterSelector selects.
func (r *Reconciler) gatherCandidates(ctx context.Context, s *decision.Snapshot) error {
	selector, err := metav1.LabelSelectorAsSelector(access.Selector(s.Job.Spec.ClusterSelector))
	if err != nil {
		s.BadSelector = err
		return nil // nothing matches; only a new run can mend it
	}
	hubLabels, ok, err := namespaceLabels(ctx, r.Hub, s.Job.Namespace)
	if err != nil {
		return err
	}
	var connections v1alpha1.ClusterConnectionList
	if err := r.Hub.List(ctx, &connections, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing ClusterConnections: %w", err)
	}
	fenced := map[string]bool{}
	for i := range connections.Items {
		fenced[connections.Items[i].Annotations[v1alpha1.AnnotationFenced]] = true
	}
	for i := range connections.Items {
		connection := &connections.Items[i]
		if !selector.Matches(labels.Set(connection.Labels)) {
			continue
		}
		s.Candidates = append(s.Candidates, placement.Candidate{
			Name: connection.Name, ClusterUID: connection.Status.ClusterUID,
			Unusable: placement.WhyUnusable(connection, fenced, jobspec.TargetNamespace(s.Job)), Closed: !ok || !accessOf(connection, s.Job, hubLabels).Permitted,
		})
	}
	return nil
}

// placements counts the unfinished PooledJobs of each ClusterConnection.
type placements struct {
	hubID string
	placement.Counter
}

// observe counts a PooledJob as it is on the hub. One without a cluster says nothing:
// it may have been placed since.
func (p *placements) observe(job *v1alpha1.PooledJob) {
	cluster := jobspec.RunOf(p.hubID, job).ClusterName()
	switch {
	case !hubcache.NeedsConnection(job):
		p.Forget(job.UID)
	case cluster != "":
		p.Count(job.UID, cluster)
	}
}

// handler keeps the counts up to date with the hub.
func (p *placements) handler() toolscache.ResourceEventHandler {
	observe := func(obj any) {
		if job, ok := obj.(*v1alpha1.PooledJob); ok {
			p.observe(job)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    observe,
		UpdateFunc: func(_, obj any) { observe(obj) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if job, ok := obj.(client.Object); ok {
				p.Forget(job.GetUID())
			}
		},
	}
}

// place writes the intent to run on the best candidate. Nothing else is done: the
// write itself wakes the run, which is bound then.
func (r *run) place(ctx context.Context) error {
	chosen := r.placements.Place(r.Job.UID, r.Candidates)
	err := r.writeIntent(ctx, jobspec.RunOf(r.HubID, r.Job).NewIntent(chosen.Name, chosen.ClusterUID))
	if err != nil || !r.Bound {
		r.placements.Forget(r.Job.UID)
	}
	return err
}
