package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fakekubelet"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

const (
	team    = "team-a"
	ordinal = "target-1" // the ClusterConnection that the suite itself makes
)

var (
	env *localenv.Env
	// program is the plugin, as users have it.
	program string
	// developer is the kubeconfig of a user with rights in one namespace of the hub.
	developer string
	hub       client.Client
	target    client.Client
	// kubelet says what the containers write; unless a spec does, they write nothing.
	kubelet *fakekubelet.Kubelet
)

func TestPlugin(t *testing.T) {
	localcluster.SkipIfShort(t)
	RegisterFailHandler(Fail)
	EnforceDefaultTimeoutsWhenUsingContexts()
	SetDefaultEventuallyTimeout(time.Minute)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	SetDefaultConsistentlyDuration(2 * time.Second)
	RunSpecs(t, "kubectl pooledjob")
}

var _ = BeforeSuite(func(ctx context.Context) {
	var err error
	program, err = gexec.Build("github.com/pooledjob/pooledjob/cmd/kubectl-pooledjob")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(gexec.CleanupBuildArtifacts)
	env, err = localenv.Start(ctx, localenv.Options{Targets: 1, Logs: true, Dir: GinkgoT().TempDir(), Progress: GinkgoWriter})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() {
		if CurrentSpecReport().Failed() {
			AddReportEntry("manager log", env.ManagerLog())
		}
		Expect(env.Stop()).To(Succeed())
	})
	hub, target = env.Hub.Client, env.Targets[0].Client
	for _, name := range []string{team, "team-b"} {
		Expect(hub.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})).To(Succeed())
	}
	same := true
	Expect(hub.Create(ctx, &v1alpha1.ClusterConnection{
		ObjectMeta: metav1.ObjectMeta{Name: ordinal, Labels: map[string]string{"env": "test"}},
		Spec: v1alpha1.ClusterConnectionSpec{
			KubeconfigSecretRef: v1alpha1.SecretKeyReference{Name: ordinal},
			Access: []v1alpha1.AccessRule{{
				HubNamespaces:    &v1alpha1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: team}},
				TargetNamespaces: v1alpha1.TargetNamespaces{Same: &same},
			}},
		},
	})).To(Succeed())
	Expect(env.WaitConnected(ctx)).To(Succeed())
	developer = newDeveloper(ctx)
	kubelet = fakekubelet.Start()
	DeferCleanup(kubelet.Stop)
	Expect(kubelet.Announce(ctx, target)).To(Succeed())
	ctx, stop := context.WithCancel(context.Background())
	DeferCleanup(stop)
	go endLogs(ctx)
}, NodeTimeout(3*time.Minute))

// endLogs ends the logs of containers that have ended.
func endLogs(ctx context.Context) {
	_ = wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		pods := &corev1.PodList{}
		if err := target.List(ctx, pods, client.InNamespace(team)); err != nil {
			return false, nil //nolint:nilerr // the next time
		}
		for i := range pods.Items {
			if phase := pods.Items[i].Status.Phase; phase == corev1.PodSucceeded || phase == corev1.PodFailed {
				kubelet.Log(team, pods.Items[i].Name, "main").End()
			}
		}
		return false, nil
	})
}

// newDeveloper returns the kubeconfig of a user who may edit in one namespace of the hub, and
// has no rights on any target.
func newDeveloper(ctx context.Context) string {
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "developer"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "pooledjob-editor"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "developer"}},
	}
	Expect(hub.Create(ctx, binding)).To(Succeed())
	data, err := env.Hub.KubeconfigFor("developer")
	Expect(err).NotTo(HaveOccurred())
	path := filepath.Join(GinkgoT().TempDir(), "developer.kubeconfig")
	Expect(os.WriteFile(path, data, 0o600)).To(Succeed())
	return path
}

// plug starts the plugin as a user of the hub.
func plug(kubeconfig string, args ...string) *gexec.Session {
	GinkgoHelper()
	return plugWithInput("", kubeconfig, args...)
}

func plugWithInput(input, kubeconfig string, args ...string) *gexec.Session {
	GinkgoHelper()
	cmd := exec.CommandContext(context.Background(), program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "HOME="+filepath.Dir(developer))
	cmd.Stdin = strings.NewReader(input)
	session, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	started = append(started, session)
	return session
}

// started are the processes of the spec.
var started []*gexec.Session

var _ = AfterEach(func() {
	for _, session := range started {
		session.Kill().Wait()
	}
	started = nil
})

// admin runs the plugin as the hub's administrator, to its end.
func admin(args ...string) *gexec.Session {
	GinkgoHelper()
	return plug(env.Hub.KubeconfigPath, args...).Wait(time.Minute)
}

// dev runs the plugin as the developer in the namespace of the team, to its end.
func dev(args ...string) *gexec.Session {
	GinkgoHelper()
	return plug(developer, inTeam(args...)...).Wait(time.Minute)
}

// inTeam names the namespace right after the command, as what follows `--` is the run's.
func inTeam(args ...string) []string {
	return append([]string{args[0], "-n", team}, args[1:]...)
}

func stdout(session *gexec.Session) string { return string(session.Out.Contents()) }
func stderr(session *gexec.Session) string { return string(session.Err.Contents()) }

// behaviour tells the simulated nodes how containers run and end.
func behaviour(seconds float64, exitCode int) string {
	return fmt.Sprintf("%s=%gs,%s=%d", localcluster.DurationAnnotation, seconds, localcluster.ExitCodeAnnotation, exitCode)
}

// runArgs returns those of `run` with a behaviour.
func runArgs(name, behaviour string, more ...string) []string {
	return append([]string{"run", name, "--image", "busybox", "--cluster", ordinal, "--annotations", behaviour}, more...)
}

func jobNamed(ctx context.Context, name string) func(Gomega) *v1alpha1.PooledJob {
	return func(g Gomega) *v1alpha1.PooledJob {
		job := &v1alpha1.PooledJob{}
		g.Expect(hub.Get(ctx, client.ObjectKey{Namespace: team, Name: name}, job)).To(Succeed())
		return job
	}
}

func havePhase(phase v1alpha1.PooledJobPhase) OmegaMatcher {
	return HaveField("Status.Phase", phase)
}

// uniqueName returns a name that no other spec uses.
func uniqueName(prefix string) string {
	counter++
	return fmt.Sprintf("%s-%d", prefix, counter)
}

var counter int
