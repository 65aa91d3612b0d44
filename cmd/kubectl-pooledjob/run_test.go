package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

var _ = Describe("run", func() {
	It("exits with the exit code of the run, and reports its progress on standard error", func() {
		name := uniqueName("fails")
		session := dev(runArgs(name, behaviour(0.5, 7), "-e", "DAY=2026-11-21", "--requests", "cpu=100m,memory=1Mi", "--", "false")...)
		Expect(session).To(gexec.Exit(7))
		Expect(stderr(session)).To(ContainSubstring(team + "/" + name + ": created\n"))
		Expect(stderr(session)).To(ContainSubstring("runs on " + ordinal))
		Expect(stderr(session)).To(MatchRegexp(`failed.*, exit code 7, BackoffLimitExceeded`))
		Expect(stderr(session)).NotTo(ContainSubstring("\r"), "a spinner is for terminals")
	})

	It("exits with 0 when the run succeeds", func() {
		Expect(dev(runArgs(uniqueName("succeeds"), behaviour(0.1, 0))...)).To(gexec.Exit(0))
	})

	It("exits with 1 when the run fails without an exit code", func() {
		name := uniqueName("refused")
		session := dev("run", name, "--image", "busybox", "--cluster", ordinal, "--target-namespace", "kube-system")
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("failed, NotPermitted: "))
		Expect(stderr(session)).NotTo(ContainSubstring("log"), "a run that never was has none")
		Expect(stdout(session)).To(BeEmpty())
	})

	It("translates its flags into a PooledJob, and creates nothing with --dry-run=server", func(ctx context.Context) {
		name := uniqueName("chosen")
		session := dev("run", name, "--image", "busybox:1.37", "--cluster-selector", "env in (test,prod)", "-e", "A=b,c=d", "--limits", "memory=1Gi",
			"--labels", "app=etl", "--backoff-limit", "2", "--deadline", "1h", "--ttl", "0s", "--dispatch-deadline", "10m",
			"--service-account", "default", "--dry-run=server", "-o", "yaml", "--", "sh", "-c", "echo -n hello")
		Expect(session).To(gexec.Exit(0))
		Expect(stdout(session)).To(And(
			ContainSubstring("kind: PooledJob\n"), ContainSubstring("operator: In"), ContainSubstring("- echo -n hello\n"),
			ContainSubstring("name: A\n"), ContainSubstring("value: b,c=d\n"), ContainSubstring("memory: 1Gi\n"),
			ContainSubstring("activeDeadlineSeconds: 3600\n"), ContainSubstring("backoffLimit: 2\n"),
			ContainSubstring("ttlSecondsAfterFinished: 0\n"), ContainSubstring("dispatchDeadlineSeconds: 600\n"),
			ContainSubstring("app: etl\n"), ContainSubstring("serviceAccountName: default\n"), ContainSubstring("uid: "),
		))
		Expect(client.IgnoreNotFound(hub.Get(ctx, client.ObjectKey{Namespace: team, Name: name}, &v1alpha1.PooledJob{}))).To(Succeed())
		Expect(hub.Get(ctx, client.ObjectKey{Namespace: team, Name: name}, &v1alpha1.PooledJob{})).NotTo(Succeed())
	})

	It("creates nothing with --dry-run=client, and prints the name", func(ctx context.Context) {
		name := uniqueName("dry")
		session := plug(developer, "run", name, "--image", "busybox", "--cluster", ordinal, "--dry-run=client", "-o", "name", "-n", team).Wait()
		Expect(session).To(gexec.Exit(0))
		Expect(stdout(session)).To(Equal("pooledjob.pooledjob.io/" + name + "\n"))
		Expect(hub.Get(ctx, client.ObjectKey{Namespace: team, Name: name}, &v1alpha1.PooledJob{})).NotTo(Succeed())
	})

	It("cancels the run at the first signal, and waits for its end", func(ctx context.Context) {
		name := uniqueName("interrupted")
		session := plug(developer, inTeam(runArgs(name, behaviour(3600, 0))...)...)
		Eventually(session.Err.Contents).Should(ContainSubstring("runs on"))
		session.Interrupt()
		Eventually(session).Should(gexec.Exit())
		Expect(session.ExitCode()).NotTo(BeZero())
		Expect(stderr(session)).To(ContainSubstring("Cancelled"))
		job := jobNamed(ctx, name)(Default)
		Expect(job).To(havePhase(v1alpha1.PooledJobFailed))
		if code := job.Status.Result.ExitCode; code == nil {
			Expect(session).To(gexec.Exit(128 + int(syscall.SIGINT)))
		}
	})

	It("cancels the run even if a second signal follows the first at once", func(ctx context.Context) {
		name := uniqueName("hurried")
		session := plug(developer, inTeam(runArgs(name, behaviour(3600, 0))...)...)
		Eventually(session.Err.Contents).Should(ContainSubstring("runs on"))
		session.Interrupt().Terminate()
		Eventually(session).Should(gexec.Exit())
		Expect(session.ExitCode()).NotTo(BeZero())
		Eventually(jobNamed(ctx, name)).Should(havePhase(v1alpha1.PooledJobFailed))
		Expect(jobNamed(ctx, name)(Default).Spec.Cancel).To(HaveValue(BeTrue()))
	})

	It("finds an existing run again, and exits at the second signal without waiting for its end", func(ctx context.Context) {
		By("having a run that cannot end: its cluster is not there")
		name := uniqueName("left")
		args := []string{"run", name, "--image", "busybox", "--cluster", "nowhere", "-n", team}
		session := plug(developer, args...)
		Eventually(session.Err.Contents).Should(ContainSubstring("waits: ClusterNotFound"))
		By("killing the caller")
		Eventually(session.Kill()).Should(gexec.Exit())
		session = plug(developer, args...)
		Eventually(session.Err.Contents).Should(ContainSubstring("found again"))
		By("leaving it, while nobody stops the run")
		Expect(env.KillManager()).To(Succeed())
		session.Terminate()
		Eventually(session.Err.Contents).Should(ContainSubstring("stopping it"))
		Eventually(func(g Gomega) { g.Expect(jobNamed(ctx, name)(g).Spec.Cancel).To(HaveValue(BeTrue())) }).Should(Succeed())
		Consistently(session).WithTimeout(time.Second).ShouldNot(gexec.Exit())
		session.Terminate()
		Eventually(session).Should(gexec.Exit(128 + int(syscall.SIGTERM)))
		Expect(stderr(session)).To(ContainSubstring("left while it is being stopped; `kubectl pooledjob wait " + name))
		Expect(env.StartManager(ctx)).To(Succeed())
		Eventually(jobNamed(ctx, name)).Should(havePhase(v1alpha1.PooledJobFailed))
	}, NodeTimeout(2*time.Minute))

	It("refuses the name of an ended run, unless --take-result may take its result", func() {
		name := uniqueName("taken")
		Expect(dev(runArgs(name, behaviour(0.1, 0))...)).To(gexec.Exit(0))

		session := dev(runArgs(name, behaviour(0.1, 0))...)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(MatchRegexp(`^error: the run %s has ended \(succeeded.*\): .*kubectl pooledjob rerun %s`, name, name))

		By("taking its result, if it is the same run and has succeeded")
		session = dev(append(runArgs(name, behaviour(0.1, 0)), "--take-result")...)
		Expect(session).To(gexec.Exit(0))
		Expect(stderr(session)).To(MatchRegexp(`%s: found again\n.*%s: succeeded after`, name, name))

		session = dev(append(runArgs(name, behaviour(0.2, 0)), "--take-result")...)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("is taken by a run with another spec.template: take another name, or delete"))

		failed := uniqueName("taken")
		Expect(dev(runArgs(failed, behaviour(0.1, 4))...)).To(gexec.Exit(4))
		session = dev(append(runArgs(failed, behaviour(0.1, 4)), "--take-result")...)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(MatchRegexp(`^error: the run %s has ended \(failed`, failed))
	})

	It("prints the output of all parallel Pods, and accepts numbers as quantities in a manifest", func(ctx context.Context) {
		manifest := `apiVersion: pooledjob.io/v1alpha1
kind: PooledJob
metadata: {name: several}
spec:
  clusterName: ` + ordinal + `
  template:
    spec:
      parallelism: 2
      completions: 2
      template:
        metadata: {annotations: {` + localcluster.DurationAnnotation + `: 3s}}
        spec: {restartPolicy: Never, containers: [{name: main, image: busybox, resources: {requests: {cpu: 0.5}}}]}
`
		session := plugWithInput(manifest, developer, "run", "-f", "-", "-n", team)
		var pods corev1.PodList
		Eventually(func(g Gomega) {
			job := jobNamed(ctx, "several")(g)
			g.Expect(target.List(ctx, &pods, client.InNamespace(team), client.MatchingLabels{v1alpha1.LabelUID: string(job.UID)})).To(Succeed())
			g.Expect(pods.Items).To(HaveLen(2))
		}).Should(Succeed())
		var lines []string
		for i := range pods.Items {
			name := pods.Items[i].Name
			kubelet.Log(team, name, "main").Print("hello")
			lines = append(lines, "["+name+"] hello")
			Expect(pods.Items[i].Spec.Containers[0].Resources.Requests.Cpu().String()).To(Equal("500m"))
		}
		Eventually(session).Should(gexec.Exit(0))
		Expect(strings.Split(strings.TrimSpace(stdout(session)), "\n")).To(ConsistOf(lines))
	})

	It("finds a run again although the hub has added defaults to its manifest", func() {
		manifest := `apiVersion: pooledjob.io/v1alpha1
kind: PooledJob
metadata: {name: filled-in}
spec:
  clusterName: nowhere
  template: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: busybox, ports: [{containerPort: 80}]}]}}}}
`
		for _, done := range []string{"created", "found again"} {
			session := plugWithInput(manifest, developer, "run", "-f", "-", "-n", team, "--detach").Wait(time.Minute)
			Expect(session).To(gexec.Exit(0))
			Expect(stdout(session)).To(Equal("pooledjob.pooledjob.io/filled-in " + done + "\n"))
		}
		other := strings.Replace(manifest, "containerPort: 80", "containerPort: 81", 1)
		session := plugWithInput(other, developer, "run", "-f", "-", "-n", team, "--detach").Wait(time.Minute)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("is taken by a run with another spec.template"))
		Expect(dev("cancel", "filled-in")).To(gexec.Exit(0))
	})

	It("creates the PooledJob of a manifest, and NAME overrides its name", func(ctx context.Context) {
		manifest := "apiVersion: pooledjob.io/v1alpha1\nkind: PooledJob\nmetadata: {name: in-file}\nspec:\n  clusterName: " + ordinal + `
  template: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: busybox}]}}}}
`
		file := filepath.Join(GinkgoT().TempDir(), "job.yaml")
		Expect(os.WriteFile(file, []byte(manifest), 0o600)).To(Succeed())
		session := dev("run", "-f", file, "--detach", "-o", "name")
		Expect(session).To(gexec.Exit(0))
		Expect(stdout(session)).To(Equal("pooledjob.pooledjob.io/in-file\n"))
		Expect(dev("wait", "in-file", "--timeout", "1m")).To(gexec.Exit(0))

		name := uniqueName("from-input")
		session = plugWithInput(manifest, developer, "run", name, "-f", "-", "-n", team).Wait(time.Minute)
		Expect(session).To(gexec.Exit(0))
		Expect(jobNamed(ctx, name)(Default)).To(havePhase(v1alpha1.PooledJobSucceeded))

		nameless := strings.Replace(manifest, "name: in-file", "generateName: in-file-", 1)
		session = plugWithInput(nameless, developer, "run", "-f", "-", "-n", team).Wait(time.Minute)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring("pass NAME, or --detach"))
		session = plugWithInput(nameless, developer, "run", "-f", "-", "-n", team, "--detach", "-o", "name").Wait(time.Minute)
		Expect(session).To(gexec.Exit(0))
		Expect(stdout(session)).To(HavePrefix("pooledjob.pooledjob.io/in-file-"))

		session = plugWithInput(manifest+"  clusterNam: x\n", developer, "run", "-f", "-", "-n", team).Wait(time.Minute)
		Expect(session).To(gexec.Exit(1))
		Expect(stderr(session)).To(ContainSubstring(`unknown field "spec.clusterNam"`))
	})

	DescribeTable("reports in an error what is missing:", func(words string, args ...string) {
		session := dev(args...)
		Expect(session).To(gexec.Exit(1))
		Expect(stdout(session)).To(BeEmpty())
		Expect(stderr(session)).To(HavePrefix("error: "))
		Expect(stderr(session)).To(ContainSubstring(words))
		Expect(stderr(session)).To(HaveSuffix("\n"))
		Expect(session.Err.Contents()).To(HaveEach(Not(BeEquivalentTo('\r'))))
	},
		Entry("a name", "give a NAME for the run", "run", "--image", "busybox", "--cluster", ordinal),
		Entry("an image", "give --image IMAGE", "run", "a", "--cluster", ordinal),
		Entry("a cluster", "give --cluster NAME", "run", "a", "--image", "busybox"),
		Entry("`--` before a command", "give one NAME, and the command after `--`", "run", "a", "echo", "--image", "b", "--cluster", ordinal),
		Entry("a variable's value", `--env is "A"; it must be NAME=VALUE`, "run", "a", "--image", "b", "--cluster", ordinal, "-e", "A"),
		Entry("the quantity of a resource", `--requests is "cpu"; it must be RESOURCE=QUANTITY`, "run", "a", "--image", "b", "--cluster", ordinal, "--requests", "cpu"),
		Entry("a deadline in whole seconds", "--deadline is 500ms; it must be whole seconds", "run", "a", "--image", "b", "--cluster", ordinal, "--deadline", "500ms"),
		Entry("a TTL that is not negative", "--ttl is -1s; it must be whole seconds", "run", "a", "--image", "b", "--cluster", ordinal, "--ttl", "-1s"),
		Entry("a dispatch deadline that is not too long", "--dispatch-deadline is 876000h0m0s; it must be", "run", "a", "--image", "b", "--cluster", ordinal, "--dispatch-deadline", "876000h"),
		Entry("--detach or --dry-run for -o", "-o needs --detach or --dry-run", "run", "a", "--image", "b", "--cluster", ordinal, "-o", "yaml"),
		Entry("an image in the file instead of a flag", "--image cannot be used with -f", "run", "-f", "x.yaml", "--image", "b"),
		Entry("a known flag", "see `kubectl pooledjob run --help`", "run", "a", "--imag", "b"),
		Entry("a valid name", "metadata.name: Invalid value", "run", "A_b", "--image", "b", "--cluster", ordinal),
	)
})
