package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

var _ = Describe("The log of a run whose containers are real", Ordered, ContinueOnFailure, Label(realPods), func() {
	var target int
	BeforeAll(func(ctx context.Context) { target = useRealTarget(ctx) })

	It("contains every byte, both when followed from before the Pod exists and when read at the end", func(ctx context.Context) {
		const lines, size = 320_000, 64
		job := submit(ctx, realJob(target, "talks", fmt.Sprintf("-lines=%d", lines), fmt.Sprintf("-line-bytes=%d", size), "-exit=0"))
		followed := readLog(ctx, job, "follow", "true")
		Eventually(latest(job)).WithContext(ctx).Should(endWith(0))

		began := time.Now()
		own := logOf(ctx, job)
		direct := time.Since(began)
		length := len(own) // of a string of 20 MB a failure would be formatted for hours
		Expect(length).To(Equal(lines * size))
		Expect(differAt(followed, own)).To(Equal(same), "it differs from the Pod's own log at this byte of %d", len(own))
		for _, how := range []string{"false", "true"} {
			began = time.Now()
			Expect(differAt(readLog(ctx, job, "follow", how), own)).To(Equal(same))
			AddReportEntry("throughput", fmt.Sprintf("20 MB with follow=%s through the hub in %s, from the target itself in %s", how, time.Since(began), direct))
		}
	})

	It("delivers the first line to a follower that starts as soon as the run was created", func(ctx context.Context) {
		began := time.Now()
		job := submit(ctx, realJob(target, "soon", "-print=here", "-sleep=2s", "-exit=0"))
		stream := openLog(ctx, job, "follow", "true")
		defer stream.Close()
		line := make([]byte, 5)
		Expect(io.ReadFull(stream, line)).To(Equal(5))
		AddReportEntry("first line", time.Since(began).String()+" after the PooledJob was made")
		Expect(string(line)).To(Equal("here\n"))
		Expect(io.ReadAll(stream)).To(BeEmpty())
		Expect(latest(job)(Default, ctx)).To(endWith(0))
	})

	It("continues over a restart of the container, whose previous log can be read", func(ctx context.Context) {
		job := realJob(target, "twice", "-lines=2000", "-fail-once=/state/failed", "-sleep=6s", "-exit=0")
		pod := podOf(job)
		pod.RestartPolicy = corev1.RestartPolicyOnFailure
		pod.Volumes = []corev1.Volume{{Name: "state", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		pod.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "state", MountPath: "/state"}}
		*job.Spec.Template.Spec.BackoffLimit = 3
		submit(ctx, job)
		stream := openLog(ctx, job, "follow", "true")
		defer stream.Close()
		first := make([]byte, 3000*64)
		Expect(io.ReadFull(stream, first)).To(Equal(len(first)), "into the second container's")
		before := readLog(ctx, job, "previous", "true") // as long as the node has it
		rest, err := io.ReadAll(stream)
		Expect(err).NotTo(HaveOccurred())
		followed := string(first) + string(rest)
		Eventually(latest(job)).WithContext(ctx).Should(endWith(0))
		after := readLog(ctx, job)
		Expect(strings.Count(before, "\n")).To(Equal(2000))
		Expect(differAt(followed, before+after)).To(Equal(same), "%d bytes were followed, the containers wrote %d and %d", len(followed), len(before), len(after))
	})

	It("continues in the next Pod when the first has failed", func(ctx context.Context) {
		job := realJob(target, "retried", "-print=tried", "-sleep=1s", "-exit=3")
		*job.Spec.Template.Spec.BackoffLimit = 1
		submit(ctx, job)
		Expect(readLog(ctx, job, "follow", "true")).To(Equal("tried\ntried\n"))
		Eventually(latest(job)).WithContext(ctx).Should(endWith(3))
		Expect(strings.Count(readLog(ctx, job, "allPods", "true"), "] tried\n")).To(Equal(2))
	})

	It("comes from the requested container, and by default from main", func(ctx context.Context) {
		job := realJob(target, "several", "-print=main", "-exit=0")
		podOf(job).InitContainers = []corev1.Container{testContainer("prepare", "-print=prepare", "-exit=0")}
		podOf(job).Containers = append(podOf(job).Containers, testContainer("side", "-print=side", "-exit=0"))
		submit(ctx, job)
		for _, container := range []string{"prepare", "side", "main"} {
			Expect(readLog(ctx, job, "follow", "true", "container", container)).To(Equal(container + "\n"))
		}
		Expect(readLog(ctx, job)).To(Equal("main\n"))
	})

	It("ends when the run is cancelled", func(ctx context.Context) {
		job := submit(ctx, realJob(target, "cancelled", "-print=begun", "-sleep=1h", "-on-term=0"))
		stream := openLog(ctx, job, "follow", "true")
		defer stream.Close()
		Expect(io.ReadFull(stream, make([]byte, 6))).To(Equal(6))
		change(ctx, job, `{"cancel":true}`)
		rest, err := io.ReadAll(stream)
		Expect(err).NotTo(HaveOccurred())
		Expect(rest).To(BeEmpty())
		Eventually(latest(job)).WithContext(ctx).Should(failFor(v1alpha1.ReasonCancelled))
	})
})

// openLog asks the hub for a run's log, with these parameters and their values.
func openLog(ctx context.Context, job *v1alpha1.PooledJob, parameters ...string) io.ReadCloser {
	hub, err := kubernetes.NewForConfig(local.Hub.Config())
	Expect(err).NotTo(HaveOccurred())
	request := hub.RESTClient().Get().AbsPath("/apis/stream.pooledjob.io/v1alpha1/namespaces", job.Namespace, "pooledjobs", job.Name, "log")
	for pair := range slices.Chunk(parameters, 2) {
		request.Param(pair[0], pair[1])
	}
	stream, err := request.Stream(ctx)
	Expect(err).NotTo(HaveOccurred())
	return stream
}

func readLog(ctx context.Context, job *v1alpha1.PooledJob, parameters ...string) string {
	stream := openLog(ctx, job, parameters...)
	defer stream.Close()
	var log bytes.Buffer
	_, err := io.Copy(&log, stream)
	Expect(err).NotTo(HaveOccurred())
	return log.String()
}

// same is differAt of two equal texts.
const same = -1

// differAt returns the first place at which two texts differ; they may be too long to be shown.
func differAt(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) == len(b) {
		return same
	}
	return min(len(a), len(b))
}
