package pooledjob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/access"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/jobspec"
)

// gather reads everything that the decision needs, from caches only.
func (r *Reconciler) gather(ctx context.Context, job *v1alpha1.PooledJob) (*decision.Snapshot, *connpool.Lease, error) {
	s := &decision.Snapshot{Time: r.Clock.Now(), Job: job}
	s.Memory = r.rememberCreator(job, s.Time)
	intent, bound, intact := jobspec.RunOf(r.HubID, job).Bound(s.Memory.Intent)
	s.Intent, s.Bound, s.Stripped = intent, bound, bound && !intact
	s.Cluster = cmp.Or(intent.Cluster, job.Spec.ClusterName, job.Status.ClusterName)
	if s.Stripped && job.DeletionTimestamp.IsZero() {
		s.Contact = decision.NotAsked // until the intent is written again
		return s, nil, nil
	}
	if s.Cluster == "" {
		s.Contact = decision.NotAsked
		return s, nil, r.gatherCandidates(ctx, s)
	}
	if err := r.gatherConnection(ctx, s); err != nil {
		return nil, nil, err
	}
	if s.Connection != nil && !s.Access.Permitted && !s.Bound && !s.WasObserved() && job.DeletionTimestamp.IsZero() {
		// It is refused, and must not wake a connection that is idle.
		s.Contact = decision.NotAsked
		return s, nil, nil
	}
	fenced, err := hubcache.IsFenced(ctx, r.Hub, s.Intent.ClusterUID)
	if err != nil {
		return nil, nil, err
	}
	if fenced {
		s.Contact, s.ContactReason = decision.Fenced, v1alpha1.ReasonClusterFenced
		s.ContactMessage = fmt.Sprintf("the cluster of ClusterConnection %q was stated to be fenced, by annotation %s=%s: nothing is sent there",
			s.Cluster, v1alpha1.AnnotationFenced, s.Intent.ClusterUID)
		return s, nil, nil
	}
	lease, err := r.Connections.Lease(s.Cluster, string(job.UID))
	another := err == nil && s.Bound && s.Intent.ClusterUID != lease.ClusterUID()
	if err == nil && !another { // whatever is seen on another cluster says nothing about this run
		err = r.gatherRemote(s, lease)
	}
	if err != nil {
		recordNoLease(s, err)
		return s, nil, nil
	}
	if at := lease.ExpiresAt(); !at.IsZero() && !s.Time.Before(at) {
		s.ExpiredAt = at
	}
	if another {
		s.Contact, s.ContactReason = decision.Away, v1alpha1.ReasonClusterNotReady
		s.ContactMessage = fmt.Sprintf("the run is bound to the cluster with UID %s, but connection %s reaches the one with UID %s",
			s.Intent.ClusterUID, s.Cluster, lease.ClusterUID())
		return s, nil, nil
	}
	return s, lease, nil
}

// rememberCreator returns what is remembered of a PooledJob, after a look at which process
// has the creation of its Job to itself: a leader that was stopped, replaced and continued
// still remembers that it had.
func (r *Reconciler) rememberCreator(job *v1alpha1.PooledJob, now time.Time) decision.Memory {
	m, creator := r.memories.get(job), job.Annotations[v1alpha1.AnnotationCreator]
	isBound := controllerutil.ContainsFinalizer(job, v1alpha1.FinalizerPooledJob)
	if !isBound || creator == r.process || (!m.CreatorSeenAt.IsZero() && m.Creator == creator) {
		return m
	}
	return r.memories.update(job, func(m *decision.Memory) { m.Current, m.Creator, m.CreatorSeenAt = false, creator, now })
}

func (r *Reconciler) gatherConnection(ctx context.Context, s *decision.Snapshot) error {
	connection := &v1alpha1.ClusterConnection{}
	err := r.Hub.Get(ctx, client.ObjectKey{Name: s.Cluster}, connection)
	if err == nil {
		s.Connection = connection
		s.Access, err = r.checkAccess(ctx, r.Hub, connection, s.Job)
	}
	if !s.Bound {
		s.Intent = jobspec.RunOf(r.HubID, s.Job).NewIntent(s.Cluster, connection.Status.ClusterUID)
	}
	if ref := s.Job.Status.JobRef; ref.UID != "" {
		s.Intent.Namespace, s.Intent.JobName = ref.Namespace, ref.Name // what was observed wins
	}
	return client.IgnoreNotFound(err)
}

// gatherRemote looks the remote Job and its Pods up in the connection's view.
func (r *Reconciler) gatherRemote(s *decision.Snapshot, lease *connpool.Lease) error {
	remote, err := lease.Job(s.Intent.Namespace, s.Intent.JobName)
	if err != nil {
		return err
	}
	if remote != nil && binding.Owns(r.HubID, s.Job, remote.Labels) {
		s.Remote = remote
	}
	s.PodsLateAt = s.Time.Add(-time.Since(lease.PodsLateAt(s.Intent.Namespace)))
	pods, err := lease.Pods(s.Intent.Namespace)
	s.Pods = ofJob(pods, s.Intent.JobName)
	s.EndedPods = ofJob(lease.EndedPods(s.Intent.Namespace), s.Intent.JobName)
	r.rememberGone(s, lease)
	return err
}

