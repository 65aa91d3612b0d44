package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// attacker is the namespace of the tenant that attacks.
const attacker = "team-b"

// tenancy is what a tenant that attacks writes to the hub: so many PooledJobs.
type tenancy struct {
	name  string
	count int
	job   func(i int) string
	// refused is true if the API server takes none of them.
	refused bool
	// keep is what goes on after they were created.
	keep func(context.Context, []string)
}

// The API server takes seconds of a core for each write of an object with 100,000 elements, so that a
// tenant with more is stopped by the hub.

// nowhere is a cluster that does not exist.
const nowhere = "nowhere"

func tenancies() []tenancy {
	empties := func(n int) string { return strings.TrimSuffix(strings.Repeat("{},", n), ",") }
	texts := func(n int) string { return strings.TrimSuffix(strings.Repeat(`"",`, n), ",") }
	pod := func(fields string) string {
		return `{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"main","image":"main"}],` + fields + `}}}}`
	}
	container := func(fields string) string {
		return `{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"main","image":"main",` + fields + `}]}}}}`
	}
	plain := pod(`"hostNetwork":false`)
	pairs := func(n int, value string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`"k%d":%q`, i, value))
		}
		return strings.Join(all, ",")
	}
	finalizers := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`"some.example/f%d"`, i))
		}
		return strings.Join(all, ",")
	}
	return []tenancy{
		{name: "30 PooledJobs of empty tolerations to a cluster that does not exist", count: 30, job: func(int) string {
			return pooledJob(nowhere, ``, pod(`"tolerations":[`+empties(20_000)+`]`))
		}},
		{name: "30 PooledJobs of empty tolerations", count: 30, job: func(int) string {
			return pooledJob(attacked, ``, pod(`"tolerations":[`+empties(20_000)+`]`))
		}},
		{name: "30 PooledJobs of empty arguments", count: 30, job: func(int) string {
			return pooledJob(attacked, ``, container(`"args":[`+texts(20_000)+`]`))
		}},
		{name: "30 PooledJobs of a large node selector", count: 30, job: func(int) string {
			return pooledJob(attacked, ``, pod(`"nodeSelector":{`+pairs(5_000, "v")+`}`))
		}},
		{name: "30 PooledJobs with 5,000 labels", count: 30, job: func(int) string {
			return pooledJob(nowhere, `"labels":{`+pairs(5_000, "v")+`}`, plain)
		}},
		{name: "30 PooledJobs with 5,000 finalizers", count: 30, job: func(int) string {
			return pooledJob(attacked, `"finalizers":[`+finalizers(5_000)+`]`, plain)
		}},
		{name: "400 PooledJobs with 240 KiB of annotations", count: 400, job: func(int) string {
			return pooledJob(nowhere, `"annotations":{"a":"`+strings.Repeat("a", 240<<10)+`"}`, plain)
		}},
		{name: "PooledJobs of giant quantities", count: 20, job: func(int) string {
			return pooledJob(attacked, ``, container(`"resources":{"limits":{"cpu":"1e300000000","memory":"`+strings.Repeat("9", 100_000)+`"}}`))
		}},
		{name: "1,000 PooledJobs of 60 KiB", count: 1000, job: func(int) string {
			return pooledJob(nowhere, ``, container(`"args":["`+strings.Repeat("a", 60<<10)+`"]`))
		}},
		{name: "large PooledJobs that change all the time", count: 10, job: func(int) string {
			return pooledJob(nowhere, ``, pod(`"tolerations":[`+empties(20_000)+`]`))
		}, keep: func(ctx context.Context, names []string) {
			for i, begin := 0, time.Now(); time.Since(begin) < 10*time.Second; i++ {
				send(ctx, http.MethodPatch, "/"+names[i%len(names)], fmt.Sprintf(`{"metadata":{"labels":{"i":"%d"}}}`, i))
			}
		}},
		{name: "5,000 small PooledJobs", count: 5000, job: func(int) string { return pooledJob(nowhere, ``, plain) }},
		{name: "PooledJobs with selectors of a MiB", refused: true, count: 3, job: func(int) string {
			return `{"apiVersion":"pooledjob.io/v1alpha1","kind":"PooledJob","metadata":{"generateName":"attack-"},"spec":{"clusterSelector":{"matchLabels":{"a":"` +
				strings.Repeat("a", 1<<20) + `"}},"template":` + plain + `}}`
		}},
	}
}

