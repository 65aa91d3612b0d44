package controllers

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// rotatable makes an identity of the target with the rights that it needs, and a
// kubeconfig of it.
type rotatable func(ctx context.Context) (kubeconfig []byte, withdraw client.Object)

func someUser(ctx context.Context) (kubeconfig []byte, withdraw client.Object) {
	user := uniqueName("user")
	binding := allow(ctx, userSubject(user))
	return certificateOf(user), binding
}

func someAccount(ctx context.Context) (kubeconfig []byte, withdraw client.Object) {
	account := createAccount(ctx)
	binding := allow(ctx, accountSubject(account))
	token, _ := tokenOf(ctx, account, time.Hour)
	return withToken(token), binding
}

var _ = Describe("Rotating the credential of a ClusterConnection", func() {
	DescribeTable("disturbs no run, and Ready stays True",
		func(ctx context.Context, before, after rotatable) {
			kubeconfig, withdraw := before(ctx)
			w := connectedAs(ctx, kubeconfig)
			old := w.connection(Default, ctx)
			running, ending := w.submit(ctx), w.submit(ctx)
			uids := []any{HaveField("UID", remoteOf(ctx, running).UID), HaveField("UID", remoteOf(ctx, ending).UID)}
			start(ctx, remoteOf(ctx, running))
			pod := start(ctx, remoteOf(ctx, ending))
			for _, job := range []*v1alpha1.PooledJob{running, ending} {
				eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobRunning), haveCondition(v1alpha1.ConditionSynced, metav1.ConditionTrue, v1alpha1.ReasonSynced)))
			}
			versions := w.record(ctx)
			jobs := record[*v1alpha1.PooledJob](ctx, &v1alpha1.PooledJobList{}, client.InNamespace(w.name))

			kubeconfig, _ = after(ctx)
			w.replaceSecret(ctx, kubeconfig)
			endPod(ctx, pod, 0, "")
			endJob(ctx, remoteOf(ctx, ending), batchv1.JobComplete)
			Eventually(w.connection).WithContext(ctx).Should(HaveField("Status.IdentityHash", Not(Equal(old.Status.IdentityHash))))
			eventually(ctx, ending).Should(And(havePhase(v1alpha1.PooledJobSucceeded), HaveField("Status.Result.ExitCode", HaveValue(BeZero()))))

			// The former identity is not used any more: its rights are not needed.
			Expect(target.Delete(ctx, withdraw)).To(Succeed())
			late := w.submit(ctx)
			uids = append(uids, HaveField("UID", remoteOf(ctx, late).UID))
			endJob(ctx, remoteOf(ctx, running), batchv1.JobComplete)
			eventually(ctx, running).Should(havePhase(v1alpha1.PooledJobSucceeded))
			Expect(remoteJobs(w.name)(Default, ctx)).To(ConsistOf(uids...), "no second Job")
			Eventually(w.figureOf("watches")).WithContext(ctx).Should(Equal(2.0))
			Eventually(w.figureOf("sockets")).WithContext(ctx).Should(Equal(1.0))

			Expect(w.connection(Default, ctx)).To(And(haveFive(fixtures.All(yes)), HaveField("Status.ClusterUID", old.Status.ClusterUID)))
			Expect(readyOf(versions())).To(Equal([]string{yes}), "Ready was True all the time")
			for _, version := range jobs() {
				Expect(version.Status.Phase).NotTo(Equal(v1alpha1.PooledJobFailed))
				Expect(version).NotTo(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady))
			}
		},
		Entry("from one certificate to another", rotatable(someUser), rotatable(someUser)),
		Entry("from a certificate to a token", rotatable(someUser), rotatable(someAccount)),
		Entry("from one token to another", rotatable(someAccount), rotatable(someAccount)),
	)

	It("keeps the last credential in use while the new one is tried, however long that takes", func(ctx context.Context) {
		kubeconfig, _ := someUser(ctx)
		w := connectedAs(ctx, kubeconfig)
		before := w.connection(Default, ctx)
		running := w.submit(ctx)
		remote := remoteOf(ctx, running)
		versions := w.record(ctx)
		account := createAccount(ctx)
		allow(ctx, accountSubject(account))
		token, _ := tokenOf(ctx, account, time.Hour)
		asked, answer := make(chan string, 100), make(chan struct{})
		w.replaceSecret(ctx, throughGateway(fmt.Sprintf("token: %q", token), func(_ http.ResponseWriter, r *http.Request) bool {
			select {
			case asked <- r.URL.Path:
			default:
			}
			select {
			case <-answer:
			case <-r.Context().Done():
			}
			return false
		}))
		Eventually(asked).WithContext(ctx).Should(Receive(), "the new one is tried")
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, running).Should(havePhase(v1alpha1.PooledJobSucceeded))
		remoteOf(ctx, w.submit(ctx))
		Expect(w.connection(Default, ctx)).To(And(haveFive(fixtures.All(yes)), HaveField("Status.IdentityHash", before.Status.IdentityHash)))
		close(answer)
		Eventually(w.connection).WithContext(ctx).Should(HaveField("Status.IdentityHash", Not(Equal(before.Status.IdentityHash))))
		remoteOf(ctx, w.submit(ctx))
		Expect(w.connection(Default, ctx)).To(haveFive(fixtures.All(yes)))
		Expect(readyOf(versions())).To(Equal([]string{yes}))
	})

	withdrawKey := func(ctx context.Context, w world) {
		secret := &corev1.Secret{}
		Expect(hub.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: w.name}, secret)).To(Succeed())
		secret.Data = map[string][]byte{"other": []byte("x")}
		Expect(hub.Update(ctx, secret)).To(Succeed())
	}
	withdrawSecret := func(ctx context.Context, w world) {
		Expect(hub.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: w.name}})).To(Succeed())
	}
	replaceBy := func(kubeconfig func() []byte) func(context.Context, world) {
		return func(ctx context.Context, w world) { w.replaceSecret(ctx, kubeconfig()) }
	}
	mend := func(ctx context.Context, w world, kubeconfig []byte) {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: w.name}}
		Expect(client.IgnoreNotFound(hub.Delete(ctx, secret))).To(Succeed())
		w.createSecret(ctx, kubeconfig...)
	}
	DescribeTable("keeps the last credential in use when the new one cannot work",
		func(ctx context.Context, spoil func(context.Context, world), reason, words string) {
			kubeconfig, _ := someUser(ctx)
			w := connectedAs(ctx, kubeconfig)
			before := w.connection(Default, ctx)
			running := w.submit(ctx)
			remote := remoteOf(ctx, running)
			versions := w.record(ctx)

			spoil(ctx, w)
			Eventually(w.connection).WithContext(ctx).Should(And(
				haveFive(fixtures.Five{"True/LastKubeconfig", "False/" + reason, yes, yes, yes}),
				haveCondition(v1alpha1.ConditionCredentialsValid, metav1.ConditionFalse, reason, ContainSubstring(words)),
				haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonLastKubeconfig, ContainSubstring(words)),
				HaveField("Status.IdentityHash", before.Status.IdentityHash)))
			endJob(ctx, remote, batchv1.JobComplete)
			eventually(ctx, running).Should(havePhase(v1alpha1.PooledJobSucceeded))
			remoteOf(ctx, w.submit(ctx))
			Eventually(w.eventsOf(v1alpha1.ReasonLastKubeconfig)).WithContext(ctx).Should(ConsistOf(ContainSubstring(words)))
			Consistently(w.eventsOf(v1alpha1.ReasonLastKubeconfig)).WithContext(ctx).Should(HaveLen(1))

			kubeconfig, _ = someAccount(ctx)
			mend(ctx, w, kubeconfig)
			Eventually(w.connection).WithContext(ctx).Should(And(haveFive(fixtures.All(yes)), HaveField("Status.IdentityHash", Not(Equal(before.Status.IdentityHash)))))
			remoteOf(ctx, w.submit(ctx))
			for _, state := range readyOf(versions()) {
				Expect(state).To(BeElementOf(yes, "True/LastKubeconfig"))
			}
			Expect(w.eventsOf(v1alpha1.ReasonLastKubeconfig)(Default, ctx)).To(HaveLen(1))
		},
		Entry("garbage", replaceBy(func() []byte { return []byte("\x01\x02") }), v1alpha1.ReasonInvalidKubeconfig, "not a valid v1 Config"),
		Entry("an exec plugin", replaceBy(func() []byte {
			return kubeconfigOf(trimmedHost(), nil, "exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: x}")
		}), v1alpha1.ReasonInvalidKubeconfig, "exec is not allowed"),
		Entry("a token that nobody knows", replaceBy(func() []byte { return withToken("nobody-knows-this-token") }), v1alpha1.ReasonCredentialsRejected, "Unauthorized"),
		Entry("a user without rights", replaceBy(func() []byte { return certificateOf(uniqueName("nobody")) }), v1alpha1.ReasonForbidden, "config/target/role.yaml"),
		Entry("an address where nobody answers", replaceBy(func() []byte { return kubeconfigOf("https://127.0.0.1:1", nil, "token: x") }), v1alpha1.ReasonUnreachable, "connection refused"),
		Entry("a Secret without the key", withdrawKey, v1alpha1.ReasonSecretNotFound, `has no key "kubeconfig"`),
		Entry("no Secret at all", withdrawSecret, v1alpha1.ReasonSecretNotFound, "does not exist"),
	)

	It("leaves a restarted operator without a working credential, until a good one is written", func(ctx context.Context) {
		kubeconfig, _ := someUser(ctx)
		w := connectedAs(ctx, kubeconfig)
		w.replaceSecret(ctx, []byte("\x01\x02"))
		Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonLastKubeconfig))
		operator.restart()
		Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.Five{"False/InvalidKubeconfig", "False/InvalidKubeconfig", unknown, unknown, unknown}))
		job := w.submit(ctx)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady, ContainSubstring("not a valid v1 Config")))
		w.replaceSecret(ctx, kubeconfig)
		Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
		remoteOf(ctx, job)
	})
})

