package e2e

import (
	"context"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

// managerAgent begins the name that managers give themselves in requests to targets, and
// managerUser is who they are on the hub.
const (
	managerAgent = "pooledjob-manager/"
	managerUser  = "system:serviceaccount:" + localenv.Namespace + ":pooledjob-manager"
)

// requests counts what the manager asked of an API server, by verb and resource, as
// far as the API server has written it down (see localcluster.AuditEvents).
func requests(cluster *localenv.Cluster, pick func(localcluster.AuditEvent) bool) map[string]int {
	events, err := cluster.AuditEvents()
	Expect(err).NotTo(HaveOccurred())
	counts := map[string]int{}
	for _, e := range events {
		if (e.User.Username == managerUser || strings.HasPrefix(e.UserAgent, managerAgent)) && pick(e) {
			resource := e.ObjectRef.Resource
			if e.ObjectRef.Subresource != "" {
				resource += "/" + e.ObjectRef.Subresource
			}
			counts[e.Verb+" "+resource]++
		}
	}
	return counts
}

func everything(localcluster.AuditEvent) bool { return true }

// about picks the requests about an object of that name.
func about(name string) func(localcluster.AuditEvent) bool {
	return func(e localcluster.AuditEvent) bool { return e.ObjectRef.Name == name }
}

// eventOf picks the requests about Events of an object of that name.
func eventOf(name string) func(localcluster.AuditEvent) bool {
	return func(e localcluster.AuditEvent) bool {
		return e.ObjectRef.Resource == "events" && strings.HasPrefix(e.ObjectRef.Name, name+".")
	}
}

var _ = Describe("The requests of the manager", func() {
	BeforeEach(onlyLocal)

	It("come to about four writes on the hub and one POST, GET and DELETE on the target per run", func(ctx context.Context) {
		const number = 20
		target := local.Targets[0]
		kubeSystem := about(metav1.NamespaceSystem)
		before := requests(target, kubeSystem)
		hubID := ""
		jobs := make([]*v1alpha1.PooledJob, number)
		for i := range jobs {
			jobs[i] = newJob(1, fmt.Sprintf("budget-%d", i), behaviour{seconds: 4, exitCode: i % 2})
			Expect(hub.Create(ctx, jobs[i])).To(Succeed())
		}
		for i, job := range jobs {
			Eventually(latest(job)).WithContext(ctx).WithTimeout(patienceForMany).Should(endWith(i % 2))
			hubID = remoteJobs(ctx, job)[0].Labels[v1alpha1.LabelHub]
			Expect(hub.Delete(ctx, job)).To(Succeed())
		}
		writes := 0
		for i, job := range jobs {
			Eventually(gone(job)).WithContext(ctx).Should(BeTrue())
			Eventually(requests).WithArguments(target, about(binding.RemoteName(hubID, job, 0))).Should(Equal(map[string]int{
				"create jobs": 1, "delete jobs": 1, "get jobs": 1,
			}), job.Name)
			onHub := requests(local.Hub, about(job.Name))
			Expect(onHub["patch pooledjobs"]).To(Equal(2), "intent, and finalizer off")
			Expect(onHub).To(HaveLen(2), "%v", onHub)
			writes += onHub["patch pooledjobs"] + onHub["patch pooledjobs/status"]
			events := map[string]int{}
			if i%2 != 0 {
				events["create events"] = 1 // of its failure
			}
			Eventually(requests).WithArguments(local.Hub, eventOf(job.Name)).Should(Equal(events), job.Name)
		}
		// A Pod that takes more than a second to start costs one write more.
		Expect(writes).To(BeNumerically("<=", 4*number+number/4))
		fmt.Fprintf(GinkgoWriter, "%.2f writes on the hub per run\n", float64(writes)/number)
		Expect(requests(target, kubeSystem)).To(Equal(before), "which cluster it is, was asked again")
		Expect(requests(target, about(""))["list pods"]).To(BeNumerically("<=", 4), "the lists of the watches, and no other")
	})

	It("stop when all runs are at rest, and do not return for those after a restart of the manager", func(ctx context.Context) {
		settled, running := newJob(1, "settled", behaviour{}), newJob(1, "running", behaviour{seconds: 3600})
		for _, job := range []*v1alpha1.PooledJob{settled, running} {
			Expect(hub.Create(ctx, job)).To(Succeed())
			DeferCleanup(func(ctx context.Context) {
				Expect(hub.Delete(ctx, job)).To(Succeed())
				Eventually(gone(job)).WithContext(ctx).Should(BeTrue())
			})
		}
		Eventually(latest(settled)).WithContext(ctx).Should(endWith(0))
		Eventually(latest(running)).WithContext(ctx).Should(HaveField("Status.Ready", HaveValue(BeEquivalentTo(1))))
		// The counters of the connection are refreshed once, within 30 seconds.
		const quiet = 5 * time.Second
		said, since := "", time.Time{}
		Eventually(func() time.Duration {
			looked := time.Now() // to look takes a while, in a long audit log
			if now := fmt.Sprint(requests(local.Hub, everything)); now != said {
				said, since = now, looked
			}
			return looked.Sub(since)
		}).WithTimeout(patienceForMany).Should(BeNumerically(">=", quiet), "the hub is asked for something, or written to")
		before := map[string]map[string]int{}
		for _, job := range []*v1alpha1.PooledJob{settled, running} {
			before[job.Name] = requests(local.Hub, about(job.Name))
		}

		Expect(local.StopManager()).To(Succeed())
		Expect(local.StartManager(ctx)).To(Succeed())
		another := newJob(1, "another", behaviour{})
		Expect(hub.Create(ctx, another)).To(Succeed())
		Eventually(latest(another)).WithContext(ctx).Should(endWith(0))
		for _, job := range []*v1alpha1.PooledJob{settled, running} {
			name := remoteJobs(ctx, job)[0].Name
			Expect(requests(local.Targets[0], about(name))).To(Equal(map[string]int{"create jobs": 1}))
			Expect(requests(local.Hub, about(job.Name))).To(Equal(before[job.Name]), job.Name)
		}
		Expect(hub.Delete(ctx, another)).To(Succeed())
		Eventually(gone(another)).WithContext(ctx).Should(BeTrue())
	})
})
