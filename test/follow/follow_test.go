package follow

import (
	"context"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/test/localcluster"
)

func TestFollow(t *testing.T) {
	localcluster.SkipIfShort(t)
	RegisterFailHandler(Fail)
	EnforceDefaultTimeoutsWhenUsingContexts()
	SetDefaultEventuallyTimeout(30 * time.Second)
	RunSpecs(t, "Follow")
}

// diary writes down what is told of ConfigMaps: their names with a value, "-" before the name
// when it is gone.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) write(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

// next returns what was written since the last call.
func (d *diary) next() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

// tells waits until the next lines are those, and expects no others.
func (d *diary) tells(ctx context.Context, lines ...string) {
	GinkgoHelper()
	var told []string
	Eventually(func() []string {
		told = append(told, d.next()...)
		return told
	}).WithContext(ctx).Should(HaveLen(len(lines)))
	Expect(told).To(Equal(lines))
}

var followed = client.MatchingLabels{"followed": "yes"}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: followed}, Data: map[string]string{"value": value}}
}

func unselected(name string) *corev1.ConfigMap {
	m := configMap(name, "0")
	m.Labels = nil
	return m
}

var _ = Describe("A follower of objects", Ordered, func() {
	var cluster *localcluster.Cluster
	var c client.WithWatch
	told := &diary{}

	BeforeAll(func(ctx context.Context) {
		var err error
		cluster, err = localcluster.Start(ctx, localcluster.Options{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { Expect(cluster.Stop()).To(Succeed()) })
		c, err = client.NewWithWatch(cluster.Config(), client.Options{})
		Expect(err).NotTo(HaveOccurred())
		Expect(c.Create(ctx, configMap("first", "1"))).To(Succeed())
		Objects(ctx, c, &corev1.ConfigMap{}, &corev1.ConfigMapList{}, Told[*corev1.ConfigMap]{
			Is:   func(m *corev1.ConfigMap) { told.write(m.Name + " " + m.Data["value"]) },
			Gone: func(m *corev1.ConfigMap) { told.write("-" + m.Name) },
		}, client.InNamespace("default"), followed)
	})

	It("learns at once of the objects that exist", func() {
		Expect(told.next()).To(Equal([]string{"first 1"}))
	})

	It("learns of each change, and of objects that are deleted or no longer selected", func(ctx context.Context) {
		Expect(c.Update(ctx, configMap("first", "2"))).To(Succeed())
		Expect(c.Create(ctx, unselected("second"))).To(Succeed())
		Expect(c.Update(ctx, configMap("second", "2"))).To(Succeed())
		told.tells(ctx, "first 2", "second 2")
		Expect(c.Update(ctx, unselected("second"))).To(Succeed())
		Expect(c.Delete(ctx, configMap("first", ""))).To(Succeed())
		told.tells(ctx, "second 2", "-second", "first 2", "-first")
	})

	It("learns of changes after the API server was restarted", func(ctx context.Context) {
		Expect(cluster.StopProgram(localcluster.APIServer)).To(Succeed())
		Expect(cluster.StartProgram(ctx, localcluster.APIServer)).To(Succeed())
		Expect(c.Create(ctx, configMap("third", "1"))).To(Succeed())
		told.tells(ctx, "third 1")
	})
})
