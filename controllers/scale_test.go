package controllers

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// fleet are many ClusterConnections at once, each with an identity of its own.
type fleet struct {
	world                          // whose label they have
	living, dead map[string][]byte // kubeconfigs
}

// launch creates the ClusterConnections of a fleet, the dead first, and returns after
// what time those that live were Ready.
func (f fleet) launch(ctx context.Context) time.Duration {
	GinkgoHelper()
	began := time.Now()
	for _, some := range []map[string][]byte{f.dead, f.living} {
		for suffix := range some {
			f.candidate(ctx, suffix, func(c *v1alpha1.ClusterConnection) { c.Spec.KubeconfigSecretRef.Name = c.Name })
		}
	}
	Eventually(f.ready).WithContext(ctx).WithTimeout(2 * time.Minute).WithPolling(200 * time.Millisecond).Should(HaveLen(len(f.living)))
	return time.Since(began)
}

// add adds kubeconfigs to some of the fleet.
func (f fleet) add(ctx context.Context, some, kubeconfigs map[string][]byte) {
	for suffix, kubeconfig := range kubeconfigs {
		world{name: f.name + "-" + suffix}.createSecret(ctx, kubeconfig...)
		some[suffix] = kubeconfig
	}
}

// scuttle deletes the ClusterConnections and waits until they are gone.
func (f fleet) scuttle(ctx context.Context) {
	GinkgoHelper()
	Expect(hub.DeleteAllOf(ctx, &v1alpha1.ClusterConnection{}, f.labels())).To(Succeed())
	Eventually(f.connections).WithContext(ctx).WithTimeout(time.Minute).WithPolling(200 * time.Millisecond).Should(BeEmpty())
}

func (f fleet) labels() client.MatchingLabels { return client.MatchingLabels{"world": f.name} }

func (f fleet) connections(g Gomega, ctx context.Context) []v1alpha1.ClusterConnection {
	var list v1alpha1.ClusterConnectionList
	g.Expect(hub.List(ctx, &list, f.labels())).To(Succeed())
	return list.Items
}

// ready returns since when those are Ready that are.
func (f fleet) ready(g Gomega, ctx context.Context) map[string]metav1.Time {
	since := map[string]metav1.Time{}
	for _, connection := range f.connections(g, ctx) {
		if is := meta.FindStatusCondition(connection.Status.Conditions, v1alpha1.ConditionReady); is != nil && is.Status == metav1.ConditionTrue {
			since[connection.Name] = is.LastTransitionTime
		}
	}
	return since
}

// livingFleet returns connections to the target, each with a ServiceAccount of its own.
func livingFleet(ctx context.Context, number int) map[string][]byte {
	namespace := uniqueName("fleet")
	Expect(target.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})).To(Succeed())
	allow(ctx, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts:" + namespace})
	living := map[string][]byte{}
	for i := range number {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("account-", i)}}
		Expect(target.Create(ctx, account)).To(Succeed())
		request := &authenticationv1.TokenRequest{}
		Expect(target.SubResource("token").Create(ctx, account, request)).To(Succeed())
		living[fmt.Sprint("living-", i)] = withToken(request.Status.Token)
	}
	return living
}

// deadFleet returns connections to an address that refuses, and to one where connections
// can be made and nothing is ever said.
func deadFleet(ctx context.Context, refusing, silent int) map[string][]byte {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(listener.Close)
	dead := map[string][]byte{}
	for i := range refusing + silent {
		kind, server := "refusing", "127.0.0.1:1"
		if i >= refusing {
			kind, server = "silent", listener.Addr().String()
		}
		dead[fmt.Sprintf("%s-%d", kind, i)] = kubeconfigOf("https://"+server, nil, fmt.Sprintf("token: dead-%d", i))
	}
	return dead
}

// tally counts the reconciles of PooledJobs by their namespace, as controller-runtime
// logs them when one comes off the work queue.
type tally struct {
	mu   sync.Mutex
	seen map[string]int
}

var begunReconcile = regexp.MustCompile(`"msg"="Reconciling" "controller"="pooledjob" .*"namespace"="([^"]*)"`)

func (t *tally) logger() logr.Logger {
	return funcr.New(func(_, args string) {
		if found := begunReconcile.FindStringSubmatch(args); found != nil {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.seen[found[1]]++
		}
	}, funcr.Options{Verbosity: 5})
}

// of returns how many reconciles there were in a world's namespace.
func (t *tally) of(w world) func() int {
	return func() int {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.seen[w.name]
	}
}

var _ = Describe("With many targets", func() {
	It("makes 180 connections Ready as quickly although 20 others never are", func(ctx context.Context) {
		const living, refusing, silent = 180, 4, 16
		f := fleet{world: world{name: uniqueName("fleet")}, living: map[string][]byte{}, dead: map[string][]byte{}}
		DeferCleanup(f.scuttle) // other specs start operators, which connect whatever there is
		f.add(ctx, f.living, livingFleet(ctx, living))
		alone := f.launch(ctx)
		f.scuttle(ctx)

		f.add(ctx, f.dead, deadFleet(ctx, refusing, silent))
		beside := f.launch(ctx)
		AddReportEntry("connections", fmt.Sprintf("%d that live: Ready after %.2f s alone, after %.2f s beside %d dead ones",
			living, alone.Seconds(), beside.Seconds(), refusing+silent))
		Expect(beside).To(BeNumerically("<", 2*alone+3*time.Second))

		since, identities := f.ready(Default, ctx), map[string]bool{}
		Eventually(func(g Gomega) {
			away := 0
			for _, connection := range f.connections(g, ctx) {
				identities[connection.Status.IdentityHash] = true
				if readyStatus(&connection) == "False/Unreachable" {
					away++
				}
			}
			g.Expect(away).To(Equal(refusing + silent))
		}).WithTimeout(time.Minute).Should(Succeed())
		Expect(identities).To(HaveLen(living+refusing+silent), "none shares its connection")
		Expect(f.ready(Default, ctx)).To(Equal(since), "all that live, without a break")
	})

	It("reconciles exactly the PooledJobs of the target that comes back", func(ctx context.Context) {
		const few, many = 5, 40
		counted := &tally{seen: map[string]int{}}
		operator.stop()
		*operator = *startOperator(operator.scheme, counted.logger())
		DeferCleanup(func() { operator.restart() })
		mine, others := newWorld(ctx), newWorld(ctx)
		back, away := mine.link(ctx, theTarget(ctx), "back"), others.link(ctx, theTarget(ctx), "away")
		for _, l := range []*link{back, away} {
			l.breakLine()
			l.expectAway(ctx)
		}
		for range few {
			mine.submit(ctx, back.on)
		}
		for range many {
			others.submit(ctx, away.on)
		}
		Eventually(counted.of(others)).WithContext(ctx).Should(BeNumerically(">=", many))
		before := 0
		Eventually(func() bool { // all is said that there is to say
			former := before
			before = counted.of(others)()
			return before == former
		}).WithPolling(quiet).Should(BeTrue())
		beforeMine := counted.of(mine)()

		back.mendLine()
		Eventually(back.jobs(mine.name)).WithContext(ctx).Should(HaveLen(few))
		Expect(counted.of(mine)()-beforeMine).To(BeNumerically(">=", few), "it does count")
		Consistently(counted.of(others)).Should(Equal(before), "PooledJobs of the other target were looked at")
		Expect(away.jobs(others.name)(Default, ctx)).To(BeEmpty())

		away.mendLine()
		Eventually(away.jobs(others.name)).WithContext(ctx).Should(HaveLen(many))
	})
})
