package controllers

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gtypes "github.com/onsi/gomega/types"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/test/faultproxy"
	"github.com/pooledjob/pooledjob/test/fixtures"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// Target clusters beside the suite's own, and lines to them that can be broken.

// site is a target cluster.
type site struct {
	cluster *localcluster.Cluster
	client  client.Client
	uid     string
}

// startSite starts a target cluster for the specs of an Ordered container.
func startSite(ctx context.Context, name string) *site {
	s := &site{}
	s.cluster, s.client = startCluster(ctx, name, operator.scheme)
	s.uid = uidOf(ctx, s.client)
	return s
}

// theTarget returns the suite's own target as a site.
func theTarget(ctx context.Context) *site {
	return &site{cluster: targetCluster, client: target, uid: uidOf(ctx, target)}
}

// here has f, which plays the Job controller and the kubelet, do so on this site.
func (s *site) here(f func()) {
	formerCluster, former := targetCluster, target
	defer func() { targetCluster, target = formerCluster, former }()
	targetCluster, target = s.cluster, s.client
	f()
}

// jobs returns all Jobs that the site has in a namespace.
func (s *site) jobs(namespace string) func(Gomega, context.Context) []batchv1.Job {
	return func(g Gomega, ctx context.Context) []batchv1.Job {
		var jobs batchv1.JobList
		g.Expect(s.client.List(ctx, &jobs, client.InNamespace(namespace))).To(Succeed())
		return jobs.Items
	}
}

// remote waits for the Job of an attempt on the site.
func (s *site) remote(ctx context.Context, job *v1alpha1.PooledJob, attempt int32) *batchv1.Job {
	found := &batchv1.Job{}
	key := client.ObjectKey{Namespace: jobspec.TargetNamespace(job), Name: binding.RemoteName(operator.hubID, job, attempt)}
	EventuallyWithOffset(1, func() error { return s.client.Get(ctx, key, found) }).Should(Succeed())
	return found
}

// link is a ClusterConnection to a site, by a line that can be broken.
type link struct {
	world // of the ClusterConnection's name
	*site
	line *faultproxy.Proxy
}

// link makes a ClusterConnection to a site, with label world=<w's name>, that is open
// to w's namespace, and waits until it is Ready.
func (w world) link(ctx context.Context, to *site, suffix string, changes ...func(*v1alpha1.ClusterConnection)) *link {
	l := &link{world: world{name: w.name + "-" + suffix}, site: to}
	var err error
	l.line, err = faultproxy.Start(ctx, l.name, to.cluster.Config(), "token-of-"+l.name)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(l.line.Stop)
	kubeconfig, err := l.line.Kubeconfig("token-of-" + l.name)
	Expect(err).NotTo(HaveOccurred())
	l.createSecret(ctx, kubeconfig...)
	w.candidate(ctx, suffix, append(changes, func(c *v1alpha1.ClusterConnection) { c.Spec.KubeconfigSecretRef.Name = l.name })...)
	Eventually(l.connection).WithContext(ctx).Should(beReady())
	return l
}

// candidate makes a ClusterConnection <w's name>-<suffix> to the suite's target, with
// label world=<w's name>, that is open to w's namespace, after the changes.
func (w world) candidate(ctx context.Context, suffix string, changes ...func(*v1alpha1.ClusterConnection)) world {
	same := true
	connection := &v1alpha1.ClusterConnection{
		ObjectMeta: metav1.ObjectMeta{Name: w.name + "-" + suffix, Labels: map[string]string{"world": w.name}},
		Spec: v1alpha1.ClusterConnectionSpec{
			KubeconfigSecretRef: v1alpha1.SecretKeyReference{Name: w.name},
			Access: []v1alpha1.AccessRule{{
				HubNamespaces:    &v1alpha1.LabelSelector{MatchLabels: map[string]string{"team": w.name}},
				TargetNamespaces: v1alpha1.TargetNamespaces{Same: &same},
			}},
		},
	}
	for _, change := range changes {
		change(connection)
	}
	Expect(hub.Create(ctx, connection)).To(Succeed())
	return world{name: connection.Name}
}

// beReady matches a ClusterConnection that can be used.
func beReady() gtypes.GomegaMatcher {
	return haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonConnected)
}

// breakLine ends every connection, and every request that comes from now on.
func (l *link) breakLine() {
	l.line.SetHook(func(faultproxy.Moment, *faultproxy.Call) faultproxy.Action { return faultproxy.Action{Cut: true} })
	l.line.Cut()
}

