package logs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

// takeover bounds the time until another manager leads: a lease lasts 15 seconds.
const takeover = time.Minute

var _ = Describe("The number of logs at a time", func() {
	It("does not exceed --logs-per-user and --logs-per-connection, beyond which requests get 429", func(ctx context.Context) {
		serveBy(ctx, launch(ctx, "--logs-per-user=2", "--logs-per-connection=3"))
		r := submit(ctx, 1)
		_, log := r.started(ctx)
		log.Print("one")
		first := followAs(ctx, editor, r, "")
		followAs(ctx, editor, r, "")
		Eventually(log.Open).WithContext(ctx).Should(Equal(2))
		for _, query := range []string{"", "follow=true"} {
			got := readAs(ctx, editor, r, query)
			Expect(got).To(beRefused(http.StatusTooManyRequests, `user "editor" follows or reads 2 logs already`, "--logs-per-user"))
			Expect(got.Header.Get("Retry-After")).NotTo(BeEmpty())
		}
		followAs(ctx, viewer, r, "")
		Eventually(log.Open).WithContext(ctx).Should(Equal(3))
		Expect(readAs(ctx, third, r, "")).To(beRefused(http.StatusTooManyRequests, `of ClusterConnection "target-1" 3 logs are followed or read already`, "--logs-per-connection"))

		By("another connection has room")
		elsewhere := submit(ctx, 2)
		_, otherLog := elsewhere.started(ctx)
		otherLog.Print("two")
		Expect(readAs(ctx, third, elsewhere, "")).To(haveLog("two\n"))

		By("so has this one when somebody leaves")
		first.leave()
		Eventually(func() answer { return readAs(ctx, third, r, "") }).WithContext(ctx).Should(haveLog("one\n"))
		Expect(readAs(ctx, editor, r, "")).To(haveLog("one\n"))
	}, NodeTimeout(2*time.Minute))
})

var _ = Describe("A replica of the manager", func() {
	It("serves logs without leading, and continues when the leader is killed", func(ctx context.Context) {
		replica := start(ctx)
		Expect(leads(ctx, manager)).To(BeTrue())
		Expect(leads(ctx, replica)).To(BeFalse())
		Expect(env.ServeLogsBy(ctx, replica)).To(Succeed())
		r := submit(ctx, 1)
		pod, log := r.started(ctx)
		log.Print("one")
		Expect(readAs(ctx, editor, r, "")).To(haveLog("one\n"))
		f := followAs(ctx, editor, r, "")
		Eventually(f.text).WithContext(ctx).Should(Equal("one\n"))

		Expect(manager.Kill()).To(Succeed())
		manager = replica // the only one there is
		log.Print("two")
		Eventually(f.text).WithContext(ctx).Should(Equal("one\ntwo\n"))
		Expect(readAs(ctx, editor, r, "")).To(haveLog("one\ntwo\n"))
		Expect(log.Streams()).To(HaveLen(3), "one for each request: the follower's did not break")

		By("the follower learns of the end of the run when there is a leader again")
		r.end(ctx, pod, 0)
		Eventually(f.ended).WithContext(ctx).WithTimeout(takeover).Should(Receive(BeNil()))
		Expect(leads(ctx, replica)).To(BeTrue())
	}, NodeTimeout(3*time.Minute))

	DescribeTable("fails its followers, and does not end their logs as if they were complete, when it is",
		func(ctx context.Context, end func(*localenv.Manager) error) {
			replica := launch(ctx)
			serveBy(ctx, replica)
			r := submit(ctx, 1)
			_, log := r.started(ctx)
			log.Print("one")
			f := followAs(ctx, editor, r, "")
			Eventually(f.text).WithContext(ctx).Should(Equal("one\n"))
			Expect(end(replica)).To(Succeed())
			Eventually(f.ended).WithContext(ctx).Should(Receive(HaveOccurred()))
			Eventually(log.Open).WithContext(ctx).WithTimeout(2 * time.Second).Should(BeZero())
		},
		Entry("killed", (*localenv.Manager).Kill),
		Entry("stopped in order", (*localenv.Manager).Stop),
	)
})

