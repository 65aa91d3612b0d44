package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fakekubelet"
)

// podOf returns the Pod of a run, once it runs.
func podOf(ctx context.Context, name string) *corev1.Pod {
	GinkgoHelper()
	var found *corev1.Pod
	Eventually(func(g Gomega) {
		job := jobNamed(ctx, name)(g)
		pods := &corev1.PodList{}
		g.Expect(target.List(ctx, pods, client.InNamespace(team), client.MatchingLabels{v1alpha1.LabelUID: string(job.UID)})).To(Succeed())
		g.Expect(pods.Items).To(HaveLen(1))
		g.Expect(pods.Items[0].Status.Phase).NotTo(Equal(corev1.PodPending))
		found = &pods.Items[0]
	}).Should(Succeed())
	return found
}

// logOf returns what the container of a run writes.
func logOf(ctx context.Context, name string) *fakekubelet.Log {
	GinkgoHelper()
	return kubelet.Log(team, podOf(ctx, name).Name, "main")
}

var _ = Describe("The output of a run", func() {
	It("contains all that the container prints, while it runs and up to its end", func(ctx context.Context) {
		name := uniqueName("output")
		session := plug(developer, inTeam(runArgs(name, behaviour(3, 5))...)...)
		log := logOf(ctx, name)
		log.Print("one", "two")
		Eventually(session.Out.Contents).Should(BeEquivalentTo("one\ntwo\n"), "while it runs")
		Expect(session).NotTo(gexec.Exit())
		log.Print("three")
		log.End()
		Eventually(session).Should(gexec.Exit(5))
		Expect(stdout(session)).To(Equal("one\ntwo\nthree\n"))
		Expect(stderr(session)).NotTo(ContainSubstring("log"))
	})

	It("contains each line once although the manager is killed and restarted meanwhile", func(ctx context.Context) {
		name := uniqueName("broken")
		running := plug(developer, inTeam(runArgs(name, behaviour(3600, 0))...)...)
		log := logOf(ctx, name)
		following := plug(developer, "logs", "-f", name, "-n", team)
		var want strings.Builder
		write := func(from, to int) {
			for i := from; i < to; i++ {
				line := fmt.Sprintf("line %d of %s", i, name)
				log.Print(line)
				want.WriteString(line + "\n")
			}
		}
		write(0, 100)
		for _, session := range []*gexec.Session{running, following} {
			Eventually(session.Out.Contents).Should(BeEquivalentTo(want.String()))
		}
		Expect(env.KillManager()).To(Succeed())
		write(100, 200)
		Expect(env.StartManager(ctx)).To(Succeed())
		for _, session := range []*gexec.Session{running, following} {
			Eventually(session.Out.Contents).Should(BeEquivalentTo(want.String()))
		}
		write(200, 210)
		log.End()
		Expect(dev("cancel", name)).To(gexec.Exit(0))
		Eventually(following).Should(gexec.Exit(0))
		Eventually(running).Should(gexec.Exit())
		for _, session := range []*gexec.Session{running, following} {
			Expect(stdout(session)).To(Equal(want.String()))
		}
	}, NodeTimeout(2*time.Minute))

	It("does not affect the exit code of the command when the log cannot be read", func(ctx context.Context) {
		name := uniqueName("nolog")
		session := plug(developer, inTeam(runArgs(name, behaviour(1, 6))...)...)
		logOf(ctx, name).Refuse(500, "the disk is gone")
		Eventually(session).WithTimeout(time.Minute).Should(gexec.Exit(6))
		Expect(stderr(session)).To(MatchRegexp(`(?m)^%s/%s: the end of the log cannot be shown: .*the disk is gone`, team, name))
		Expect(stdout(session)).To(BeEmpty())
	})
})

var _ = Describe("logs", func() {
	It("prints the lines that its flags ask for, with and without --follow", func(ctx context.Context) {
		name := uniqueName("printed")
		Expect(dev(append(runArgs(name, behaviour(0.1, 0)), "--detach")...)).To(gexec.Exit(0))
		Expect(dev("wait", name)).To(gexec.Exit(0))
		log := logOf(ctx, name)
		at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
		log.PrintAt(at, "one", "two")
		log.PrintAt(at.Add(time.Minute), "three")
		log.End()
		pod := podOf(ctx, name).Name
		for _, c := range []struct {
			want string
			args []string
		}{
			{"one\ntwo\nthree\n", nil},
			{"three\n", []string{"--tail", "1"}},
			{"three\n", []string{"--since-time", "2026-03-04T05:06:30Z"}},
			{"one", []string{"--limit-bytes", "3"}},
			{"2026-03-04T05:07:07.000000000Z three\n", []string{"--timestamps", "--tail", "1"}},
			{"[" + pod + "] three\n", []string{"--all-pods", "--tail", "1"}},
			{"one\ntwo\nthree\n", []string{"--pod", pod, "-c", "main"}},
		} {
			for _, follow := range []string{"--follow=false", "--follow"} {
				session := dev(append([]string{"logs", name, follow}, c.args...)...)
				Expect(session).To(gexec.Exit(0), "%v", c.args)
				Expect(stdout(session)).To(Equal(c.want), "%v %s", c.args, follow)
			}
		}
		session := dev("logs", name, "-c", "other")
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(And(HavePrefix("error: "), ContainSubstring("other")))
	})

	It("reports why there is no log to print", func(ctx context.Context) {
		session := dev("logs", "gone")
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring(`PooledJob`))
		name := uniqueName("unstarted")
		Expect(dev("run", name, "--image", "b", "--cluster", "nowhere", "--detach")).To(gexec.Exit(0))
		session = dev("logs", name)
		Expect(session).To(gexec.Exit(1))
		Expect(dev("cancel", name)).To(gexec.Exit(0))

		By("the Pods being gone with the run that was stopped")
		stopped := uniqueName("stopped")
		Expect(dev(append(runArgs(stopped, behaviour(3600, 0)), "--detach")...)).To(gexec.Exit(0))
		podOf(ctx, stopped)
		Expect(dev("cancel", stopped)).To(gexec.Exit(0))
		session = dev("logs", stopped)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("its Pods were deleted when the run was stopped, and their log with them. It is Failed (Cancelled)"))

		By("having no log API on the hub")
		Expect(env.KillManager()).To(Succeed())
		session = dev("logs", name)
		Expect(env.StartManager(ctx)).To(Succeed())
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(MatchRegexp(`^error: the hub's log API does not answer \(.*\): ask who runs the hub whether the manager is up`))
	}, NodeTimeout(time.Minute))
})
