package connpool

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/pooledjob/pooledjob/internal/connpool/store"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// The suite runs pools against one real API server without controllers, so that
// every moment of a Job's life can be held still. A proxy stands between and plays
// the network; a small server of our own gives the answers that no real one would.
var (
	cluster    *localcluster.Cluster
	client     kubernetes.Interface
	clusterUID string
)

const (
	patience = 15 * time.Second
	// quiet is how long something must not happen before it counts as not
	// happening. It bounds what a test can miss, not what it can wrongly find.
	quiet = time.Second

	// target names the connection of most specs.
	target = "target"
	// runLabel keeps the specs, which share a cluster, apart: each selects its
	// own value.
	runLabel = "connpool.test/run"
	keyLabel = "connpool.test/key"
)

func TestConnpool(t *testing.T) {
	localcluster.SkipIfShort(t)
	RegisterFailHandler(Fail)
	EnforceDefaultTimeoutsWhenUsingContexts()
	SetDefaultEventuallyTimeout(patience)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	SetDefaultConsistentlyDuration(quiet)
	RunSpecs(t, "Connpool")
}

var _ = BeforeSuite(func(ctx context.Context) {
	var err error
	cluster, err = localcluster.Start(ctx, localcluster.Options{Name: "target"})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(cluster.Stop)
	client, err = kubernetes.NewForConfig(cluster.Config())
	Expect(err).NotTo(HaveOccurred())
	// The API server makes it a moment after it has become healthy.
	var namespace *corev1.Namespace
	Eventually(ctx, func() error {
		namespace, err = client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		return err
	}).Should(Succeed())
	clusterUID = string(namespace.UID)
	Eventually(ctx, func() error {
		_, err = client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{})
		return err
	}).Should(Succeed())
})

// rig is a pool and what it has told.
type rig struct {
	pool *Pool
	run  string // the value of runLabel
	// stop ends the pool's context.
	stop context.CancelFunc

	mu      sync.Mutex
	states  []State
	changes map[string]int
	logged  strings.Builder
}

// newRig makes an empty pool that ends with the spec.
func newRig(changes ...func(*Options)) *rig {
	r := &rig{run: uniqueName("run"), changes: map[string]int{}}
	log := funcr.New(func(prefix, args string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Fprintln(&r.logged, prefix, args)
		fmt.Fprintln(GinkgoWriter, prefix, args)
	}, funcr.Options{Verbosity: 4})
	options := Options{
		Selector: runLabel + "=" + r.run, KeyLabel: keyLabel, UserAgent: "connpool-test", Log: log,
		OnState: r.onState, OnChange: r.onChange,
		ProbeInterval: 300 * time.Millisecond, ProbeTimeout: 3 * time.Second, RequestTimeout: patience,
		MinBackoff: 50 * time.Millisecond, MaxBackoff: 300 * time.Millisecond, ReviewInterval: 300 * time.Millisecond,
	}
	for _, change := range changes {
		change(&options)
	}
	// The reflectors log to the logger of their context.
	ctx, cancel := context.WithCancel(logr.NewContext(context.Background(), log))
	r.pool, r.stop = New(ctx, options), cancel
	DeferCleanup(func() {
		cancel()
		r.pool.Wait()
	})
	return r
}

func (r *rig) onState(name string, _ bool) {
	status, ok := r.pool.Status(name)
	if !ok {
		return // it was disconnected
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states = append(r.states, status.State)
}

func (r *rig) onChange(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes[key]++
}

// transitions returns the states that OnState found, in order.
func (r *rig) transitions() []State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]State{}, r.states...)
}

// changesOf counts the calls of OnChange for a key.
func (r *rig) changesOf(key string) func() int {
	return func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.changes[key]
	}
}

func (r *rig) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logged.String()
}

// stateOf reads the state of a connection.
func (r *rig) stateOf(name string) func() State {
	return func() State {
		status, _ := r.pool.Status(name)
		return status.State
	}
}

func (r *rig) status() Status {
	status, ok := r.pool.Status(target)
	ExpectWithOffset(1, ok).To(BeTrue())
	return status
}

// connect connects and waits until the connection is Ready.
func (r *rig) connect(ctx context.Context, name string, config Config) *Lease {
	r.pool.Connect(name, config)
	EventuallyWithOffset(1, ctx, r.stateOf(name)).Should(Equal(Ready))
	return r.lease(name)
}

func (r *rig) lease(name string) *Lease {
	lease, err := r.pool.Lease(name, "")
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	return lease
}

// jobsIn returns the Jobs in view, with their namespaces.
func jobsIn(l *Lease) (names []string) {
	for job := range l.Jobs() {
		names = append(names, job.Namespace+"/"+job.Name)
	}
	return names
}

// keyed returns the lease as another run has it.
func keyed(l *Lease, key string) *Lease {
	other := *l
	other.key, other.made = key, store.MadePods{}
	return &other
}

// adminConfig reaches the cluster as its administrator, through the proxy.
func adminConfig(through *proxy) Config { return configOf(cluster.Config(), through) }

func configOf(c *rest.Config, through *proxy) Config {
	config := Config{Identity: Identity{Server: c.Host, CAData: c.CAData, CertData: c.CertData, KeyData: c.KeyData}}
	if through != nil {
		config.Server = "https://" + through.address
	}
	return config
}

// caOf returns the certificate in PEM.
func caOf(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}

var serial int

// uniqueName returns a name that no other spec uses.
func uniqueName(prefix string) string {
	serial++
	return fmt.Sprintf("%s-%d-%d", prefix, GinkgoParallelProcess(), serial)
}
