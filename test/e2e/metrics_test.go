package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localenv"
)

var _ = Describe("The manager's metrics", Label("local"), func() {
	BeforeEach(onlyLocal)

	It("show the state and figures of every connection", func(ctx context.Context) {
		Eventually(func(g Gomega) {
			page := managerMetrics(g, ctx)
			for _, name := range []string{"target-1", "target-2"} {
				of := fmt.Sprintf("connection=%q", name)
				for figure, value := range map[string]float64{"up": 1, "sockets": 1, "watches": 2} {
					g.Expect(page.of("pooledjob_connection_"+figure, of)).To(ConsistOf(value), "%s of %s", figure, name)
				}
				g.Expect(page.of("pooledjob_connection_state", of, `state="Ready"`)).To(ConsistOf(1.0), name)
				for _, figure := range []string{
					"requests_in_flight", "requests_queued", "probe_duration_seconds", "watch_silence_seconds", "credential_expiry_timestamp_seconds",
				} {
					g.Expect(page.of("pooledjob_connection_"+figure, of)).To(HaveLen(1), "%s of %s", figure, name)
				}
				g.Expect(page.of("pooledjob_connection_informer_objects", of)).To(HaveLen(2), name)
			}
		}).WithContext(ctx).Should(Succeed())
	})

	It("omit a connection that is deleted, and name no target's host in rest_client metrics", func(ctx context.Context) {
		way := newForwarder(ctx, local.Targets[0].Config().Host)
		connection := connect(ctx, "passing", way.url())
		of := `connection="passing"`
		Expect(managerMetrics(Default, ctx).of("pooledjob_connection_up", of)).To(ConsistOf(1.0))
		Expect(connectionsTo(way.url())(Default)).To(HaveKeyWithValue(portOf(way.url()), 1))

		Expect(hub.Delete(ctx, connection)).To(Succeed())
		Eventually(gone(connection)).WithContext(ctx).Should(BeTrue())
		Eventually(func(g Gomega) {
			g.Expect(managerMetrics(g, ctx).with("passing")).To(BeEmpty())
		}).WithContext(ctx).Should(Succeed())
		Eventually(connectionsTo(way.url())).Should(BeEmpty())

		page := managerMetrics(Default, ctx)
		Expect(page.of("rest_client_requests_total", fmt.Sprintf("host=%q", hostOf(local.Hub.Config().Host)))).NotTo(BeEmpty(), "requests to the hub are counted")
		hosts := []string{hostOf(way.url())}
		for _, target := range local.Targets {
			hosts = append(hosts, hostOf(target.Config().Host))
		}
		for _, host := range hosts {
			Expect(page.with(host)).NotTo(ContainElement(HavePrefix("rest_client")))
		}
	})
})

// connect makes a ClusterConnection to the first target by that address, which nobody
// may use, and waits until it is Ready.
func connect(ctx context.Context, name, address string) *v1alpha1.ClusterConnection {
	kubeconfig, err := local.Targets[0].KubeconfigFor("pooledjob")
	Expect(err).NotTo(HaveOccurred())
	config, err := clientcmd.Load(kubeconfig)
	Expect(err).NotTo(HaveOccurred())
	for _, cluster := range config.Clusters {
		cluster.Server = address
	}
	kubeconfig, err = clientcmd.Write(*config)
	Expect(err).NotTo(HaveOccurred())
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: localenv.Namespace, Name: name},
		Data:       map[string][]byte{"kubeconfig": kubeconfig},
	}
	Expect(hub.Create(ctx, secret)).To(Succeed())
	DeferCleanup(func(ctx context.Context) { Expect(hub.Delete(ctx, secret)).To(Succeed()) })
	connection := &v1alpha1.ClusterConnection{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.ClusterConnectionSpec{KubeconfigSecretRef: v1alpha1.SecretKeyReference{Name: name}},
	}
	Expect(hub.Create(ctx, connection)).To(Succeed())
	Eventually(latest(connection)).WithContext(ctx).Should(beReady())
	return connection
}

// metricsPage are the series of a metrics endpoint, one a line.
type metricsPage struct{ lines []string }

func newMetricsPage(text string) metricsPage {
	lines := strings.Split(text, "\n")
	return metricsPage{slices.DeleteFunc(lines, func(line string) bool { return line == "" || line[0] == '#' })}
}

// with returns the series that have the text in them.
func (p metricsPage) with(text string) []string {
	return slices.DeleteFunc(slices.Clone(p.lines), func(line string) bool { return !strings.Contains(line, text) })
}

// of returns the values of the series of that name that have all the labels.
func (p metricsPage) of(name string, labels ...string) []float64 {
	var values []float64
	for _, line := range p.lines {
		found, ok := strings.CutPrefix(line, name+"{")
		if !ok || slices.ContainsFunc(labels, func(label string) bool { return !strings.Contains(found, label) }) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		Expect(err).NotTo(HaveOccurred(), line)
		values = append(values, value)
	}
	return values
}

func managerMetrics(g Gomega, ctx context.Context) metricsPage {
	text, err := local.Manager().Metrics(ctx)
	g.Expect(err).NotTo(HaveOccurred())
	return newMetricsPage(text)
}

// watchesOn counts the watches of Jobs and Pods that a target serves, whosoever they
// are.
func watchesOn(target int) func(Gomega, context.Context) float64 {
	return func(g Gomega, ctx context.Context) float64 {
		c, err := kubernetes.NewForConfig(local.Targets[target-1].Config())
		g.Expect(err).NotTo(HaveOccurred())
		text, err := c.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
		g.Expect(err).NotTo(HaveOccurred())
		page, sum := newMetricsPage(string(text)), 0.0
		for _, resource := range []string{"jobs", "pods"} {
			for _, n := range page.of("apiserver_longrunning_requests", `verb="WATCH"`, fmt.Sprintf("resource=%q", resource)) {
				sum += n
			}
		}
		return sum
	}
}
