package controllers

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/kubeconfig"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// Identities of the target, with the rights in config/target/role.yaml and no others,
// and helpers to look at the ClusterConnections that use them.

// targetRole returns the ClusterRole in config/target/role.yaml, on the target.
func targetRole(ctx context.Context) *rbacv1.ClusterRole {
	data, err := os.ReadFile(filepath.Join("..", "config", "target", "role.yaml"))
	Expect(err).NotTo(HaveOccurred())
	role := &rbacv1.ClusterRole{}
	Expect(yaml.Unmarshal(data, role)).To(Succeed())
	if err := target.Create(ctx, role); !apierrors.IsAlreadyExists(err) {
		Expect(err).NotTo(HaveOccurred())
	}
	return role
}

func userSubject(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}
}

func accountSubject(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceDefault, Name: name}
}

// allow binds targetRole to an identity, in all of the target.
func allow(ctx context.Context, who rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: uniqueName(who.Name)},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: targetRole(ctx).Name},
		Subjects:   []rbacv1.Subject{who},
	}
	Expect(target.Create(ctx, binding)).To(Succeed())
	return binding
}

// allowIn binds targetRole to an identity in one namespace of the target.
func allowIn(ctx context.Context, namespace string, who rbacv1.Subject) {
	Expect(target.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: uniqueName(who.Name)},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: targetRole(ctx).Name},
		Subjects:   []rbacv1.Subject{who},
	})).To(Succeed())
}

// certificateOf returns a kubeconfig with a client certificate of a user of the target.
func certificateOf(user string) []byte {
	kubeconfig, err := targetCluster.KubeconfigFor(user)
	Expect(err).NotTo(HaveOccurred())
	return kubeconfig
}

// createAccount makes a ServiceAccount of the target.
func createAccount(ctx context.Context) string {
	name := uniqueName("account")
	Expect(target.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}})).To(Succeed())
	return name
}

// tokenOf asks the target for a token of a ServiceAccount. The shortest that it
// gives is one of ten minutes.
func tokenOf(ctx context.Context, account string, lifetime time.Duration) (token string, expires time.Time) {
	seconds := int64(lifetime.Seconds())
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	of := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: account}}
	Expect(target.SubResource("token").Create(ctx, of, request)).To(Succeed())
	// The token has another end than the answer if a second passed in between.
	expires, ends := kubeconfig.Identity{Token: request.Status.Token}.ExpiresAt()
	Expect(ends).To(BeTrue())
	Expect(expires).To(BeTemporally("~", request.Status.ExpirationTimestamp.Time, 2*time.Second))
	return request.Status.Token, expires
}

