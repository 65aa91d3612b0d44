package main

import (
	"context"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// labelConnection is on everything that connect makes, with the name of the connection.
const labelConnection = "pooledjob.io/connection"

// connectAs runs connect or disconnect against the suite's target, to its end.
func connectAs(command, name string, more ...string) *gexec.Session {
	GinkgoHelper()
	return admin(append([]string{command, name, "--target-kubeconfig", env.Targets[0].KubeconfigPath}, more...)...)
}

// madeFor lists what connect made on the target for a connection.
func madeFor(ctx context.Context, name string) (found []client.Object) {
	GinkgoHelper()
	for _, list := range []client.ObjectList{
		&corev1.ServiceAccountList{}, &rbacv1.ClusterRoleList{}, &rbacv1.RoleList{}, &rbacv1.ClusterRoleBindingList{}, &rbacv1.RoleBindingList{},
	} {
		Expect(target.List(ctx, list, client.MatchingLabels{labelConnection: name})).To(Succeed())
		items, err := meta.ExtractList(list)
		Expect(err).NotTo(HaveOccurred())
		for _, item := range items {
			found = append(found, item.(client.Object))
		}
	}
	return found
}

// accountOf returns the user name of the ServiceAccount that connect made.
func accountOf(ctx context.Context, name string) (user, account string) {
	GinkgoHelper()
	list := &corev1.ServiceAccountList{}
	Expect(target.List(ctx, list, client.MatchingLabels{labelConnection: name})).To(Succeed())
	Expect(list.Items).To(HaveLen(1))
	account = list.Items[0].Name
	return "system:serviceaccount:" + list.Items[0].Namespace + ":" + account, account
}

// allowed asks the target whether a user may do something.
func allowed(ctx context.Context, user, verb, namespace, group, resource, subresource, name string) bool {
	GinkgoHelper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user, Groups: []string{"system:authenticated", "system:serviceaccounts"},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Namespace: namespace, Group: group, Resource: resource, Subresource: subresource, Name: name,
		},
	}}
	Expect(target.Create(ctx, review)).To(Succeed())
	return review.Status.Allowed
}

func secretOf(ctx context.Context, name string) *corev1.Secret {
	GinkgoHelper()
	secret := &corev1.Secret{}
	Expect(hub.Get(ctx, client.ObjectKey{Namespace: "pooledjob-system", Name: name}, secret)).To(Succeed())
	return secret
}

func connectionOf(ctx context.Context, name string) *v1alpha1.ClusterConnection {
	GinkgoHelper()
	connection := &v1alpha1.ClusterConnection{}
	Expect(hub.Get(ctx, client.ObjectKey{Name: name}, connection)).To(Succeed())
	return connection
}

// tidy removes what a spec may have left of a connection.
func tidy(name string) {
	DeferCleanup(func() { connectAs("disconnect", name, "--timeout", "30s") })
}