var _ = Describe("ClusterConnections of the same identity", func() {
	It("have the same identityHash however the kubeconfig is written, and another identity has a different one", func(ctx context.Context) {
		account := createAccount(ctx)
		allow(ctx, accountSubject(account))
		token, _ := tokenOf(ctx, account, time.Hour)
		config := targetCluster.Config()
		again := fmt.Appendf(nil, `# the same, in other words
kind: Config
apiVersion: v1
users:
- name: unused
  user: {token: another}
- user:
    token: %s # the token
  name: me
contexts:
- context: {user: me, cluster: there, namespace: somewhere}
  name: mine
current-context: mine
clusters:
- name: there
  cluster:
    disable-compression: true
    server: %s/
    certificate-authority-data: %s
preferences: {}
`, token, config.Host, base64.StdEncoding.EncodeToString(append([]byte("the CA:\n"), config.CAData...)))
		one, two := connectedAs(ctx, withToken(token)), connectedAs(ctx, again)
		other, _ := tokenOf(ctx, account, time.Hour)
		three, four := connectedAs(ctx, withToken(other)), connectedAs(ctx, certificateOf(userWithRights(ctx)))

		hash := func(w world) string { return w.connection(Default, ctx).Status.IdentityHash }
		Expect(hash(one)).To(MatchRegexp("^sha256:[0-9a-f]{64}$"))
		Expect(hash(two)).To(Equal(hash(one)))
		Expect(hash(three)).NotTo(Equal(hash(one)), "another token is another credential, whatever it claims")
		Expect(hash(four)).NotTo(BeElementOf(hash(one), hash(three)))
		Expect(one.connection(Default, ctx).Status.ClusterUID).To(Equal(four.connection(Default, ctx).Status.ClusterUID))
		for _, w := range []world{one, two, three, four} {
			remoteOf(ctx, w.submit(ctx))
		}
	})
})

// userWithRights returns the name of a user of the target that may run Jobs.
func userWithRights(ctx context.Context) string {
	user := uniqueName("user")
	allow(ctx, userSubject(user))
	return user
}
