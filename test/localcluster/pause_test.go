package localcluster

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func testPause(t *testing.T, cluster *Cluster) {
	g := NewWithT(t)
	client := clientOf(t, cluster).CoreV1().Nodes()
	for range 2 {
		g.Expect(cluster.PauseProgram(APIServer)).To(Succeed())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := client.List(ctx, metav1.ListOptions{})
	g.Expect(errors.Is(err, context.DeadlineExceeded)).To(BeTrue(), "a paused server neither answers nor refuses: %v", err)

	g.Expect(cluster.ResumeProgram(APIServer)).To(Succeed())
	_, err = client.List(t.Context(), metav1.ListOptions{})
	g.Expect(err).NotTo(HaveOccurred())

	g.Expect(cluster.PauseProgram(APIServer)).To(Succeed())
	began := time.Now()
	g.Expect(cluster.StopProgram(APIServer)).To(Succeed(), "a paused server is stopped in order")
	g.Expect(time.Since(began)).To(BeNumerically("<", stopTimeout))
	g.Expect(errors.Is(cluster.PauseProgram(APIServer), os.ErrProcessDone)).To(BeTrue())
	g.Expect(cluster.StartProgram(t.Context(), APIServer)).To(Succeed())
	g.Expect(cluster.PauseProgram(Etcd)).To(MatchError(ContainSubstring("no program")))
}
