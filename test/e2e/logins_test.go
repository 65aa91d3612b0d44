package e2e

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/kubeconfig"
	"github.com/pooledjob/pooledjob/test/localenv"
)

// The users that rotations go through: ServiceAccounts with tokens, in a namespace of
// their own, and people with client certificates, in a group of their own.
const (
	loginNamespace = "logins"
	loginGroup     = "pooledjob:logins"
)

var loginUsers = []string{"sa-a", "sa-b", "sa-c", "person-a", "person-b"}

// login is one way to be known on a target.
type login struct {
	user    string
	info    clientcmdapi.AuthInfo
	expires time.Time
	// secret is what a token ends with; nil for a certificate.
	secret *corev1.Secret
}

// rotator changes the kubeconfig Secret of a ClusterConnection.
type rotator struct {
	random     *rand.Rand
	connection string
	cluster    *localenv.Cluster
	addresses  []string

	// What the Secret says, or said last when it is broken. ca are authorities that it
	// trusts beside that of the target.
	address string
	login   *login
	ca      []byte
	// old are the logins before, as far as they are tokens that were not revoked,
	// and revoked one that was.
	old     []*login
	revoked *login
	tokens  int64
}

// newRotator prepares a target, and brings the Secret back when the container ends.
func newRotator(ctx context.Context, random *rand.Rand, target int) *rotator {
	r := &rotator{random: random, connection: fmt.Sprintf("target-%d", target), cluster: local.Targets[target-1]}
	server := "https://" + hostOf(r.cluster.Config().Host)
	r.addresses = []string{
		server, "https://localhost:" + portOf(server),
		newForwarder(ctx, server).url(), newForwarder(ctx, server).url(),
	}
	group := func(name string) rbacv1.Subject {
		return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}
	}
	for _, obj := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: loginNamespace}},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "pooledjob-logins"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "pooledjob-target"},
			Subjects:   []rbacv1.Subject{group("system:serviceaccounts:" + loginNamespace), group(loginGroup)},
		},
	} {
		Expect(r.cluster.Client.Create(ctx, obj)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(r.cluster.Client.Delete(ctx, obj)).To(Succeed()) })
	}
	before := &corev1.Secret{}
	Expect(hub.Get(ctx, client.ObjectKey{Namespace: localenv.Namespace, Name: r.connection}, before)).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		r.write(ctx, before.Data)
		Eventually(r.latest()).WithContext(ctx).Should(And(beReadyWith(v1alpha1.ReasonConnected), HaveField("Status.Server", server)))
	})
	r.login = &login{} // the environment's own, which is none of ours
	r.use(ctx, r.newLogin(ctx, loginUsers[0]), server)
	r.awaitUse(ctx)
	return r
}

func (r *rotator) latest() func(Gomega, context.Context) *v1alpha1.ClusterConnection {
	return latest(&v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: r.connection}})
}

// newLogin returns a token or a certificate that nobody had before.
func (r *rotator) newLogin(ctx context.Context, user string) *login {
	if strings.HasPrefix(user, "sa-") {
		return r.newToken(ctx, user)
	}
	data, err := r.cluster.KubeconfigFor(user, loginGroup)
	Expect(err).NotTo(HaveOccurred())
	config, err := clientcmd.Load(data)
	Expect(err).NotTo(HaveOccurred())
	info := *config.AuthInfos[config.Contexts[config.CurrentContext].AuthInfo]
	block, _ := pem.Decode(info.ClientCertificateData)
	certificate, err := x509.ParseCertificate(block.Bytes)
	Expect(err).NotTo(HaveOccurred())
	return &login{user: user, info: info, expires: certificate.NotAfter}
}

// newToken returns a token that ends with a Secret, or with its ServiceAccount.
func (r *rotator) newToken(ctx context.Context, user string) *login {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: loginNamespace, Name: user}}
	Expect(client.IgnoreAlreadyExists(r.cluster.Client.Create(ctx, account))).To(Succeed())
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: loginNamespace, GenerateName: user + "-"}}
	Expect(r.cluster.Client.Create(ctx, secret)).To(Succeed())
	r.tokens++
	seconds := 7200 + 60*r.tokens // the end tells which token is in use
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Secret", APIVersion: "v1", Name: secret.Name, UID: secret.UID},
	}}
	Expect(r.cluster.Client.SubResource("token").Create(ctx, account, request)).To(Succeed())
	// The token has another end than the answer if a second passed in between.
	expires, ends := kubeconfig.Identity{Token: request.Status.Token}.ExpiresAt()
	Expect(ends).To(BeTrue())
	Expect(expires).To(BeTemporally("~", request.Status.ExpirationTimestamp.Time, 2*time.Second))
	return &login{
		user: user, secret: secret, expires: expires,
		info: clientcmdapi.AuthInfo{Token: request.Status.Token},
	}
}

// use makes the Secret say that login and that address.
func (r *rotator) use(ctx context.Context, l *login, address string) {
	if l != r.login && r.login.secret != nil {
		r.old = append(r.old, r.login)
	}
	r.login, r.address = l, address
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: address, CertificateAuthorityData: slices.Concat(r.cluster.Config().CAData, r.ca)}
	config.AuthInfos["u"] = &l.info
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	data, err := clientcmd.Write(*config)
	Expect(err).NotTo(HaveOccurred())
	r.write(ctx, map[string][]byte{"kubeconfig": data})
}

