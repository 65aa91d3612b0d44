package hubcache

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func TestPooledJobsAreFoundByUID(t *testing.T) {
	g, indexer := NewWithT(t), toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{})
	uids, err := newUIDs(indexer)
	g.Expect(err).NotTo(HaveOccurred())
	job := func(uid types.UID) *v1alpha1.PooledJob {
		return &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "job", UID: uid}}
	}
	first, second := job("first"), job("second")
	g.Expect(indexer.Add(first)).To(Succeed())
	g.Expect(uids.Find("first")).To(BeIdenticalTo(first))
	g.Expect(uids.Find("second")).To(BeNil())
	g.Expect(indexer.Update(second)).To(Succeed(), "another object of the same name")
	g.Expect(uids.Find("first")).To(BeNil())
	g.Expect(uids.Find("second")).To(BeIdenticalTo(second))
	g.Expect(indexer.Delete(second)).To(Succeed())
	g.Expect(uids.Find("second")).To(BeNil())
	g.Expect(uids.Find("")).To(BeNil())
}