// mendLine lets all requests through.
func (l *link) mendLine() { l.line.SetHook(nil) }

// expectAway waits until the hub knows that the site does not answer.
func (l *link) expectAway(ctx context.Context) {
	EventuallyWithOffset(1, l.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonUnreachable))
}

// onCreate has every creation of a Job ask what shall happen, and lets all else through.
func (l *link) onCreate(ask func(faultproxy.Moment) faultproxy.Action) {
	l.line.SetHook(func(moment faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
		if call.String() == "POST jobs" {
			return ask(moment)
		}
		return faultproxy.Action{}
	})
}

// fence states that nothing runs on the cluster any more; unfence takes that back, and
// so does the end of the spec, for others use the cluster, too.
func (l *link) fence(ctx context.Context) {
	l.annotate(ctx, v1alpha1.AnnotationFenced, l.uid)
	DeferCleanup(func(ctx context.Context) {
		patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, v1alpha1.AnnotationFenced))
		connection := &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: l.name}}
		Expect(client.IgnoreNotFound(hub.Patch(ctx, connection, patch))).To(Succeed())
	})
}

func (l *link) unfence(ctx context.Context) {
	l.mark(ctx, "annotations", v1alpha1.AnnotationFenced, nil)
}

// setLabel gives the ClusterConnection the label that candidates of w have; nil takes
// it off.
func (w world) setLabel(ctx context.Context, value any) { w.mark(ctx, "labels", "world", value) }

func (w world) mark(ctx context.Context, field, name string, value any) {
	text := "null"
	if value != nil {
		text = fmt.Sprintf("%q", value)
	}
	patch := fmt.Sprintf(`{"metadata":{%q:{%q:%s}}}`, field, name, text)
	connection := &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: w.name}}
	Expect(hub.Patch(ctx, connection, client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
}

// anywhere has a PooledJob of w run on any connection that has w's label.
func (w world) anywhere(job *v1alpha1.PooledJob) {
	job.Spec.ClusterName = ""
	job.Spec.ClusterSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]string{"world": w.name}}
}

// failsOver lets a PooledJob move after so many seconds.
func failsOver(seconds int32) func(*v1alpha1.PooledJob) {
	return func(job *v1alpha1.PooledJob) { job.Spec.Failover.AfterSeconds = seconds }
}

// touch has the operator look at a PooledJob.
func touch(ctx context.Context, job *v1alpha1.PooledJob) {
	patch := fmt.Sprintf(`{"metadata":{"labels":{"touched":"%d"}}}`, time.Now().UnixNano())
	err := hub.Patch(ctx, job.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(patch)))
	Expect(client.IgnoreNotFound(err)).To(Succeed()) // a deleted one may be gone already
}

// intentOf returns the recorded intent, whoever wrote it.
func intentOf(job *v1alpha1.PooledJob) string { return job.Annotations[v1alpha1.AnnotationIntent] }

// beOn matches a PooledJob whose attempt of that number is on the connection.
func beOn(w world, attempt int32) gtypes.GomegaMatcher {
	return And(HaveField("Status.ClusterName", w.name), HaveField("Status.Attempt", attempt))
}

// waitForCluster matches a PooledJob that has no cluster, for reasons.
func waitForCluster(reasons ...gtypes.GomegaMatcher) gtypes.GomegaMatcher {
	return And(havePhase(v1alpha1.PooledJobPending),
		haveCondition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonNoClusterMatches, reasons...),
		HaveField("Status.ClusterName", BeEmpty()))
}

// createNamespaces makes w's namespace on sites.
func (w world) createNamespaces(ctx context.Context, sites ...*site) {
	for _, s := range sites {
		s.here(func() { w.createTargetNamespace(ctx, w.name) })
	}
}

// podsOf returns the Pods in a namespace of the site.
func (s *site) podsOf(namespace string) func(Gomega, context.Context) []corev1.Pod {
	return func(g Gomega, ctx context.Context) []corev1.Pod {
		var pods corev1.PodList
		g.Expect(s.client.List(ctx, &pods, client.InNamespace(namespace))).To(Succeed())
		return pods.Items
	}
}

// readyStatus returns the status and the reason of Ready.
func readyStatus(c *v1alpha1.ClusterConnection) string { return fixtures.FiveOf(c)[0] }
