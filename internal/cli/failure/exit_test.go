package failure

import (
	"fmt"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func TestARunThatFailedNeverLooksLikeSuccess(t *testing.T) {
	for code, want := range map[int32]int{0: 1, 1: 1, 3: 3, 137: 137, 255: 255, 256: 1, 257: 1, 512: 1, -1: 1, -1073741510: 1} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			job := &v1alpha1.PooledJob{Status: v1alpha1.PooledJobStatus{Phase: v1alpha1.PooledJobFailed}}
			job.Status.Result.ExitCode = &code
			NewWithT(t).Expect(ExitOfRun(job)).To(Equal(ExitCode(want)))
			NewWithT(t).Expect(ExitOfInterrupted(job, syscall.SIGINT)).To(Equal(ExitCode(want)))
		})
	}
}
