package logs

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/test/fakekubelet"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
	"github.com/pooledjob/pooledjob/test/samples"
)

var (
	env     *localenv.Env
	hub     client.Client
	kubelet *fakekubelet.Kubelet
	// manager serves the log API and leads, unless a spec says otherwise.
	manager *localenv.Manager
)

// patience is for what takes some API calls and the waits of requests that follow.
const patience = 30 * time.Second

// The users of the specs, all in team-a.
const (
	editor   = "editor"   // has ClusterRole pooledjob-editor
	viewer   = "viewer"   // has ClusterRole pooledjob-viewer
	third    = "third"    // has it too
	onlyLogs = "only-log" // may get pooledjobs/log and not the PooledJobs
	onlyJobs = "only-job" // the other way round
	stranger = "stranger" // has nothing
)

func TestLogs(t *testing.T) {
	localcluster.SkipIfShort(t)
	RegisterFailHandler(Fail)
	EnforceDefaultTimeoutsWhenUsingContexts()
	SetDefaultEventuallyTimeout(patience)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	SetDefaultConsistentlyDuration(time.Second)
	RunSpecs(t, "Logs")
}

var _ = BeforeSuite(func(ctx context.Context) {
	dir, err := os.MkdirTemp("", "pooledjob-logs-")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(os.RemoveAll, dir)
	kubelet = fakekubelet.Start()
	DeferCleanup(kubelet.Stop)
	env, err = localenv.Start(ctx, localenv.Options{
		Logs:    true,
		Targets: 2, Dir: dir, NoManager: true, Progress: GinkgoWriter,
		TargetFlags: map[string]string{"kubelet-preferred-address-types": "Hostname"},
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(env.Stop()).To(Succeed()) })
	hub = env.Hub.Client
	for _, target := range env.Targets {
		Expect(kubelet.Announce(ctx, target.Client)).To(Succeed())
	}
	for _, file := range samples.Setup {
		Expect(localenv.Apply(ctx, hub, filepath.Join(env.Root, "config", "samples", file))).To(Succeed())
	}
	createUsers(ctx)
	manager = start(ctx)
	DeferCleanup(func() { Expect(manager.Kill()).To(Succeed()) })
	Expect(env.ServeLogsBy(ctx, manager)).To(Succeed())
	Expect(env.WaitConnected(ctx)).To(Succeed())
}, NodeTimeout(5*time.Minute))

// start starts a manager; of several one leads.
func start(ctx context.Context, flags ...string) *localenv.Manager {
	m, err := env.Launch(ctx, append([]string{"--leader-elect=true"}, flags...)...)
	Expect(err).NotTo(HaveOccurred())
	return m
}

// launch starts a manager for the rest of the spec.
func launch(ctx context.Context, flags ...string) *localenv.Manager {
	m := start(ctx, flags...)
	DeferCleanup(func() { Expect(m.Kill()).To(Succeed()) })
	return m
}

// serveBy has the hub ask that manager for the rest of the spec.
func serveBy(ctx context.Context, m *localenv.Manager) {
	Expect(env.ServeLogsBy(ctx, m)).To(Succeed())
	DeferCleanup(func(ctx context.Context) { Expect(env.ServeLogsBy(ctx, manager)).To(Succeed()) })
}

func createUsers(ctx context.Context) {
	for name, rule := range map[string]rbacv1.PolicyRule{
		onlyLogs: {APIGroups: []string{"stream.pooledjob.io"}, Resources: []string{"pooledjobs/log"}, Verbs: []string{"get"}},
		onlyJobs: {APIGroups: []string{"pooledjob.io"}, Resources: []string{"pooledjobs"}, Verbs: []string{"get"}},
	} {
		Expect(hub.Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{rule}})).To(Succeed())
	}
	for user, role := range map[string]string{
		editor: "pooledjob-editor", viewer: "pooledjob-viewer", third: "pooledjob-viewer", onlyLogs: onlyLogs, onlyJobs: onlyJobs,
	} {
		bind(ctx, user, role, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user})
	}
}

// bind gives a role in team-a to somebody.
func bind(ctx context.Context, name, role string, subject rbacv1.Subject) {
	Expect(hub.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{subject},
	})).To(Succeed())
}
