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
	"github.com/pooledjob/pooledjob/internal/access"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/jobspec"
)

// gather reads everything that the decision needs, from caches only.
func (r *Reconciler) gather(ctx context.Context, job *v1alpha1.PooledJob) (*snapshot, *connpool.Lease, error) {
	s := &snapshot{now: r.Now(), job: job}
	s.memory = r.rememberCreator(job, s.now)
	intent, bound, intact := jobspec.BoundBy(job, r.HubID, s.memory.intent)
	s.intent, s.bound, s.stripped = intent, bound, bound && !intact
	s.cluster = cmp.Or(intent.Cluster, job.Spec.ClusterName, job.Status.ClusterName)
	if s.stripped && job.DeletionTimestamp.IsZero() {
		s.notReady = "not asked for" // that is mended first
		return s, nil, nil
	}
	if s.cluster == "" {
		s.notReady = "no cluster was chosen yet"
		return s, nil, r.gatherCandidates(ctx, s)
	}
	if err := r.gatherConnection(ctx, s); err != nil {
		return nil, nil, err
	}
	if s.connection != nil && !s.access.Permitted && !s.bound && !s.wasObserved() && job.DeletionTimestamp.IsZero() {
		// It is refused, and must not wake a connection that is idle.
		s.notReady = "not asked for"
		return s, nil, nil
	}
	fenced, err := hubcache.IsFenced(ctx, r.Hub, s.intent.ClusterUID)
	if err != nil {
		return nil, nil, err
	}
	if fenced {
		s.fenced, s.notReadyReason = true, v1alpha1.ReasonClusterFenced
		s.notReady = fmt.Sprintf("the cluster of ClusterConnection %q was stated to be fenced, by annotation %s=%s: nothing is sent there",
			s.cluster, v1alpha1.AnnotationFenced, s.intent.ClusterUID)
		return s, nil, nil
	}
	lease, err := r.Connections.Lease(s.cluster, string(job.UID))
	another := err == nil && s.bound && s.intent.ClusterUID != lease.ClusterUID()
	if err == nil && !another { // whatever is seen on another cluster says nothing about this run
		err = r.gatherRemote(s, lease)
	}
	if err != nil {
		s.notReadyReason = v1alpha1.ReasonClusterNotReady
		r.whyNotReady(s, err)
		return s, nil, nil
	}
	if at := lease.ExpiresAt(); !at.IsZero() && !s.now.Before(at) {
		s.expiredAt = at
	}
	if another {
		s.notReadyReason = v1alpha1.ReasonClusterNotReady
		s.notReady = fmt.Sprintf("the run is bound to the cluster with UID %s, but connection %s reaches the one with UID %s",
			s.intent.ClusterUID, s.cluster, lease.ClusterUID())
		return s, nil, nil
	}
	return s, lease, nil
}

// rememberCreator returns what is remembered of a PooledJob, after a look at which process
// has the creation of its Job to itself: a leader that was stopped, replaced and continued
// still remembers that it had.
func (r *Reconciler) rememberCreator(job *v1alpha1.PooledJob, now time.Time) memory {
	m, creator := r.memories.of(job), job.Annotations[v1alpha1.AnnotationCreator]
	isBound := controllerutil.ContainsFinalizer(job, v1alpha1.FinalizerPooledJob)
	if !isBound || creator == r.process || (!m.creatorSeenAt.IsZero() && m.creator == creator) {
		return m
	}
	return r.memories.update(job, func(m *memory) { m.current, m.creator, m.creatorSeenAt = false, creator, now })
}

func (r *Reconciler) gatherConnection(ctx context.Context, s *snapshot) error {
	connection := &v1alpha1.ClusterConnection{}
	err := r.Hub.Get(ctx, client.ObjectKey{Name: s.cluster}, connection)
	if err == nil {
		s.connection = connection
		s.access, err = r.checkAccess(ctx, r.Hub, connection, s.job)
	}
	if !s.bound {
		s.intent = jobspec.NewIntent(s.job, r.HubID, s.cluster, connection.Status.ClusterUID)
	}
	if ref := s.job.Status.JobRef; ref.UID != "" {
		s.intent.Namespace, s.intent.JobName = ref.Namespace, ref.Name // what was observed wins
	}
	return client.IgnoreNotFound(err)
}

