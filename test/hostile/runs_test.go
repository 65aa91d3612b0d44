package hostile

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// place creates runs of the attacker on a connection, and returns their names.
func place(ctx context.Context, connection string, count int, template string) []string {
	GinkgoHelper()
	t := tenancy{count: count, job: func(int) string { return pooledJob(connection, "", template) }}
	return t.write(ctx)
}

const smallTemplate = `{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"main","image":"main"}]}}}}`

var _ = Describe("A target that attacks with its answers about runs", func() {
	for _, a := range runAttacks() {
		if !isTried(a.name) {
			continue
		}
		It("harms nobody else with "+a.name, func(ctx context.Context) {
			most := settle(ctx)
			connection := attackBy(ctx, &a)
			names := place(ctx, connection.Name, 10, smallTemplate)
			workFor(ctx, hold)
			comesTo(ctx, connection, a.want)
			for _, name := range names[:5] {
				send(ctx, http.MethodPatch, "/"+name, `{"spec":{"cancel":true}}`)
			}
			workFor(ctx, hold)
			clean(ctx)
			survives(most)
		}, NodeTimeout(5*time.Minute))
	}
})

// workFor works for a while.
func workFor(ctx context.Context, d time.Duration) {
	GinkgoHelper()
	for begin := time.Now(); time.Since(begin) < d; {
		work(ctx, 5)
	}
}

const reader = "reader"

// reading is what readers of logs do.
type reading struct {
	name             string
	runs, followers  int
	pods, annotation int
	template, query  string
	reads            bool // what they are sent
}

func readings() []reading {
	return []reading{
		{name: "100 followers of a run with 30 Pods of 250 KB annotations", runs: 1, followers: 100, pods: 30, annotation: 250_000, query: "follow=true"},
		{name: "100 followers of runs with 1,000 Pods", runs: 4, followers: 100, pods: 1000, query: "follow=true"},
		{name: "100 followers of a run with 5,000 Pods", runs: 1, followers: 100, pods: 5000, query: "follow=true"},
		{name: "100 followers of Pods without end", runs: 1, followers: 100, pods: endlessPods, query: "follow=true"},
		{name: "200 followers of all Pods who read nothing", runs: 2, followers: 200, pods: 10, query: "follow=true&allPods=true"},
		{name: "200 readers of logs without end", runs: 2, followers: 200, pods: 1, query: "follow=true", reads: true},
		{name: "200 followers of large PooledJobs", runs: 2, followers: 200, pods: 1, query: "follow=true",
			template: `{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"main","image":"main"}],"tolerations":[` +
				strings.TrimSuffix(strings.Repeat("{},", 20_000), ",") + `]}}}}`},
	}
}

var _ = Describe("Readers of logs who attack", func() {
	var client *http.Client
	var host string

	BeforeEach(OncePerOrdered, func() {
		kubeconfig, err := env.Hub.KubeconfigFor(reader)
		Expect(err).NotTo(HaveOccurred())
		config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
		Expect(err).NotTo(HaveOccurred())
		host = strings.TrimSuffix(config.Host, "/")
		client, err = rest.HTTPClientFor(config)
		Expect(err).NotTo(HaveOccurred())
	})

	// follow opens logs until ctx is done, and returns how many were answered, how many were refused, and why the last was.
	follow := func(ctx context.Context, names []string, r *reading) (answered, refused int, why string) {
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range r.followers {
			all.Go(func() {
				url := fmt.Sprintf("%s/apis/stream.pooledjob.io/v1alpha1/namespaces/%s/pooledjobs/%s/log?%s", host, attacker, names[i%len(names)], r.query)
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
				if err != nil {
					return
				}
				response, err := client.Do(request)
				if err != nil {
					return
				}
				mu.Lock()
				if response.StatusCode == http.StatusOK {
					answered++
				} else {
					text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
					refused, why = refused+1, string(text)
				}
				mu.Unlock()
				if r.reads {
					_, _ = io.Copy(io.Discard, response.Body)
				}
				<-ctx.Done()
				response.Body.Close()
			})
		}
		all.Wait()
		return answered, refused, why
	}

	for _, r := range readings() {
		if !isTried(r.name) || measuresAnother() {
			continue
		}
		It("harm nobody else as "+r.name, func(ctx context.Context) {
			most, ofLogs := settle(ctx), watchPeak(logs.PID())
			attack := attack{begin: func(t *target) {
				runs := takeRuns(t, running)
				runs.showPods(t, r.pods, r.annotation)
				t.on(http.MethodGet, func(w http.ResponseWriter, request *http.Request) {
					if !strings.HasSuffix(request.URL.Path, "/log") {
						runs.get(w, request)
						return
					}
					answerEndless(http.StatusOK, "text/plain", "", "a line of the log\n")(w, request)
				})
			}}
			connection := attackBy(ctx, &attack)
			template := r.template
			if template == "" {
				template = smallTemplate
			}
			names := place(ctx, connection.Name, r.runs, template)
			Eventually(func(g Gomega) {
				for _, name := range names {
					job := &v1alpha1.PooledJob{}
					g.Expect(hub.Get(ctx, clientKey(name), job)).To(Succeed())
					g.Expect(job.Status.JobRef.UID).NotTo(BeEmpty())
				}
			}).WithContext(ctx).Should(Succeed())
			reading, stop := context.WithCancel(ctx)
			var answered, refused int
			var why string
			var followers sync.WaitGroup
			followers.Go(func() { answered, refused, why = follow(reading, names, &r) })
			workFor(ctx, 2*hold)
			stop()
			followers.Wait()
			AddReportEntry(fmt.Sprintf("%d answered, %d refused; the log API took %d MiB; %s", answered, refused, ofLogs.MiB(), why))
			clean(ctx)
			survives(most)
		}, NodeTimeout(5*time.Minute))
	}
})

func clientKey(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: attacker, Name: name}
}

// letRead gives a reader the rights that it has.
func letRead(ctx context.Context) {
	GinkgoHelper()
	Expect(hub.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: attacker, Name: reader},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "pooledjob-editor"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: reader}},
	})).To(Succeed())
}
