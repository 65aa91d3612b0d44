package metrics

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/hubcache"
)

func TestNoSeriesOfAConnectionThatIsGone(t *testing.T) {
	g := NewWithT(t)
	pooledJobs, err := hubcache.NewReader(&rest.Config{}, runtime.NewScheme(), false)
	g.Expect(err).NotTo(HaveOccurred())
	m, registry := New(pooledJobs), prometheus.NewRegistry()
	g.Expect(m.Register(registry)).To(Succeed())
	series := func() (all []string) {
		families, err := registry.Gather()
		g.Expect(err).NotTo(HaveOccurred())
		for _, family := range families {
			for _, metric := range family.GetMetric() {
				all = append(all, family.GetName()+metric.String())
			}
		}
		return all
	}
	empty := series()
	m.Begin("c")
	m.Orphaned("c", 1)
	g.Expect(len(series())).To(BeNumerically(">", len(empty)))
	m.Forget("c")
	g.Expect(series()).To(Equal(empty))
	m.RunDispatched("c", time.Second) // a reconcile that was under way
	m.EndWritten("c", time.Second)
	g.Expect(series()).To(Equal(empty))
	m.RunFinished("c", v1alpha1.PooledJobFailed)
	g.Expect(series()).To(HaveLen(len(empty) + 1))
	g.Expect(series()).To(ContainElement(And(ContainSubstring("pooledjob_runs_finished_total"), MatchRegexp(`name:"connection" +value:""`), ContainSubstring(`"Failed"`))))
}
