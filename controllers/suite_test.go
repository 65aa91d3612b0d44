package controllers

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/pooledjob/pooledjob/controllers/orphan"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/hubid"
	"github.com/pooledjob/pooledjob/test/fixtures"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// The suite runs the reconcilers on a real hub and a real target that have an API
// server and nothing else: the tests play the target's Job controller, so that
// every moment of a Job's life can be held still.
var (
	hubCluster, targetCluster *localcluster.Cluster
	hub, target               client.Client
	operator                  *operatorProcess
)

const (
	systemNamespace = "pooledjob-system"
	// patience is for what takes some requests.
	patience = 15 * time.Second
	// quiet is how long something must not happen before it counts as not
	// happening. It bounds what a test can miss, not what it can wrongly find.
	quiet = time.Second
	// expiryWarning is how long before its end a credential is warned about.
	expiryWarning = 4 * time.Second
)

// orphanOptions are those of operators that start from now on.
var orphanOptions = orphan.Options{Interval: time.Second, Confirmation: 200 * time.Millisecond}

// clockOffset is how far the operator's clock is ahead of the real one, in
// nanoseconds.
var clockOffset atomic.Int64

func operatorNow() time.Time { return time.Now().Add(time.Duration(clockOffset.Load())) }

// operatorClock is the operator's clock.
type operatorClock struct{}

func (operatorClock) Now() time.Time { return operatorNow() }

func (operatorClock) Since(t time.Time) time.Duration { return operatorNow().Sub(t) }

func TestControllers(t *testing.T) {
	localcluster.SkipIfShort(t)
	RegisterFailHandler(Fail)
	EnforceDefaultTimeoutsWhenUsingContexts()
	SetDefaultEventuallyTimeout(patience)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	SetDefaultConsistentlyDuration(quiet)
	RunSpecs(t, "Controllers")
}

var _ = BeforeSuite(func(ctx context.Context) {
	logf.SetLogger(zap.New(zap.WriteTo(GinkgoWriter), zap.UseDevMode(true)))
	scheme := fixtures.Scheme()

	hubCluster, hub = startCluster(ctx, "hub", scheme)
	targetCluster, target = startCluster(ctx, "target", scheme)
	_, err := envtest.InstallCRDs(hubCluster.Config(), envtest.CRDInstallOptions{
		Paths: []string{filepath.Join("..", "config", "crd")}, ErrorIfPathMissing: true,
	})
	Expect(err).NotTo(HaveOccurred())
	Expect(hub.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: systemNamespace}})).To(Succeed())
	operator = startOperator(scheme)
})

var _ = AfterSuite(func() {
	if operator != nil {
		operator.stop()
	}
})

func startCluster(ctx context.Context, name string, scheme *runtime.Scheme) (*localcluster.Cluster, client.Client) {
	cluster, err := localcluster.Start(ctx, localcluster.Options{Name: name})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(cluster.Stop)
	c, err := client.New(cluster.Config(), client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	return cluster, c
}

// operatorProcess is a manager in this process.
type operatorProcess struct {
	scheme *runtime.Scheme
	hubID  string
	cancel context.CancelFunc
	ended  chan error
	wait   func()
	// metrics has the pool's figures.
	metrics *prometheus.Registry
}

// startOperator starts a manager, which logs to log or, without one, to Ginkgo.
func startOperator(scheme *runtime.Scheme, log ...logr.Logger) *operatorProcess {
	logger := append(log, logf.Log)[0]
	skip := true
	pooledJobs, err := hubcache.NewReader(hubCluster.Config(), scheme, true)
	Expect(err).NotTo(HaveOccurred())
	mgr, err := ctrl.NewManager(hubCluster.Config(), ctrl.Options{
		Scheme: scheme, Metrics: server.Options{BindAddress: "0"}, Cache: hubcache.CacheOptions(systemNamespace, pooledJobs, true),
		Controller: config.Controller{SkipNameValidation: &skip}, Logger: logger,
	})
	Expect(err).NotTo(HaveOccurred())
	ctx, cancel := context.WithCancel(context.Background())
	hubID, err := hubid.Ensure(ctx, hub, pooledJobs, systemNamespace)
	Expect(err).NotTo(HaveOccurred())
	p := &operatorProcess{scheme: scheme, hubID: hubID, cancel: cancel, ended: make(chan error, 1), metrics: prometheus.NewRegistry()}
	p.wait, err = Setup(ctx, mgr, Options{
		Namespace: systemNamespace, HubID: hubID, Workers: 8, PooledJobs: pooledJobs,
		Clock: operatorClock{}, ExpiryWarning: expiryWarning, Metrics: p.metrics, Orphans: orphanOptions,
		Pool: connpool.Options{
			UserAgent: "pooledjob-test", Log: logger.WithName("connpool"),
			ProbeInterval: 500 * time.Millisecond, MinBackoff: 100 * time.Millisecond, MaxBackoff: time.Second,
			ReviewInterval: 500 * time.Millisecond,
		},
	})
	Expect(err).NotTo(HaveOccurred())
	go func() { p.ended <- mgr.Start(ctx) }()
	return p
}

func (p *operatorProcess) stop() {
	p.cancel()
	Eventually(p.ended).WithTimeout(time.Minute).Should(Receive(BeNil()))
	p.wait()
}

// restart replaces the operator by a new one, which remembers nothing.
func (p *operatorProcess) restart() {
	p.stop()
	*p = *startOperator(p.scheme)
}

var serial int

// uniqueName returns a name that no other spec uses.
func uniqueName(prefix string) string {
	serial++
	return fmt.Sprintf("%s-%d-%d", prefix, GinkgoParallelProcess(), serial)
}