// gatherRemote looks the remote Job and its Pods up in the connection's view.
func (r *Reconciler) gatherRemote(s *snapshot, lease *connpool.Lease) error {
	remote, err := lease.Job(s.intent.Namespace, s.intent.JobName)
	if err != nil {
		return err
	}
	if remote != nil && jobspec.Owns(r.HubID, s.job, remote.Labels) {
		s.remote = remote
	}
	pods, err := lease.Pods(s.intent.Namespace)
	s.pods = ofJob(pods, s.intent.JobName)
	s.endedPods = ofJob(lease.EndedPods(s.intent.Namespace), s.intent.JobName)
	r.rememberGone(s, lease)
	return err
}

// rememberGone takes down how a Job was that left the view, for what the view remembers goes
// with the connection.
func (r *Reconciler) rememberGone(s *snapshot, lease *connpool.Lease) {
	gone := lease.GoneJob(s.intent.Namespace, s.intent.JobName)
	switch {
	case s.remote != nil && s.memory.gone != nil && s.remote.UID == s.memory.gone.UID:
		s.memory = r.memories.update(s.job, (*memory).forgetGone)
	case s.remote == nil && s.bound && gone != nil && jobspec.Owns(r.HubID, s.job, gone.Labels) && isKnown(s, gone.Job):
		s.memory = r.memories.update(s.job, func(m *memory) {
			m.gone, m.goneWatched, m.goneAt, m.goneForgotten = gone.Job, gone.Watched, s.now.Add(-time.Since(gone.At)), false
			m.gonePods, m.gonePodsMissing = slices.Concat(s.pods, s.endedPods), gone.PodsMissing
			m.goneSettled = time.Since(gone.At) >= PodsPause
		})
	case s.remote == nil && gone == nil && s.memory.gone != nil && !s.memory.goneForgotten:
		s.memory = r.memories.update(s.job, func(m *memory) { m.goneForgotten = true })
	}
}

// ofJob are the Pods of the present attempt: those of an earlier one on the same cluster
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

// namespaceLabels are those of a namespace of the hub; ok is false when it is not there.
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

// whyNotReady records why a connection cannot be used, and whether that is because
// the contact is still under way. The words are the same for as long as the state is,
// so that they are written once.
func (r *Reconciler) whyNotReady(s *snapshot, err error) {
	name := s.cluster
	if errors.Is(err, connpool.ErrNotWatched) {
		s.notReadyReason = v1alpha1.ReasonNamespaceNotWatched
		s.notReady = fmt.Sprintf("ClusterConnection %q does not watch namespace %q: it is not in its spec.namespaces", name, s.intent.Namespace)
		return
	}
	var notReady *connpool.NotReadyError
	if errors.As(err, &notReady) {
		s.notReady = notReady.Error()
		if last := notReady.Status.LastContact; !last.IsZero() && notReady.Status.State == connpool.Unreachable {
			s.notReady += "; last contact at " + last.UTC().Format(time.RFC3339)
		}
		s.connecting = notReady.Status.State == connpool.Connecting || notReady.Status.State == connpool.Idle
		return
	}
	if s.connection != nil {
		ready := meta.FindStatusCondition(s.connection.Status.Conditions, v1alpha1.ConditionReady)
		// Nothing else keeps the reconciler from opening the connection.
		if ready != nil && (ready.Reason == v1alpha1.ReasonSecretNotFound || ready.Reason == v1alpha1.ReasonInvalidKubeconfig) {
			s.notReady = fmt.Sprintf("connection %s is not Ready: %s: %s", name, ready.Reason, ready.Message)
			return
		}
	}
	s.notReady, s.connecting = fmt.Sprintf("connection %s is not open yet", name), s.connection != nil
}
