package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/access"
	"github.com/pooledjob/pooledjob/internal/jobspec"
)

// maxNamedCandidates bounds how many connections a message names.
const maxNamedCandidates = 10

// candidate is a ClusterConnection that a run may be placed on.
type candidate struct {
	name       string
	clusterUID string
	// unusable says why it cannot be used now; empty when it can.
	unusable string
	// closed is true if its access rules do not permit the run: it is not named.
	closed bool
}

func (c *candidate) usable() bool { return c.unusable == "" && !c.closed }

// gatherCandidates looks for the connections that spec.clusterSelector selects.
func (r *PooledJobReconciler) gatherCandidates(ctx context.Context, s *snapshot) error {
	selector, err := metav1.LabelSelectorAsSelector(access.Selector(s.job.Spec.ClusterSelector))
	if err != nil {
		s.badSelector = err
		return nil // nothing matches; only a new run can mend it
	}
	hubLabels, ok, err := namespaceLabels(ctx, r.Hub, s.job.Namespace)
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
		s.candidates = append(s.candidates, candidate{
			name: connection.Name, clusterUID: connection.Status.ClusterUID,
			unusable: whyUnusable(connection, fenced, jobspec.TargetNamespace(s.job)), closed: !ok || !accessOf(connection, s.job, hubLabels).Permitted,
		})
	}
	return nil
}

// whyUnusable tells why no run of a target namespace can be placed on a connection
// now; empty when it can. One that is Idle is Ready.
func whyUnusable(connection *v1alpha1.ClusterConnection, fenced map[string]bool, namespace string) string {
	ready := meta.FindStatusCondition(connection.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case !connection.DeletionTimestamp.IsZero():
		return "is being deleted"
	case ready == nil:
		return "has not been connected yet"
	case connection.Status.ClusterUID != "" && fenced[connection.Status.ClusterUID]:
		return "is fenced"
	case ready.Status != metav1.ConditionTrue:
		return ready.Reason
	case len(connection.Spec.Namespaces) > 0 && !slices.Contains(connection.Spec.Namespaces, namespace):
		return fmt.Sprintf("does not watch namespace %q", namespace)
	default:
		return ""
	}
}

// isFenced reports whether a person has stated that nothing runs on the cluster of that
// UID any more, on whichever of its ClusterConnections.
func isFenced(ctx context.Context, hub client.Reader, clusterUID string) (bool, error) {
	if clusterUID == "" {
		return false, nil
	}
	var fencing v1alpha1.ClusterConnectionList
	if err := hub.List(ctx, &fencing, client.MatchingFields{connectionsByFence: clusterUID}, client.Limit(1), client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("looking for fences: %w", err)
	}
	return len(fencing.Items) > 0, nil
}

// othersFencedBy returns the names of the other ClusterConnections of the cluster that one states to
// be fenced; none when the caches have stopped.
func othersFencedBy(ctx context.Context, hub client.Reader, connection client.Object) []string {
	var all v1alpha1.ClusterConnectionList
	fenced := connection.GetAnnotations()[v1alpha1.AnnotationFenced]
	if fenced == "" || hub.List(ctx, &all, client.UnsafeDisableDeepCopy) != nil {
		return nil
	}
	var names []string
	for i := range all.Items {
		if other := &all.Items[i]; other.Name != connection.GetName() && other.Status.ClusterUID == fenced {
			names = append(names, other.Name)
		}
	}
	return names
}

// decidePlacement: the run has no cluster yet.
func decidePlacement(s *snapshot) action {
	if slices.ContainsFunc(s.candidates, func(c candidate) bool { return c.usable() }) {
		return action{verb: place}
	}
	return s.waiting(v1alpha1.ConditionAccepted, v1alpha1.ReasonNoClusterMatches, whyNoCluster(s))
}

// whyNoCluster says of each candidate why it cannot be used. Of those that are closed
// to the run it says no more than how many there are.
func whyNoCluster(s *snapshot) string {
	if s.badSelector != nil {
		return fmt.Sprintf("spec.clusterSelector cannot be used: %v. Create a new PooledJob.", s.badSelector)
	}
	var named []string
	closed := 0
	for _, c := range s.candidates {
		if c.closed {
			closed++
		} else {
			named = append(named, c.name+": "+c.unusable)
		}
	}
	slices.Sort(named)
	if more := len(named) - maxNamedCandidates; more > 0 {
		named = append(named[:maxNamedCandidates], fmt.Sprintf("%d more", more))
	}
	if closed > 0 {
		named = append(named, fmt.Sprintf("%d do not let hub namespace %q use namespace %q of their clusters",
			closed, s.job.Namespace, jobspec.TargetNamespace(s.job)))
	}
	if len(named) == 0 {
		return "No ClusterConnection has the labels that spec.clusterSelector asks for."
	}
	return "No ClusterConnection that spec.clusterSelector selects can be used: " + strings.Join(named, "; ") + "."
}

// placements knows how many unfinished PooledJobs each connection has, those included
// that were placed a moment ago and that the cache does not show yet.
type placements struct {
	hubID     string
	mu        sync.Mutex
	clusterOf map[types.UID]string
	jobs      map[string]int // by cluster
}

// place chooses the candidate with the fewest unfinished PooledJobs, the first by name
// among equals, and counts the run there. There must be one that is usable.
func (p *placements) place(uid types.UID, candidates []candidate) candidate {
	p.mu.Lock()
	defer p.mu.Unlock()
	usable := slices.DeleteFunc(slices.Clone(candidates), func(c candidate) bool { return !c.usable() })
	chosen := slices.MinFunc(usable, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(p.jobs[a.name], p.jobs[b.name]), cmp.Compare(a.name, b.name))
	})
	p.count(uid, chosen.name)
	return chosen
}

// forget does not count a run any more.
func (p *placements) forget(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(uid, "")
}

// observe counts a PooledJob as it is on the hub. One without a cluster tells nothing:
// it may have been placed since.
func (p *placements) observe(job *v1alpha1.PooledJob) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cluster := jobspec.ClusterOf(job, p.hubID)
	switch {
	case !needsConnection(job):
		p.count(job.UID, "")
	case cluster != "":
		p.count(job.UID, cluster)
	}
}

// count moves a run to a cluster, or to none. p.mu is held.
func (p *placements) count(uid types.UID, cluster string) {
	if p.jobs == nil {
		p.clusterOf, p.jobs = map[types.UID]string{}, map[string]int{}
	}
	before, ok := p.clusterOf[uid]
	if ok && before == cluster {
		return
	}
	if ok {
		p.jobs[before]--
		delete(p.clusterOf, uid)
		if p.jobs[before] == 0 {
			delete(p.jobs, before)
		}
	}
	if cluster != "" {
		p.clusterOf[uid] = cluster
		p.jobs[cluster]++
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
				p.forget(job.GetUID())
			}
		},
	}
}

// place writes the intent to run on the best candidate. Nothing else is done: the
// write itself wakes the run, which is bound then.
func (r *run) place(ctx context.Context) error {
	chosen := r.placements.place(r.job.UID, r.candidates)
	err := r.writeIntent(ctx, jobspec.NewIntent(r.job, r.HubID, chosen.name, chosen.clusterUID))
	if err != nil || !r.bound {
		r.placements.forget(r.job.UID)
	}
	return err
}
