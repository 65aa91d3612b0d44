package controllers

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/clusterconnection"
	"github.com/pooledjob/pooledjob/controllers/credentials"
	"github.com/pooledjob/pooledjob/internal/kubeconfig"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// renewing is a world whose connection renews its token, behind a gateway.
type renewing struct {
	world
	account string
	token   string

	mu     sync.Mutex
	asked  []authenticationv1.TokenRequest
	posted []string // the Authorization of each request for a Job
	answer func(http.ResponseWriter, *http.Request) bool
	down   bool // the gateway answers 503 to everything
}

// oldLife and newLife are those of the first token and of the one that is asked for.
const (
	oldLife = 10 * time.Minute
	newLife = time.Hour
)

// renewable returns a new world with a connection that is Ready with a token of oldLife, of an
// account that may run Jobs, after the changes.
func renewable(ctx context.Context, changes ...func(*v1alpha1.ClusterConnectionSpec)) *renewing {
	r := &renewing{world: newWorld(ctx), account: createAccount(ctx)}
	allow(ctx, accountSubject(r.account))
	r.token, _ = tokenOf(ctx, r.account, oldLife)
	r.createSecret(ctx, append(throughGateway(fmt.Sprintf("token: %q", r.token), r.intercept), "\n# made by hand\n"...)...)
	r.createConnectionWith(ctx, func(spec *v1alpha1.ClusterConnectionSpec) {
		spec.KubeconfigSecretRef.Name = r.name
		spec.TokenRenewal = v1alpha1.TokenRenewal{LifetimeSeconds: int32(newLife.Seconds())}
		for _, change := range changes {
			change(spec)
		}
	})
	Eventually(r.connection).WithContext(ctx).Should(And(haveFive(fixtures.All(yes)),
		haveCondition(v1alpha1.ConditionCredentialsValid, metav1.ConditionTrue, v1alpha1.ReasonConnected, ContainSubstring("The manager renews the token"))))
	return r
}

// mayRenew lets the account create tokens of itself, as docs/clusterconnection.md says.
func (r *renewing) mayRenew(ctx context.Context) {
	Expect(target.Create(ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: r.account},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, ResourceNames: []string{r.account}, Verbs: []string{"create"}}},
	})).To(Succeed())
	Expect(target.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: r.account},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: r.account},
		Subjects:   []rbacv1.Subject{accountSubject(r.account)},
	})).To(Succeed())
}

// intercept notes what the operator asks for.
func (r *renewing) intercept(w http.ResponseWriter, request *http.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.down:
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	case request.Method != http.MethodPost:
	case strings.HasSuffix(request.URL.Path, "/jobs"):
		r.posted = append(r.posted, request.Header.Get("Authorization"))
	case strings.HasSuffix(request.URL.Path, "/token"):
		body, _ := io.ReadAll(request.Body)
		request.Body = io.NopCloser(strings.NewReader(string(body)))
		var asked authenticationv1.TokenRequest
		_ = json.Unmarshal(body, &asked) // shows as an empty one
		r.asked = append(r.asked, asked)
		if answer := r.answer; answer != nil {
			r.mu.Unlock()
			defer r.mu.Lock()
			return answer(w, request)
		}
	}
	return false
}

func (r *renewing) setAnswer(answer func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *renewing) setDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

// requests returns those for tokens.
func (r *renewing) requests() []authenticationv1.TokenRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]authenticationv1.TokenRequest(nil), r.asked...)
}

func (r *renewing) lastPosted() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{""}, r.posted...)[len(r.posted)]
}

// secretOf reads the Secret of a world, and the token in it.
func (w world) secretOf(ctx context.Context) (secret *corev1.Secret, token string) {
	secret = &corev1.Secret{}
	ExpectWithOffset(1, hub.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: w.name}, secret)).To(Succeed())
	identity, err := kubeconfig.Parse(secret.Data["kubeconfig"])
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	return secret, identity.Token
}