// rememberGone takes down how a Job was that left the view, for what the view remembers goes
// with the connection.
func (r *Reconciler) rememberGone(s *decision.Snapshot, lease *connpool.Lease) {
	gone := lease.GoneJob(s.Intent.Namespace, s.Intent.JobName)
	switch {
	case s.Remote != nil && s.Memory.Gone.Job != nil && s.Remote.UID == s.Memory.Gone.Job.UID:
		s.Memory = r.memories.update(s.Job, func(m *decision.Memory) { m.Gone = decision.Gone{} })
	case s.Remote == nil && s.Bound && gone != nil && binding.Owns(r.HubID, s.Job, gone.Labels) && decision.IsKnown(s, gone.Job):
		s.Memory = r.memories.update(s.Job, func(m *decision.Memory) {
			at, before := s.Time.Add(-time.Since(gone.At)), m.Gone
			m.Gone = decision.Gone{
				Job: gone.Job, Pods: slices.Concat(s.Pods, s.EndedPods), At: at, Watched: gone.Watched, PodsMissing: gone.PodsMissing,
				Settled: s.ViewShows(at),
			}
			if known := before.Job; known != nil && known.UID == gone.UID {
				m.Gone.Awaited, m.Gone.Asks = before.Awaited, before.Asks
				if before.Settled {
					m.Gone.Settled, m.Gone.PodsMissing = true, before.PodsMissing // whatever is missed since
				}
			}
		})
	case s.Remote == nil && gone == nil && s.Memory.Gone.Job != nil && !s.Memory.Gone.Forgotten:
		s.Memory = r.memories.update(s.Job, func(m *decision.Memory) { m.Gone.Forgotten = true })
	}
}

// ofJob returns the Pods of the present attempt: those of an earlier one on the same cluster
// have the Job's name of then.
func ofJob(pods []*corev1.Pod, name string) []*corev1.Pod {
	return slices.DeleteFunc(pods, func(pod *corev1.Pod) bool {
		of, ok := pod.Labels[batchv1.JobNameLabel]
		return ok && of != name
	})
}

// checkAccess applies the access rules to the labels of the PooledJob's
// namespace, which it reads through reader.
func (r *Reconciler) checkAccess(ctx context.Context, reader client.Reader, connection *v1alpha1.ClusterConnection, job *v1alpha1.PooledJob) (access.Decision, error) {
	labels, ok, err := namespaceLabels(ctx, reader, job.Namespace)
	if !ok || err != nil {
		return access.Decision{}, err // gone or not seen yet: refused only after a live read
	}
	return accessOf(connection, job, labels), nil
}

func accessOf(connection *v1alpha1.ClusterConnection, job *v1alpha1.PooledJob, hubLabels map[string]string) access.Decision {
	return access.Decide(connection.Spec.Access, job.Namespace, hubLabels, jobspec.TargetNamespace(job))
}

// namespaceLabels returns those of a namespace of the hub; ok is false when it is not there.
func namespaceLabels(ctx context.Context, reader client.Reader, name string) (labels map[string]string, ok bool, err error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err = reader.Get(ctx, client.ObjectKey{Name: name}, namespace)
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading the namespace's labels: %w", err)
	}
	return namespace.Labels, true, nil
}

// recordNoLease records why there is no lease. The message is the same for as long as the state is,
// so that it is written once.
func recordNoLease(s *decision.Snapshot, err error) {
	name := s.Cluster
	s.Contact, s.ContactReason = decision.Away, v1alpha1.ReasonClusterNotReady
	if errors.Is(err, connpool.ErrNotWatched) {
		s.ContactReason = v1alpha1.ReasonNamespaceNotWatched
		s.ContactMessage = fmt.Sprintf("ClusterConnection %q does not watch namespace %q: it is not in its spec.namespaces", name, s.Intent.Namespace)
		return
	}
	var notReady *connpool.NotReadyError
	if errors.As(err, &notReady) {
		s.ContactMessage = notReady.Error()
		if last := notReady.Status.LastContact; !last.IsZero() && notReady.Status.State == connpool.Unreachable {
			s.ContactMessage += "; last contact at " + last.UTC().Format(time.RFC3339)
		}
		if notReady.Status.State == connpool.Connecting || notReady.Status.State == connpool.Idle {
			s.Contact = decision.Connecting
		}
		return
	}
	if s.Connection != nil {
		ready := meta.FindStatusCondition(s.Connection.Status.Conditions, v1alpha1.ConditionReady)
		// Nothing else keeps the reconciler from opening the connection.
		if ready != nil && (ready.Reason == v1alpha1.ReasonSecretNotFound || ready.Reason == v1alpha1.ReasonInvalidKubeconfig) {
			s.ContactMessage = fmt.Sprintf("connection %s is not Ready: %s: %s", name, ready.Reason, ready.Message)
			return
		}
	}
	if s.Connection != nil {
		s.Contact = decision.Connecting
	}
	s.ContactMessage = fmt.Sprintf("connection %s is not open yet", name)
}