// kubeconfigOf writes a kubeconfig; user are the fields of its user.
func kubeconfigOf(server string, ca []byte, user string) []byte {
	return fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: a,
		contexts: [{name: a, context: {cluster: a, user: a}}],
		clusters: [{name: a, cluster: {server: %q, certificate-authority-data: %q}}],
		users: [{name: a, user: {%s}}]}`, server, base64.StdEncoding.EncodeToString(ca), user)
}

// withToken returns a kubeconfig of the target with a bearer token.
func withToken(token string) []byte {
	config := targetCluster.Config()
	return kubeconfigOf(config.Host, config.CAData, fmt.Sprintf("token: %q", token))
}

// createConnectionWith makes a ClusterConnection that is open to w's namespace, after
// the change.
func (w world) createConnectionWith(ctx context.Context, change func(*v1alpha1.ClusterConnectionSpec)) {
	same := true
	connection := &v1alpha1.ClusterConnection{
		ObjectMeta: metav1.ObjectMeta{Name: w.name},
		Spec: v1alpha1.ClusterConnectionSpec{
			KubeconfigSecretRef: v1alpha1.SecretKeyReference{Name: w.name},
			Access: []v1alpha1.AccessRule{{
				HubNamespaces:    &v1alpha1.LabelSelector{MatchLabels: map[string]string{"team": w.name}},
				TargetNamespaces: v1alpha1.TargetNamespaces{Same: &same},
			}},
		},
	}
	change(&connection.Spec)
	Expect(hub.Create(ctx, connection)).To(Succeed())
}

// connectedAs returns a new world with a connection that is Ready with the kubeconfig.
func connectedAs(ctx context.Context, kubeconfig []byte) world {
	w := newWorld(ctx)
	w.createSecret(ctx, kubeconfig...)
	w.createConnection(ctx)
	Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonConnected))
	return w
}

// annotate sets an annotation of the connection.
func (w world) annotate(ctx context.Context, name, value string) {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, name, value)
	connection := &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: w.name}}
	Expect(hub.Patch(ctx, connection, client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
}

// What a condition of a ClusterConnection says when all is well, and when nothing is known of it.
const (
	yes     = "True/Connected"
	unknown = "Unknown/NotConnected"
)

// haveFive matches a ClusterConnection whose conditions are these.
func haveFive(want fixtures.Five) OmegaMatcher { return WithTransform(fixtures.FiveOf, Equal(want)) }

// record watches objects of the hub from now on; the result are all versions of them
// that there were so far.
func record[T client.Object](ctx context.Context, list client.ObjectList, options ...client.ListOption) func() []T {
	c, err := client.NewWithWatch(hubCluster.Config(), client.Options{Scheme: operator.scheme})
	Expect(err).NotTo(HaveOccurred())
	watch, err := c.Watch(ctx, list, options...)
	Expect(err).NotTo(HaveOccurred())
	var mu sync.Mutex
	var versions []T
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for event := range watch.ResultChan() {
			if version, ok := event.Object.(T); ok {
				mu.Lock()
				versions = append(versions, version)
				mu.Unlock()
			}
		}
	}()
	DeferCleanup(func() {
		watch.Stop()
		<-ended
	})
	result := func() []T {
		mu.Lock()
		defer mu.Unlock()
		return append([]T(nil), versions...)
	}
	Eventually(result).WithContext(ctx).ShouldNot(BeEmpty())
	return result
}

func (w world) record(ctx context.Context) func() []*v1alpha1.ClusterConnection {
	return record[*v1alpha1.ClusterConnection](ctx, &v1alpha1.ClusterConnectionList{}, client.MatchingFields{"metadata.name": w.name})
}

// readyOf returns the status and reason of Ready in versions, without repetitions.
func readyOf(versions []*v1alpha1.ClusterConnection) []string {
	var states []string
	for _, version := range versions {
		if is := fixtures.FiveOf(version)[0]; len(states) == 0 || states[len(states)-1] != is {
			states = append(states, is)
		}
	}
	return states
}

// eventsOf returns the Events of the connection with that reason, as often as they were
// emitted.
func (w world) eventsOf(reason string) func(Gomega, context.Context) []string {
	return func(g Gomega, ctx context.Context) []string {
		var list eventsv1.EventList
		g.Expect(hub.List(ctx, &list)).To(Succeed())
		var notes []string
		for _, event := range list.Items {
			if event.Regarding.Kind != "ClusterConnection" || event.Regarding.Name != w.name || event.Reason != reason {
				continue
			}
			times := 1
			if event.Series != nil {
				times = int(event.Series.Count)
			}
			for range times {
				notes = append(notes, event.Note)
			}
		}
		return notes
	}
}

// figure returns one of the pool's figures of the connection; -1 if there is none.
func (w world) figure(name string) float64 { return w.figureWith(name, "connection", w.name) }

// figureWith returns the one that has another label, too.
func (w world) figureWith(name, label, value string) float64 {
	families, err := operator.metrics.Gather()
	Expect(err).NotTo(HaveOccurred())
	for _, family := range families {
		if family.GetName() != "pooledjob_connection_"+name {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, pair := range metric.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			if labels["connection"] == w.name && labels[label] == value {
				return metric.GetGauge().GetValue()
			}
		}
	}
	return -1
}

// figureOf reads figure again and again.
func (w world) figureOf(name string) func() float64 {
	return func() float64 { return w.figure(name) }
}

// trimmedHost returns the target's address as it is in a status.
func trimmedHost() string { return strings.TrimSuffix(targetCluster.Config().Host, "/") }
