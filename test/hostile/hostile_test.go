package hostile

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

var (
	env      *localenv.Env
	hub      client.Client
	manager  *localenv.Manager
	logs     *localenv.Manager // serves logs only
	baseline int64             // MiB
	groups   []func()          // remove the cgroups of processes that have ended
)

// shortForm are the attacks that are tried unless HOSTILE is "all": one of each kind.
var shortForm = []string{
	"/version without end", "/version that is a gzip bomb", "/readyz without end", "an identity with 10^6 owners",
	"a list without end", "first events without end", "an event of 16 MiB of empty containers", "Jobs that come and go",
	"an error with 10^6 causes", "Jobs with 5,800 labels of ours", "3,000 Pods that change all the time",
	"empty Pods without end at the end", "refusals of empty causes without end",
	"30 PooledJobs of empty tolerations to a cluster that does not exist", "PooledJobs with selectors of a MiB",
	"100 followers of a run with 30 Pods of 250 KB annotations",
}

// isTried reports whether an attack is tried.
func isTried(name string) bool {
	return os.Getenv("HOSTILE") == "all" || slices.Contains(shortForm, name)
}

// Tenants who attack do it on a target of their own, so that what the others see comes from the
// manager, and not from a target that is busy.
const (
	attacked = "target-1"
	quiet    = "target-2"
)

// hold is how long an attack by a target goes on at least.
const hold = 5 * time.Second

func TestHostile(t *testing.T) {
	localcluster.SkipIfShort(t)
	RegisterFailHandler(Fail)
	EnforceDefaultTimeoutsWhenUsingContexts()
	SetDefaultEventuallyTimeout(time.Minute)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	RunSpecs(t, "Hostile")
}

var _ = BeforeSuite(func(ctx context.Context) {
	dir, err := os.MkdirTemp("", "pooledjob-hostile-")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() {
		if !CurrentSpecReport().Failed() {
			Expect(os.RemoveAll(dir)).To(Succeed())
		}
	})
	env, err = localenv.Start(ctx, localenv.Options{Targets: 2, Dir: dir, NoManager: true, Logs: true, Profiles: true, Progress: GinkgoWriter, ManagerProgram: os.Getenv("HOSTILE_MANAGER")})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(env.Stop()).To(Succeed()) })
	hub = env.Hub.Client
	for _, name := range []string{team, attacker} {
		Expect(hub.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})).To(Succeed())
	}
	for _, name := range []string{attacked, quiet} {
		Expect(hub.Create(ctx, connectionTo(name))).To(Succeed())
	}

	DeferCleanup(func() {
		for _, process := range []*localenv.Manager{manager, logs} {
			Expect(process.Kill()).To(Succeed())
		}
		for _, remove := range groups {
			remove()
		}
	})
	launchManager(ctx)
	if measuresAnother() {
		AddReportEntry("another manager is measured, and no log API", os.Getenv("HOSTILE_MANAGER"))
	} else {
		launchLogs(ctx)
	}
	var id corev1.ConfigMap
	Expect(hub.Get(ctx, client.ObjectKey{Namespace: localenv.Namespace, Name: "pooledjob-hub"}, &id)).To(Succeed())
	hubID = id.Data["id"]

	for range 3 { // what it takes at most without an attack
		before := watchPeak(manager.PID())
		work(ctx, 20)
		baseline = max(baseline, before.MiB())
	}
	AddReportEntry("MiB without an attack", baseline)
}, NodeTimeout(5*time.Minute))

// measuresAnother reports whether HOSTILE_MANAGER names another manager's program, such as one of an
// earlier version, which may not be able to serve logs alone.
func measuresAnother() bool { return os.Getenv("HOSTILE_MANAGER") != "" }

func launchManager(ctx context.Context) {
	GinkgoHelper()
	Expect(os.Setenv("GOMEMLIMIT", "900MiB")).To(Succeed())
	var err error
	flags := []string{"--leader-elect=false", "--logs-bind-address=0"}
	if os.Getenv("HOSTILE") != "all" {
		flags = append(flags, "--target-request-timeout=5s") // requests that are never answered end sooner
	}
	manager, err = env.Launch(ctx, flags...)
	Expect(err).NotTo(HaveOccurred())
	confineTo(manager, managerLimit)
}

func launchLogs(ctx context.Context) {
	GinkgoHelper()
	letRead(ctx)
	Expect(os.Setenv("GOMEMLIMIT", "450MiB")).To(Succeed())
	var err error
	logs, err = env.LaunchLogs(ctx)
	Expect(err).NotTo(HaveOccurred())
	confineTo(logs, logsLimit)
	Expect(env.ServeLogsBy(ctx, logs)).To(Succeed())
}