func (w world) tokenNow(ctx context.Context) string {
	_, token := w.secretOf(ctx)
	return token
}

func accountIn(token string) kubeconfig.Account {
	account, err := kubeconfig.Identity{Token: token}.Account()
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	return account
}

// due moves the operator's clock to so long after the first token is to be renewed.
func (r *renewing) due(ctx context.Context, after time.Duration) {
	when, _ := clusterconnection.RenewalSchedule(r.name, accountIn(r.token))
	moveClock(when.Add(after))
	r.look(ctx)
}

// look has the operator look at the connection.
func (w world) look(ctx context.Context) {
	w.annotate(ctx, "example.com/look", fmt.Sprint(time.Now().UnixNano()))
}

// forged returns a token that claims what another does, with another end, and that nobody has
// signed.
func forged(token string, ends time.Time) string {
	parts := strings.Split(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	Expect(err).NotTo(HaveOccurred())
	claims := map[string]any{}
	Expect(json.Unmarshal(payload, &claims)).To(Succeed())
	claims["exp"] = ends.Unix()
	payload, err = json.Marshal(claims)
	Expect(err).NotTo(HaveOccurred())
	return parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload) + ".bm9ib2R5IGhhcyBzaWduZWQgdGhpcw"
}

// answerWithToken answers a request for one.
func answerWithToken(token string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		answerObject(w, http.StatusCreated, &authenticationv1.TokenRequest{Status: authenticationv1.TokenRequestStatus{Token: token}})
		return true
	}
}