var _ = Describe("connect", func() {
	It("connects a cluster so that a run ends there, and disconnect removes everything it made", func(ctx context.Context) {
		name := uniqueName("whole")
		tidy(name)
		session := connectAs("connect", name, "--allow", team, "--labels", "tier=gold", "--token-lifetime", "1h")
		Expect(session).To(gexec.Exit(0))
		Expect(stderr(session)).To(ContainSubstring(name + ": Ready, Kubernetes v1."))
		Expect(stdout(session)).To(ContainSubstring("hub: ClusterConnection " + name + " created\n"))

		By("printing nothing secret, and having no token without end")
		token := string(secretOf(ctx, name).Data["kubeconfig"])
		_, token, _ = strings.Cut(token, "token: ")
		token, _, _ = strings.Cut(token, "\n")
		Expect(len(token)).To(BeNumerically(">", 100))
		Expect(stdout(session) + stderr(session)).NotTo(ContainSubstring(token))
		connection := connectionOf(ctx, name)
		Expect(connection.Status.CredentialsExpireAt.Time).To(BeTemporally("~", time.Now().Add(time.Hour), 2*time.Minute))
		Expect(connection.Spec.TokenRenewal.LifetimeSeconds).To(BeEquivalentTo(3600))

		By("running a Job there, chosen by the label")
		run := dev("run", uniqueName("there"), "--image", "b", "--cluster-selector", "tier=gold", "--annotations", behaviour(0.1, 4))
		Expect(run).To(gexec.Exit(4))
		Expect(stderr(run)).To(ContainSubstring("runs on " + name))

		By("running it again: nothing changes but the token")
		before := madeFor(ctx, name)
		session = connectAs("connect", name)
		Expect(session).To(gexec.Exit(0))
		Expect(stdout(session)).NotTo(ContainSubstring("created"))
		Expect(strings.Count(stdout(session), "configured")).To(Equal(1), "the Secret")
		Expect(connectionOf(ctx, name).Spec.Access).To(Equal(connection.Spec.Access))
		Expect(connectionOf(ctx, name).Labels).To(HaveKeyWithValue("tier", "gold"))
		Expect(madeFor(ctx, name)).To(Equal(before))
		Expect(string(secretOf(ctx, name).Data["kubeconfig"])).NotTo(ContainSubstring(token))

		By("disconnecting: the run is in the way")
		session = connectAs("disconnect", name, "--timeout", "2s")
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(MatchRegexp(`(?m)^error: ClusterConnection %s is not gone after 2s: .*%s/there-\d+. Delete them first; then run this again`, name, team))
		Expect(stderr(session)).To(ContainSubstring(name + ": deleted; it stays until its runs have cleaned up on the target\n"))
		Expect(hub.DeleteAllOf(ctx, &v1alpha1.PooledJob{}, client.InNamespace(team))).To(Succeed())
		session = connectAs("disconnect", name, "--timeout", "1m")
		Expect(session).To(gexec.Exit(0))
		Expect(stdout(session)).To(ContainSubstring("hub: Secret pooledjob-system/" + name + " deleted\n"))
		Expect(madeFor(ctx, name)).To(BeEmpty())
		Expect(apierrors.IsNotFound(hub.Get(ctx, client.ObjectKey{Name: name}, &v1alpha1.ClusterConnection{}))).To(BeTrue())
		Expect(apierrors.IsNotFound(hub.Get(ctx, client.ObjectKey{Namespace: "pooledjob-system", Name: name}, &corev1.Secret{}))).To(BeTrue())
		Expect(apierrors.IsNotFound(target.Get(ctx, client.ObjectKey{Name: "pooledjob"}, &corev1.Namespace{}))).To(BeTrue())
		Expect(connectAs("disconnect", name)).To(gexec.Exit(0), "there is nothing to do any more")
	}, NodeTimeout(3*time.Minute))

	It("grants rights only in the given --namespaces, and withdraws them when these change", func(ctx context.Context) {
		name := uniqueName("narrow")
		tidy(name)
		Expect(connectAs("connect", name, "--namespaces", "batch", "--allow", team, "--to", "batch")).To(gexec.Exit(0))
		user, account := accountOf(ctx, name)
		may := func(verb, namespace, group, resource, subresource, object string) func() bool {
			return func() bool { return allowed(ctx, user, verb, namespace, group, resource, subresource, object) }
		}
		Eventually(may("create", "batch", "batch", "jobs", "", "")).Should(BeTrue())
		Eventually(may("get", "batch", "", "pods", "log", "")).Should(BeTrue())
		Eventually(may("create", team, "batch", "jobs", "", "")).Should(BeFalse())
		Eventually(may("get", team, "", "pods", "log", "")).Should(BeFalse())
		Eventually(may("get", "", "", "namespaces", "", "kube-system")).Should(BeTrue())
		Eventually(may("get", "", "", "namespaces", "", "batch")).Should(BeFalse())
		Eventually(may("create", "pooledjob", "", "serviceaccounts", "token", account)).Should(BeTrue())
		Eventually(may("create", "pooledjob", "", "serviceaccounts", "token", "default")).Should(BeFalse())
		Eventually(may("create", "batch", "", "serviceaccounts", "token", account)).Should(BeFalse())
		Expect(connectionOf(ctx, name).Spec.Access).To(ConsistOf(HaveField("TargetNamespaces.Names", ConsistOf("batch"))))

		By("moving it to another namespace")
		Expect(connectAs("connect", name, "--namespaces", team, "--allow", team)).To(gexec.Exit(0))
		Eventually(may("create", "batch", "batch", "jobs", "", "")).Should(BeFalse())
		Eventually(may("create", team, "batch", "jobs", "", "")).Should(BeTrue())

		By("leaving --namespaces out: it stays so")
		Expect(connectAs("connect", name)).To(gexec.Exit(0))
		Eventually(may("create", "batch", "batch", "jobs", "", "")).Should(BeFalse())

		By("opening all")
		Expect(connectAs("connect", name, "--namespaces", "")).To(gexec.Exit(0))
		Eventually(may("create", "batch", "batch", "jobs", "", "")).Should(BeTrue())
		Expect(connectionOf(ctx, name).Spec.Namespaces).To(BeEmpty())
	}, NodeTimeout(2*time.Minute))

	It("refuses to change objects that it did not make, as disconnect does", func(ctx context.Context) {
		session := connectAs("connect", ordinal, "--allow", "team-b")
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(MatchRegexp(`error: on the hub Secret pooledjob-system/%s exists and was not made by`, ordinal))
		Expect(madeFor(ctx, ordinal)).To(BeEmpty())
		session = connectAs("disconnect", ordinal)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("was not made by `kubectl pooledjob connect`"))
		Expect(connectionOf(ctx, ordinal).DeletionTimestamp).To(BeNil())

		By("having another hub's mark on an object on the target")
		name := uniqueName("foreign")
		tidy(name)
		Expect(connectAs("connect", name)).To(gexec.Exit(0))
		_, account := accountOf(ctx, name)
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: account}}
		mark := func(hubID string) {
			patch := `{"metadata":{"labels":{"` + v1alpha1.LabelHub + `":"` + hubID + `"}},"rules":[]}`
			Expect(target.Patch(ctx, role, client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
		}
		Expect(target.Get(ctx, client.ObjectKeyFromObject(role), role)).To(Succeed())
		ours := role.Labels[v1alpha1.LabelHub]
		mark("another-hub")
		secret := secretOf(ctx, name)
		session = connectAs("connect", name)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("on the target ClusterRole " + account + " exists and was not made by"))
		Expect(secretOf(ctx, name).Data).To(Equal(secret.Data))
		Expect(connectAs("disconnect", name)).To(gexec.Exit(0))
		Expect(target.Get(ctx, client.ObjectKeyFromObject(role), role)).To(Succeed(), "it is another hub's")
		Expect(role.Rules).To(BeEmpty())
		mark(ours)
	}, NodeTimeout(2*time.Minute))

	It("prints the objects for both clusters with --dry-run=client, and creates nothing", func(ctx context.Context) {
		name := uniqueName("planned")
		session := connectAs("connect", name, "--allow", team, "--namespaces", "batch", "--to", "batch", "--dry-run=client", "-o", "yaml")
		Expect(session).To(gexec.Exit(0))
		Expect(stderr(session)).To(BeEmpty())
		var kinds []string
		for _, document := range strings.Split(stdout(session), "\n---\n") {
			obj := map[string]any{}
			Expect(yaml.Unmarshal([]byte(document), &obj)).To(Succeed())
			kinds = append(kinds, obj["kind"].(string))
		}
		Expect(kinds).To(Equal([]string{"Namespace", "ServiceAccount", "ClusterRole", "ClusterRole", "ClusterRoleBinding",
			"Role", "RoleBinding", "RoleBinding", "Secret", "ClusterConnection"}))
		Expect(stdout(session)).To(And(ContainSubstring("# On the target:\n"), ContainSubstring("# On the hub:\n")))
		Expect(madeFor(ctx, name)).To(BeEmpty())
		Expect(hub.Get(ctx, client.ObjectKey{Name: name}, &v1alpha1.ClusterConnection{})).NotTo(Succeed())
		Expect(stdout(connectAs("connect", name, "--dry-run=client"))).To(MatchRegexp(
			`(?m)^clusterconnection.pooledjob.io/%s created on the hub \(client dry run\)$`, name))
	})

	It("reports why the connection does not become Ready, and keeps its flags for the next call", func(ctx context.Context) {
		name := uniqueName("unreachable")
		tidy(name)
		session := connectAs("connect", name, "--server", "https://127.0.0.1:1", "--timeout", "5s",
			"--service-account-namespace", "elsewhere")
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("Nobody may use " + name + " yet"))
		Expect(stderr(session)).To(MatchRegexp(`error: %s is not Ready after 5s: Unreachable: .*the address is that of this machine`, name))
		Expect(stdout(admin("clusters", name))).To(MatchRegexp(`(?m)^%s +Unreachable +0 +0 +0 .*connection refused`, name))

		By("running it again without the flags: they stay")
		Expect(connectAs("connect", name, "--timeout", "0")).To(gexec.Exit(0))
		Expect(string(secretOf(ctx, name).Data["kubeconfig"])).To(ContainSubstring("server: https://127.0.0.1:1\n"))
		user, _ := accountOf(ctx, name)
		Expect(user).To(HavePrefix("system:serviceaccount:elsewhere:"))
		session = connectAs("connect", name, "--service-account-namespace", "third")
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("is in namespace elsewhere of the target: leave --service-account-namespace out"))
		By("taking the address back")
		Expect(connectAs("connect", name, "--server", "", "--service-account-namespace", "elsewhere", "--timeout", "30s")).To(gexec.Exit(0))
	})

	It("refuses the kubeconfig of another cluster for an existing connection, as disconnect does", func(ctx context.Context) {
		name := uniqueName("moved")
		tidy(name)
		Expect(connectAs("connect", name)).To(gexec.Exit(0))
		for _, command := range []string{"connect", "disconnect"} {
			session := admin(command, name, "--target-kubeconfig", env.Hub.KubeconfigPath)
			Expect(session).To(gexec.Exit(1))
			Expect(stderr(session)).To(ContainSubstring("stands for another cluster"), command)
		}
		Expect(connectionOf(ctx, name).DeletionTimestamp).To(BeNil())
	})

	DescribeTable("reports in one line how to correct the command:", func(words string, args ...string) {
		session := admin(args...)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(And(HavePrefix("error: "), ContainSubstring(words)))
		Expect(strings.Count(stderr(session), "\n")).To(Equal(1), "one line")
	},
		Entry("connect without a target", "give --context CONTEXT", "connect", "a"),
		Entry("disconnect without a target", "--hub-only leaves that cluster", "disconnect", "a"),
		Entry("an unknown context", `context "nowhere" does not exist`, "connect", "a", "--context", "nowhere"),
		Entry("a long name", "at most 63 characters", "connect", strings.Repeat("a", 64), "--context", "hub"),
		Entry("a name with capitals", "lower case letters", "connect", "Prod", "--context", "hub"),
		Entry("no manager", "start the manager there first", "connect", "a", "--context", "hub", "--manager-namespace", "default"),
		Entry("--to alone", "--to needs --allow", "connect", "a", "--context", "hub", "--to", "b"),
		Entry("a token lifetime that is too short", "--token-lifetime is 1m0s", "connect", "a", "--context", "hub", "--token-lifetime", "1m"),
		Entry("a namespace that is not there", "the target has no namespace gone", "connect", "a", "--context", "hub", "--namespaces", "gone"),
		Entry("an address that a hub would refuse", "give another by --server", "connect", "a", "--context", "hub", "--server", "http://x"),
		Entry("a flag that concerns only one cluster", "--as cannot be used here", "connect", "a", "--context", "hub", "--as", "x"),
		Entry("the server's dry run", "use --dry-run=client", "connect", "a", "--context", "hub", "--dry-run=server"),
	)
})