var _ = Describe("A manager", func() {
	// succeed runs something to its end.
	succeed := func(ctx context.Context) {
		GinkgoHelper()
		r := submit(ctx, 1, annotated(localcluster.DurationAnnotation, "100ms"))
		Eventually(r.latest).WithContext(ctx).WithTimeout(takeover).Should(haveEnded(v1alpha1.PooledJobSucceeded))
	}

	It("works without the log API's APIService and rights, and serves logs as soon as they are there", func(ctx context.Context) {
		install := func(ctx context.Context) error {
			return errors.Join(localenv.Apply(ctx, hub, filepath.Join(env.Root, "config", "logs", "apiservice.yaml")), env.LetManagerServeLogs(ctx))
		}
		DeferCleanup(func(ctx context.Context) { _ = install(ctx) }) // should the spec fail
		Expect(hub.Delete(ctx, apiService(Default, ctx))).To(Succeed())
		Expect(env.KeepManagerFromLogs(ctx)).To(Succeed())
		Expect(manager.Stop()).To(Succeed())
		manager = start(ctx)
		succeed(ctx)
		Eventually(managerLog).WithContext(ctx).Should(And(ContainSubstring("reading APIService v1alpha1.stream.pooledjob.io"), ContainSubstring("; bind the roles of config/logs")))

		Expect(install(ctx)).To(Succeed())
		Expect(env.ServeLogsBy(ctx, manager)).To(Succeed())
		r := submit(ctx, 1)
		_, log := r.started(ctx)
		log.Print("one")
		Eventually(func() answer { return readAs(ctx, editor, r, "") }).WithContext(ctx).WithTimeout(time.Minute).Should(haveLog("one\n"))
	}, NodeTimeout(4*time.Minute))

	It("leaves logs to a separate process, and executes runs when that is killed", func(ctx context.Context) {
		serving, err := env.LaunchLogs(ctx)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { Expect(serving.Kill()).To(Succeed()) })
		serveBy(ctx, serving)
		r := submit(ctx, 1)
		_, log := r.started(ctx)
		log.Print("one")
		Eventually(func() answer { return readAs(ctx, editor, r, "") }).WithContext(ctx).Should(haveLog("one\n"))
		page, err := serving.Metrics(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(page).NotTo(ContainSubstring("pooledjob_connection_up"), "it has no connections for runs")
		for verb, want := range map[string]bool{"get": true, "create": false, "patch": false, "delete": false} {
			Expect(may(ctx, localenv.LogsUser, verb, "pooledjobs")).To(Equal(want), verb)
			Expect(may(ctx, localenv.LogsUser, verb, "pooledjobs/status")).To(BeFalse(), verb)
		}
		Expect(serving.Kill()).To(Succeed())
		succeed(ctx)
	})

	It("opens no port for logs with --logs-bind-address=0", func(ctx context.Context) {
		with, without := launch(ctx), launch(ctx, "--logs-bind-address=0")
		Eventually(listening).WithArguments(with).Should(Equal(3), "metrics, health and logs")
		Consistently(listening).WithArguments(without).Should(Equal(2), "metrics and health")
	})

	It("writes the CA to the APIService", func(ctx context.Context) {
		bundle, _, err := unstructured.NestedString(apiService(Default, ctx).Object, "spec", "caBundle")
		Expect(err).NotTo(HaveOccurred())
		Expect(bundle).NotTo(BeEmpty())
		_, insecure, err := unstructured.NestedBool(apiService(Default, ctx).Object, "spec", "insecureSkipTLSVerify")
		Expect(err).NotTo(HaveOccurred())
		Expect(insecure).To(BeFalse())
	})
})

// leads reports whether a manager says that it leads.
func leads(ctx context.Context, m *localenv.Manager) bool {
	page, err := m.Metrics(ctx)
	Expect(err).NotTo(HaveOccurred())
	return strings.Contains(page, `leader_election_master_status{name="pooledjob-manager"} 1`)
}

func managerLog() (string, error) {
	log, err := os.ReadFile(env.ManagerLog())
	return string(log), err
}

// listening returns how many TCP addresses a process listens on, as Linux has it.
func listening(m *localenv.Manager) (n int) {
	const listens = "0A"
	folder := fmt.Sprintf("/proc/%d", m.PID())
	files, err := os.ReadDir(filepath.Join(folder, "fd"))
	Expect(err).NotTo(HaveOccurred())
	own := map[string]bool{}
	for _, file := range files {
		if link, err := os.Readlink(filepath.Join(folder, "fd", file.Name())); err == nil {
			own[link] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		content, err := os.ReadFile(filepath.Join(folder, "net", table))
		if os.IsNotExist(err) {
			continue
		}
		Expect(err).NotTo(HaveOccurred())
		for line := range strings.Lines(string(content)) {
			if fields := strings.Fields(line); len(fields) > 9 && fields[3] == listens && own["socket:["+fields[9]+"]"] {
				n++
			}
		}
	}
	return n
}

// may reports whether a user may do something with PooledJobs on the hub.
func may(ctx context.Context, user, verb, resource string) bool {
	GinkgoHelper()
	resource, subresource, _ := strings.Cut(resource, "/")
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: "team-a", Group: v1alpha1.GroupVersion.Group, Resource: resource, Subresource: subresource, Verb: verb,
		},
	}}
	Expect(hub.Create(ctx, review)).To(Succeed())
	return review.Status.Allowed
}