// write gives the Secret the data, and makes it if need be.
func (r *rotator) write(ctx context.Context, data map[string][]byte) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: localenv.Namespace, Name: r.connection}, Data: data}
	err := hub.Update(ctx, secret)
	if apierrors.IsNotFound(err) {
		err = hub.Create(ctx, secret)
	}
	Expect(err).NotTo(HaveOccurred())
}

// awaitUse waits until the connection uses what the Secret says.
func (r *rotator) awaitUse(ctx context.Context) {
	Eventually(r.latest()).WithContext(ctx).Should(And(
		beReadyWith(v1alpha1.ReasonConnected),
		HaveField("Status.Server", r.address),
		HaveField("Status.CredentialsExpireAt.Time", BeTemporally("==", r.login.expires.Truncate(time.Second))),
	), "%s at %s", r.login.user, r.address)
}

// rotations are the kinds of changes. In the name of each, Secret is that of the hub.
var rotations = []struct {
	name string
	do   func(*rotator, context.Context)
}{
	{"another credential of the same user", func(r *rotator, ctx context.Context) {
		r.use(ctx, r.newLogin(ctx, r.login.user), r.address)
	}},
	{"another user", (*rotator).toOtherUser},
	{"another address", func(r *rotator, ctx context.Context) { r.use(ctx, r.login, r.otherAddress()) }},
	{"another CA", func(r *rotator, ctx context.Context) {
		r.awaitUse(ctx)
		before := r.latest()(Default, ctx).Status.IdentityHash
		r.trustAnother()
		r.use(ctx, r.login, r.address)
		Eventually(r.latest()).WithContext(ctx).Should(And(
			beReadyWith(v1alpha1.ReasonConnected), HaveField("Status.IdentityHash", Not(Equal(before)))))
	}},
	{"all at once", func(r *rotator, ctx context.Context) {
		r.trustAnother()
		r.address = r.otherAddress()
		r.toOtherUser(ctx)
	}},
	{"the Secret broken and mended", (*rotator).breakAndMend},
	{"the Secret deleted and made again", (*rotator).deleteAndMake},
	{"the old tokens revoked", func(r *rotator, ctx context.Context) {
		r.awaitUse(ctx)
		r.revokeOld(ctx)
	}},
	{"a new token, and the old ones revoked at once", func(r *rotator, ctx context.Context) {
		r.use(ctx, r.newLogin(ctx, loginUsers[r.random.IntN(3)]), r.address)
		r.revokeOld(ctx)
	}},
}

func (r *rotator) otherAddress() string {
	others := slices.DeleteFunc(slices.Clone(r.addresses), func(a string) bool { return a == r.address })
	return others[r.random.IntN(len(others))]
}

// trustAnother has the Secret trust another CA beside the target's from its next change on.
func (r *rotator) trustAnother() {
	var err error
	r.ca, _, err = cert.GenerateSelfSignedCertKey("of-nobody.example", nil, nil)
	Expect(err).NotTo(HaveOccurred())
}

func (r *rotator) toOtherUser(ctx context.Context) {
	others := slices.DeleteFunc(slices.Clone(loginUsers), func(u string) bool { return u == r.login.user })
	r.use(ctx, r.newLogin(ctx, others[r.random.IntN(len(others))]), r.address)
}

// mend makes the Secret what it was, or something new.
func (r *rotator) mend(ctx context.Context) {
	if r.random.IntN(2) == 0 {
		r.use(ctx, r.login, r.address)
	} else {
		r.toOtherUser(ctx)
	}
}

// breakAndMend has the connection go on meanwhile with the last credential that worked.
func (r *rotator) breakAndMend(ctx context.Context) {
	r.awaitUse(ctx)
	broken := []map[string][]byte{
		{"kubeconfig": []byte("\x00 this is no kubeconfig")},
		{"kubeconfig": nil},
		{"other": []byte("{}")},
	}
	r.write(ctx, broken[r.random.IntN(len(broken))])
	Eventually(r.latest()).WithContext(ctx).Should(beReadyWith(v1alpha1.ReasonLastKubeconfig))
	r.mend(ctx)
}

func (r *rotator) deleteAndMake(ctx context.Context) {
	r.awaitUse(ctx)
	Expect(hub.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: localenv.Namespace, Name: r.connection}})).To(Succeed())
	Eventually(r.latest()).WithContext(ctx).Should(beReadyWith(v1alpha1.ReasonLastKubeconfig))
	r.mend(ctx)
}

// revokeOld ends every token but the newest, by its Secret or its ServiceAccount.
func (r *rotator) revokeOld(ctx context.Context) {
	for _, l := range r.old {
		var end client.Object = l.secret
		if l.user != r.login.user && r.random.IntN(2) == 0 {
			end = &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: loginNamespace, Name: l.user}}
		}
		Expect(client.IgnoreNotFound(r.cluster.Client.Delete(ctx, end))).To(Succeed())
		r.revoked = l
	}
	r.old = nil
}

// refusesRevoked tells that the target takes the token no more that was revoked last.
func (r *rotator) refusesRevoked(g Gomega, ctx context.Context) {
	config := &rest.Config{
		Host: r.cluster.Config().Host, BearerToken: r.revoked.info.Token,
		TLSClientConfig: rest.TLSClientConfig{CAData: r.cluster.Config().CAData},
	}
	c, err := kubernetes.NewForConfig(config)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = c.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	g.Expect(apierrors.IsUnauthorized(err)).To(BeTrue(), "%v", err)
}