func pooledJob(cluster, metadata, template string) string {
	if metadata != "" {
		metadata += ","
	}
	return fmt.Sprintf(`{"apiVersion":"pooledjob.io/v1alpha1","kind":"PooledJob","metadata":{%s"generateName":"attack-"},"spec":{"clusterName":%q,"targetNamespace":%q,"template":%s}}`,
		metadata, cluster, team, template)
}

var hubClient = sync.OnceValues(func() (*http.Client, error) { return rest.HTTPClientFor(env.Hub.Config()) })

// send sends a request for PooledJobs of the attacker, and returns the answer's code and body.
func send(ctx context.Context, method, path, body string) (code int, answer []byte) {
	GinkgoHelper()
	c, err := hubClient()
	Expect(err).NotTo(HaveOccurred())
	url := strings.TrimSuffix(env.Hub.Config().Host, "/") + "/apis/pooledjob.io/v1alpha1/namespaces/" + attacker + "/pooledjobs" + path
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader([]byte(body)))
	Expect(err).NotTo(HaveOccurred())
	request.Header.Set("Content-Type", map[string]string{http.MethodPost: "application/json", http.MethodPatch: "application/merge-patch+json"}[method])
	response, err := c.Do(request)
	Expect(err).NotTo(HaveOccurred())
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	Expect(err).NotTo(HaveOccurred())
	return response.StatusCode, answer
}

// write creates what a tenant attacks with, and returns the names.
func (t *tenancy) write(ctx context.Context) (names []string) {
	GinkgoHelper()
	var mu sync.Mutex
	var all sync.WaitGroup
	next := make(chan int)
	for range 4 {
		all.Go(func() {
			defer GinkgoRecover()
			for i := range next {
				code, answer := send(ctx, http.MethodPost, "", t.job(i))
				if t.refused {
					Expect(code).To(Equal(http.StatusUnprocessableEntity))
					continue
				}
				Expect(code).To(Equal(http.StatusCreated), "%.500s", answer)
				var made struct{ Metadata struct{ Name string } }
				Expect(json.Unmarshal(answer, &made)).To(Succeed())
				mu.Lock()
				names = append(names, made.Metadata.Name)
				mu.Unlock()
			}
		})
	}
	for i := range t.count {
		next <- i
	}
	close(next)
	all.Wait()
	return names
}

// clean deletes all PooledJobs of the attacker, whatever finalizers they have.
func clean(ctx context.Context) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(hub.DeleteAllOf(ctx, &v1alpha1.PooledJob{}, client.InNamespace(attacker))).To(Succeed())
		left := &metav1.PartialObjectMetadataList{}
		left.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PooledJobList"))
		g.Expect(hub.List(ctx, left, client.InNamespace(attacker))).To(Succeed())
		for _, job := range left.Items {
			send(ctx, http.MethodPatch, "/"+job.Name, `{"metadata":{"finalizers":null}}`)
		}
		g.Expect(left.Items).To(BeEmpty())
	}).WithContext(ctx).WithPolling(time.Second).Should(Succeed())
}

var _ = Describe("A tenant that attacks", func() {
	for _, t := range tenancies() {
		if !isTried(t.name) {
			continue
		}
		It("harms nobody else with "+t.name, func(ctx context.Context) {
			most := settle(ctx)
			names := t.write(ctx)
			if t.keep != nil {
				t.keep(ctx, names)
			}
			work(ctx, 5)
			clean(ctx)
			survives(most)
		}, NodeTimeout(5*time.Minute))
	}
})