// confineTo gives a process the memory that its container has, where this machine lets us.
func confineTo(m *localenv.Manager, limit int) {
	remove, err := confine(m.PID(), limit)
	if err != nil {
		AddReportEntry("there is no memory cgroup", err.Error())
	}
	if remove != nil {
		groups = append(groups, remove)
	}
}

// An attack that has ended the manager fails its spec, and the others are tried on another one.
var _ = BeforeEach(func(ctx context.Context) {
	select {
	case <-manager.Ended():
		launchManager(ctx)
	default:
	}
})

func connectionTo(secret string) *v1alpha1.ClusterConnection {
	return &v1alpha1.ClusterConnection{
		ObjectMeta: metav1.ObjectMeta{Name: secret},
		Spec: v1alpha1.ClusterConnectionSpec{
			KubeconfigSecretRef: v1alpha1.SecretKeyReference{Name: secret},
			Access: []v1alpha1.AccessRule{{
				HubNamespaces: &v1alpha1.LabelSelector{}, TargetNamespaces: v1alpha1.TargetNamespaces{Names: []string{team}},
			}},
		},
	}
}

// work runs some PooledJobs of another tenant on another target, which must end right.
func work(ctx context.Context, number int) {
	GinkgoHelper()
	var jobs []*v1alpha1.PooledJob
	for range number {
		job := fixtures.PooledJob(team, "", fixtures.On(quiet, team))
		job.GenerateName = "work-"
		Expect(hub.Create(ctx, job)).To(Succeed())
		jobs = append(jobs, job)
	}
	for _, job := range jobs {
		Eventually(func(g Gomega) {
			g.Expect(hub.Get(ctx, client.ObjectKeyFromObject(job), job)).To(Succeed())
			g.Expect(job.Status.Phase).To(Equal(v1alpha1.PooledJobSucceeded))
		}).WithContext(ctx).Should(Succeed())
		Expect(hub.Delete(ctx, job)).To(Succeed())
	}
}

// attackBy makes a connection to a target that attacks.
func attackBy(ctx context.Context, a *attack) *v1alpha1.ClusterConnection {
	GinkgoHelper()
	t := newTarget(a.begin)
	DeferCleanup(func() {
		t.CloseClientConnections()
		t.Close()
	})
	name := fmt.Sprintf("hostile-%d", GinkgoParallelProcess()) + "-" + fmt.Sprint(time.Now().UnixNano())
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: localenv.Namespace, Name: name}, Data: map[string][]byte{"kubeconfig": t.kubeconfig()}}
	Expect(hub.Create(ctx, secret)).To(Succeed())
	connection := connectionTo(name)
	Expect(hub.Create(ctx, connection)).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		Expect(hub.Delete(ctx, connection)).To(Succeed())
		Expect(hub.Delete(ctx, secret)).To(Succeed())
	})
	return connection
}

// comesTo waits until that is the reason of a connection's condition Ready.
func comesTo(ctx context.Context, connection *v1alpha1.ClusterConnection, reason string) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(hub.Get(ctx, client.ObjectKeyFromObject(connection), connection)).To(Succeed())
		ready := meta.FindStatusCondition(connection.Status.Conditions, v1alpha1.ConditionReady)
		g.Expect(ready).NotTo(BeNil())
		g.Expect(ready.Reason).To(Equal(reason), ready.Message)
	}).WithContext(ctx).Should(Succeed())
}

// settle gives the manager some time to give back what the attack before took, and watches its memory
// from then on. What it keeps counts for the next attack.
func settle(ctx context.Context) *peak {
	GinkgoHelper()
	for range 20 {
		_, err := manager.Profile(ctx, "heap?gc=1")
		Expect(err).NotTo(HaveOccurred())
		now, err := resident(manager.PID())
		Expect(err).NotTo(HaveOccurred())
		if now>>20 <= baseline+8 {
			break
		}
		<-time.After(time.Second)
	}
	return watchPeak(manager.PID())
}

// survives checks that the manager lives, and has not taken too much.
func survives(most *peak) {
	GinkgoHelper()
	above := most.MiB() - baseline
	AddReportEntry(fmt.Sprintf("%d MiB above", above))
	Expect(manager.Ended()).NotTo(BeClosed())
	if logs != nil {
		Expect(logs.Ended()).NotTo(BeClosed())
	}
	Expect(above).To(BeNumerically("<=", 64), "MiB above what it takes without an attack")
}

var _ = Describe("A target that attacks", func() {
	for _, a := range attacks() {
		if !isTried(a.name) {
			continue
		}
		It("harms nobody else with "+a.name, func(ctx context.Context) {
			most := settle(ctx)
			connection := attackBy(ctx, &a)
			comesTo(ctx, connection, a.want)
			workFor(ctx, hold)
			survives(most)
		}, NodeTimeout(3*time.Minute))
	}
})