var _ = Describe("The token of a ClusterConnection with tokenRenewal", func() {
	failed := fixtures.Five{yes, "True/TokenRenewalFailed", yes, yes, yes}

	It("gets renewed when its time has come, and the connection uses the new token", func(ctx context.Context) {
		formerly := orphanOptions
		DeferCleanup(func() {
			orphanOptions = formerly
			operator.restart()
		})
		orphanOptions.Interval = time.Hour // nothing else has the operator look at the connection
		operator.restart()
		r := renewable(ctx)
		r.mayRenew(ctx)
		before, _ := r.secretOf(ctx)
		before.Labels, before.Data["other"] = map[string]string{"kept": "yes"}, []byte("kept")
		Expect(hub.Update(ctx, before)).To(Succeed())
		old := r.connection(Default, ctx)
		running := r.submit(ctx)
		start(ctx, remoteOf(ctx, running))
		eventually(ctx, running).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(r.lastPosted()).To(Equal("Bearer " + r.token))
		versions := r.record(ctx)

		r.due(ctx, -3*time.Second)
		Consistently(r.requests).Should(BeEmpty())
		Eventually(r.requests).Should(HaveLen(1), "without anything that happens")
		Eventually(r.tokenNow).WithContext(ctx).ShouldNot(Equal(r.token))
		Expect(r.requests()[0].Spec).To(Equal(authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(newLife.Seconds()))}))
		after, token := r.secretOf(ctx)
		Expect(accountIn(token)).To(And(HaveField("Username()", accountIn(r.token).Username()), HaveField("Life()", newLife)))
		Expect(string(after.Data["kubeconfig"])).To(Equal(strings.Replace(string(before.Data["kubeconfig"]), r.token, token, 1)), "nothing else changed in the kubeconfig")
		after.Data["kubeconfig"] = before.Data["kubeconfig"]
		after.ResourceVersion, after.ManagedFields = before.ResourceVersion, before.ManagedFields
		Expect(after).To(Equal(before), "nor in the Secret")

		Eventually(r.connection).WithContext(ctx).Should(And(haveFive(fixtures.All(yes)),
			HaveField("Status.IdentityHash", Not(Equal(old.Status.IdentityHash))),
			HaveField("Status.CredentialsExpireAt.Time", BeTemporally("==", accountIn(token).ExpiresAt))))
		remoteOf(ctx, r.submit(ctx))
		Expect(r.lastPosted()).To(Equal("Bearer " + token))
		eventually(ctx, running).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionTrue, v1alpha1.ReasonSynced))
		Expect(readyOf(versions())).To(Equal([]string{yes}), "Ready was True all the time")

		// It is enough: no look and no restart makes another one.
		r.look(ctx)
		operator.restart()
		r.look(ctx)
		Eventually(r.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
		Consistently(r.requests).Should(HaveLen(1))
		Expect(r.tokenNow(ctx)).To(Equal(token))
	})

	It("gets renewed by an operator that has just started", func(ctx context.Context) {
		r := renewable(ctx)
		r.mayRenew(ctx)
		operator.stop()
		when, _ := clusterconnection.RenewalSchedule(r.name, accountIn(r.token))
		moveClock(when)
		*operator = *startOperator(operator.scheme)
		Eventually(r.tokenNow).WithContext(ctx).ShouldNot(Equal(r.token))
		Eventually(r.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
		Expect(r.requests()).To(HaveLen(1))
	})

	It("keeps the audiences and the bound object of the token before it", func(ctx context.Context) {
		r := renewable(ctx)
		r.mayRenew(ctx)
		bound := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: r.account}}
		Expect(target.Create(ctx, bound)).To(Succeed())
		seconds := int64(oldLife.Seconds())
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: &seconds, Audiences: append(audiencesOf(r.token), "another"),
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: bound.Name, UID: bound.UID},
		}}
		of := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: r.account}}
		Expect(target.SubResource("token").Create(ctx, of, request)).To(Succeed())
		r.token = request.Status.Token
		r.replaceSecret(ctx, throughGateway(fmt.Sprintf("token: %q", r.token), r.intercept))
		expires := HaveField("Status.CredentialsExpireAt.Time", BeTemporally("==", accountIn(r.token).ExpiresAt))
		Eventually(r.connection).WithContext(ctx).Should(expires)
		r.due(ctx, time.Second)
		Eventually(r.tokenNow).WithContext(ctx).ShouldNot(Equal(r.token))
		Expect(accountIn(r.tokenNow(ctx))).To(And(
			HaveField("Audiences", accountIn(r.token).Audiences), HaveField("BoundTo", accountIn(r.token).BoundTo), HaveField("BoundTo.Kind", "Secret")))
		Eventually(r.connection).WithContext(ctx).Should(And(haveFive(fixtures.All(yes)), Not(expires)))
	})

	It("gives way to a token that somebody else writes meanwhile", func(ctx context.Context) {
		r := renewable(ctx)
		r.mayRenew(ctx)
		asked, answer := make(chan struct{}, 10), make(chan struct{})
		r.setAnswer(func(http.ResponseWriter, *http.Request) bool {
			asked <- struct{}{}
			<-answer
			return false
		})
		r.due(ctx, time.Second)
		Eventually(asked).Should(Receive())
		theirs, _ := tokenOf(ctx, r.account, 2*time.Hour)
		r.replaceSecret(ctx, withToken(theirs))
		close(answer)
		Eventually(r.connection).WithContext(ctx).Should(And(haveFive(fixtures.All(yes)),
			HaveField("Status.CredentialsExpireAt.Time", BeTemporally("==", accountIn(theirs).ExpiresAt))))
		Consistently(r.tokenNow).WithContext(ctx).Should(Equal(theirs))
		Expect(r.requests()).To(HaveLen(1))
		Expect(r.eventsOf(v1alpha1.ReasonTokenRenewalFailed)(Default, ctx)).To(BeEmpty())
	})

	It("stays in use while the target refuses another, which is reported, and gets renewed afterwards", func(ctx context.Context) {
		r := renewable(ctx)
		versions := r.record(ctx)
		secret, _ := r.secretOf(ctx)
		r.due(ctx, time.Second)
		Eventually(r.connection).WithContext(ctx).Should(And(haveFive(failed),
			haveCondition(v1alpha1.ConditionCredentialsValid, metav1.ConditionTrue, v1alpha1.ReasonTokenRenewalFailed,
				ContainSubstring("forbidden"), ContainSubstring("Let ServiceAccount default/"+r.account+" create serviceaccounts/token of itself"),
				ContainSubstring("They expire at "+accountIn(r.token).ExpiresAt.Format(time.RFC3339)))))
		Eventually(r.eventsOf(v1alpha1.ReasonTokenRenewalFailed)).WithContext(ctx).Should(ConsistOf(ContainSubstring("of itself")))
		remoteOf(ctx, r.submit(ctx))
		for range 3 {
			r.look(ctx)
		}
		Consistently(r.requests).Should(HaveLen(1), "in the first minute it is not asked again")
		r.setDown(true)
		Eventually(r.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionCredentialsValid, metav1.ConditionUnknown, v1alpha1.ReasonNotConnected))
		r.setDown(false)
		Eventually(r.connection).WithContext(ctx).Should(haveFive(failed))
		Consistently(r.eventsOf(v1alpha1.ReasonTokenRenewalFailed)).WithContext(ctx).Should(HaveLen(1), "it is no news")
		told := r.connection(Default, ctx)
		Expect(r.requests()).To(HaveLen(1))
		operator.restart()
		Eventually(r.requests).Should(HaveLen(2))
		Consistently(r.connection).WithContext(ctx).Should(HaveField("Status.Conditions", told.Status.Conditions))
		Expect(r.eventsOf(v1alpha1.ReasonTokenRenewalFailed)(Default, ctx)).To(HaveLen(1))
		untouched, _ := r.secretOf(ctx)
		Expect(untouched.ResourceVersion).To(Equal(secret.ResourceVersion))

		r.mayRenew(ctx)
		clockOffset.Add(int64(clusterconnection.MinRenewalPause))
		r.look(ctx)
		Eventually(r.tokenNow).WithContext(ctx).ShouldNot(Equal(r.token))
		Eventually(r.connection).WithContext(ctx).Should(And(haveFive(fixtures.All(yes)),
			HaveField("Status.CredentialsExpireAt.Time", BeTemporally("==", accountIn(r.tokenNow(ctx)).ExpiresAt))))
		Expect(r.requests()).To(HaveLen(3))
		for _, state := range readyOf(versions()) {
			Expect(state).To(BeElementOf(yes, "False/Unreachable"))
		}
	})

	It("gets requested at once when the spec changes after a refusal", func(ctx context.Context) {
		r := renewable(ctx)
		r.due(ctx, time.Second)
		Eventually(r.connection).WithContext(ctx).Should(haveFive(failed))
		r.mayRenew(ctx)
		connection := r.connection(Default, ctx)
		connection.Spec.TokenRenewal.LifetimeSeconds = 7200
		Expect(hub.Update(ctx, connection)).To(Succeed())
		Eventually(r.tokenNow).WithContext(ctx).ShouldNot(Equal(r.token))
		Expect(accountIn(r.tokenNow(ctx)).Life()).To(Equal(2 * time.Hour))
		Eventually(r.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
	})

	It("gets renewed on an idle connection, which closes again", func(ctx context.Context) {
		r := renewable(ctx, func(spec *v1alpha1.ClusterConnectionSpec) { spec.IdleTimeoutSeconds = new(int32(1)) })
		r.mayRenew(ctx)
		Eventually(r.connection).WithContext(ctx).Should(haveFive(fixtures.All("True/Idle")))
		Eventually(r.figureOf("sockets")).Should(BeZero())
		old := r.connection(Default, ctx)
		r.due(ctx, time.Second)
		Eventually(r.tokenNow).WithContext(ctx).ShouldNot(Equal(r.token))
		Eventually(r.connection).WithContext(ctx).Should(And(haveFive(fixtures.All("True/Idle")), HaveField("Status.IdentityHash", Not(Equal(old.Status.IdentityHash)))))
		Eventually(r.figureOf("sockets")).Should(BeZero())
		Expect(r.requests()).To(HaveLen(1))
	})

	It("stays the same for all ClusterConnections of one Secret", func(ctx context.Context) {
		r := renewable(ctx)
		r.mayRenew(ctx)
		two := r.candidate(ctx, "two", func(c *v1alpha1.ClusterConnection) {
			c.Spec.TokenRenewal = v1alpha1.TokenRenewal{LifetimeSeconds: int32(newLife.Seconds())}
		})
		Eventually(two.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
		r.due(ctx, oldLife/10) // for both
		two.look(ctx)
		Eventually(r.tokenNow).WithContext(ctx).ShouldNot(Equal(r.token))
		last := Eventually(func(g Gomega) {
			expires := HaveField("Status.CredentialsExpireAt.Time", BeTemporally("==", accountIn(r.tokenNow(ctx)).ExpiresAt))
			one := r.connection(g, ctx)
			g.Expect(one).To(And(haveFive(fixtures.All(yes)), expires))
			g.Expect(two.connection(g, ctx)).To(And(haveFive(fixtures.All(yes)), expires, HaveField("Status.IdentityHash", one.Status.IdentityHash)))
		})
		last.Should(Succeed())
		token := r.tokenNow(ctx)
		r.look(ctx)
		two.look(ctx)
		Consistently(r.tokenNow).WithContext(ctx).Should(Equal(token))
		Expect(len(r.requests())).To(BeNumerically("<=", 2))
		Eventually(two.figureOf("sockets")).Should(Equal(1.0))
	})

	It("occupies at most half of the workers while targets are silent, and gets renewed later", func(ctx context.Context) {
		var mu sync.Mutex
		var now, most int
		count := func(change int) {
			mu.Lock()
			defer mu.Unlock()
			now += change
			most = max(most, now)
		}
		answered := make(chan struct{})
		var all []*renewing
		for range clusterconnection.Workers + 1 {
			r := renewable(ctx)
			r.mayRenew(ctx)
			r.setAnswer(func(_ http.ResponseWriter, request *http.Request) bool {
				count(1)
				defer count(-1)
				select {
				case <-answered:
				case <-request.Context().Done():
				}
				return false
			})
			all = append(all, r)
		}
		moveClock(accountIn(all[0].token).IssuedAt.Add(oldLife * 7 / 10))
		for _, r := range all {
			r.look(ctx)
		}
		Eventually(func() int { mu.Lock(); defer mu.Unlock(); return now }).Should(Equal(clusterconnection.MaxRenewals))
		begin := time.Now()
		connected(ctx)
		Expect(time.Since(begin)).To(BeNumerically("<", clusterconnection.RenewalTimeout-time.Second), "another does not wait for them")
		for _, r := range all {
			Eventually(r.requests).WithTimeout(time.Minute).ShouldNot(BeEmpty())
		}
		Expect(most).To(Equal(clusterconnection.MaxRenewals))
		close(answered)
		clockOffset.Add(int64(clusterconnection.MinRenewalPause))
		for _, r := range all {
			r.look(ctx)
			Eventually(r.tokenNow).WithContext(ctx).WithTimeout(time.Minute).ShouldNot(Equal(r.token))
		}
	})

	DescribeTable("stays in the Secret when the answer is no other token of the same account",
		func(ctx context.Context, answer func(context.Context, *renewing) string, words string) {
			r := renewable(ctx)
			given := answer(ctx, r)
			r.setAnswer(answerWithToken(given))
			r.due(ctx, time.Second)
			Eventually(r.connection).WithContext(ctx).Should(And(haveFive(failed),
				haveCondition(v1alpha1.ConditionCredentialsValid, metav1.ConditionTrue, v1alpha1.ReasonTokenRenewalFailed, ContainSubstring(words))))
			Consistently(r.tokenNow).WithContext(ctx).Should(Equal(r.token))
		},
		Entry("but of another account", func(ctx context.Context, _ *renewing) string {
			token, _ := tokenOf(ctx, createAccount(ctx), time.Hour)
			return token
		}, "not one of the same ServiceAccount"),
		Entry("but no JWT", func(context.Context, *renewing) string { return "s3cret-t0ken" }, "not one of the same ServiceAccount"),
		Entry("but empty", func(context.Context, *renewing) string { return "" }, "not that of a Kubernetes API server"),
		Entry("but has ended", func(_ context.Context, r *renewing) string {
			return forged(r.token, accountIn(r.token).IssuedAt.Add(time.Second))
		}, "set the clocks"),
	)

	It("stays in use when the renewed token does not work", func(ctx context.Context) {
		r := renewable(ctx)
		before := r.connection(Default, ctx)
		r.setAnswer(answerWithToken(forged(r.token, accountIn(r.token).ExpiresAt.Add(newLife))))
		r.due(ctx, time.Second)
		Eventually(r.connection).WithContext(ctx).Should(And(
			haveFive(fixtures.Five{"True/LastKubeconfig", "False/CredentialsRejected", yes, yes, yes}),
			HaveField("Status.IdentityHash", before.Status.IdentityHash)))
		remoteOf(ctx, r.submit(ctx))
		Consistently(r.requests).Should(HaveLen(1))
	})

	It("cannot be renewed in a Secret that is immutable", func(ctx context.Context) {
		r := renewable(ctx)
		r.mayRenew(ctx)
		secret, _ := r.secretOf(ctx)
		secret.Immutable = new(true)
		Expect(hub.Update(ctx, secret)).To(Succeed())
		Eventually(r.connection).WithContext(ctx).Should(And(haveFive(failed),
			haveCondition(v1alpha1.ConditionCredentialsValid, metav1.ConditionTrue, v1alpha1.ReasonTokenRenewalFailed, ContainSubstring("the Secret is immutable"))))
		r.due(ctx, time.Second)
		Consistently(r.requests).Should(BeEmpty())
	})

	It("cannot be renewed when the Secret holds a certificate, which one Event reports", func(ctx context.Context) {
		w := newWorld(ctx)
		w.createSecret(ctx, certificateOf(userWithRights(ctx))...)
		w.createConnectionWith(ctx, func(spec *v1alpha1.ClusterConnectionSpec) {
			spec.KubeconfigSecretRef.Name = w.name
			spec.TokenRenewal = v1alpha1.TokenRenewal{LifetimeSeconds: 3600}
		})
		Eventually(w.connection).WithContext(ctx).Should(And(haveFive(failed),
			haveCondition(v1alpha1.ConditionCredentialsValid, metav1.ConditionTrue, v1alpha1.ReasonTokenRenewalFailed, ContainSubstring("client certificate"))))
		Eventually(w.eventsOf(v1alpha1.ReasonTokenRenewalFailed)).WithContext(ctx).Should(HaveLen(1))
		w.look(ctx)
		Consistently(w.eventsOf(v1alpha1.ReasonTokenRenewalFailed)).WithContext(ctx).Should(HaveLen(1))
		connection := w.connection(Default, ctx)
		connection.Spec.TokenRenewal = v1alpha1.TokenRenewal{}
		Expect(hub.Update(ctx, connection)).To(Succeed())
		Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
	})

	It("stays untouched without spec.tokenRenewal", func(ctx context.Context) {
		r := renewable(ctx, func(spec *v1alpha1.ClusterConnectionSpec) { spec.IdleTimeoutSeconds = nil })
		r.mayRenew(ctx)
		connection := r.connection(Default, ctx)
		connection.Spec.TokenRenewal = v1alpha1.TokenRenewal{}
		Expect(hub.Update(ctx, connection)).To(Succeed())
		Eventually(r.connection).WithContext(ctx).Should(
			haveCondition(v1alpha1.ConditionCredentialsValid, metav1.ConditionTrue, v1alpha1.ReasonConnected, Equal("The target accepts the credentials.")))
		r.due(ctx, oldLife/10)
		Consistently(r.requests).Should(BeEmpty())
		Expect(r.tokenNow(ctx)).To(Equal(r.token))
	})

	It("appears in no status, Event or log, neither the old one nor the new", func(ctx context.Context) {
		log := listen()
		r := renewable(ctx)
		r.mayRenew(ctx)
		leaked, _ := tokenOf(ctx, r.account, time.Hour)
		r.setAnswer(func(w http.ResponseWriter, request *http.Request) bool {
			answerStatus(w, apierrors.NewInternalError(fmt.Errorf("not %s for %s", leaked, request.Header)))
			return true
		})
		r.due(ctx, time.Second)
		Eventually(r.connection).WithContext(ctx).Should(And(haveFive(failed),
			haveCondition(v1alpha1.ConditionCredentialsValid, metav1.ConditionTrue, v1alpha1.ReasonTokenRenewalFailed, ContainSubstring("not [redacted] for"))))
		Eventually(r.eventsOf(v1alpha1.ReasonTokenRenewalFailed)).WithContext(ctx).Should(HaveLen(1))
		r.setAnswer(nil)
		clockOffset.Add(int64(clusterconnection.MinRenewalPause))
		r.look(ctx)
		Eventually(r.tokenNow).WithContext(ctx).ShouldNot(Equal(r.token))
		Eventually(r.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
		Eventually(log.operator.text).Should(ContainSubstring("Renewed the token"))
		expectNoTrace(worldTexts(ctx, log), planted{token: r.token}, planted{token: leaked}, planted{token: r.tokenNow(ctx)})
	})

	It("needs no more rights than the manager's Role gives", func(ctx context.Context) {
		w := newWorld(ctx)
		token, _ := tokenOf(ctx, createAccount(ctx), time.Hour)
		w.createSecret(ctx, withToken(token)...)
		role := managerRole()
		role.Name = w.name
		Expect(hub.Create(ctx, role)).To(Succeed())
		Expect(hub.Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: role.Namespace, Name: w.name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: w.name},
			Subjects:   []rbacv1.Subject{userSubject(w.name)},
		})).To(Succeed())
		data, err := hubCluster.KubeconfigFor(w.name)
		Expect(err).NotTo(HaveOccurred())
		config, err := clientcmd.RESTConfigFromKubeConfig(data)
		Expect(err).NotTo(HaveOccurred())
		manager, err := client.New(config, client.Options{Scheme: operator.scheme})
		Expect(err).NotTo(HaveOccurred())
		secret, _ := w.secretOf(ctx)
		another, _ := tokenOf(ctx, createAccount(ctx), time.Hour)
		Eventually(func() error { // the API server learns of roles a moment later
			return credentials.ReplaceToken(ctx, manager, credentials.Source{Secret: secret, Key: "kubeconfig"}, another)
		}).Should(Succeed())
		Expect(w.tokenNow(ctx)).To(Equal(another))
		err = credentials.ReplaceToken(ctx, manager, credentials.Source{Secret: secret, Key: "kubeconfig"}, token)
		Expect(err).To(MatchError(credentials.ErrChanged), "what was read is old")
	})
})

// audiencesOf returns all that a token is for.
func audiencesOf(token string) []string {
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	Expect(err).NotTo(HaveOccurred())
	var claims struct{ Aud []string }
	Expect(json.Unmarshal(payload, &claims)).To(Succeed())
	return claims.Aud
}

// managerRole returns the Role in config/rbac/role.yaml.
func managerRole() *rbacv1.Role {
	data, err := os.ReadFile(filepath.Join("..", "config", "rbac", "role.yaml"))
	Expect(err).NotTo(HaveOccurred())
	for document := range strings.SplitSeq(string(data), "\n---\n") {
		role := &rbacv1.Role{}
		Expect(yaml.Unmarshal([]byte(document), role)).To(Succeed())
		if role.Kind == "Role" {
			return role
		}
	}
	Fail("there is no Role")
	return nil
}
