package run

import (
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
	"github.com/pooledjob/pooledjob/test/scriptedhub"
)

func attendantOf(hub *cluster.Client, signals ...os.Signal) *attendant {
	caught := make(chan os.Signal, 2)
	for _, s := range signals {
		caught <- s
	}
	return &attendant{hub: hub, run: scriptedhub.Run(), uid: scriptedhub.UID, progress: terminal.NewProgress(io.Discard, scriptedhub.Run().String()), out: io.Discard, signals: caught}
}

func TestASecondSignalWaitsForTheCancelOfTheFirst(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	// A hub that is far away.
	h := scriptedhub.New()
	h.Interfere(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch {
			return false
		}
		select {
		case <-r.Context().Done():
			return true
		case <-time.After(300 * time.Millisecond):
			return false
		}
	})
	err := attendantOf(h.Start(t), syscall.SIGINT, syscall.SIGTERM).attend(t.Context())
	g.Expect(err).To(Equal(failure.ExitOfSignal(syscall.SIGINT)))
	g.Expect(h.LastPatch()).To(ContainSubstring(`"cancel":true`))
}

// A command that timeout of GNU coreutils ends gets the signal twice.
func TestASignalThatComesTwiceAtOnceIsOne(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	h := scriptedhub.New()
	a := attendantOf(h.Start(t), syscall.SIGTERM, syscall.SIGTERM)
	a.logPatience = time.Millisecond
	result := make(chan error, 1)
	go func() { result <- a.attend(t.Context()) }()
	g.Eventually(h.LastPatch).Should(ContainSubstring(`"cancel":true`))
	g.Consistently(result).Should(Not(Receive()), "it has not left")
	h.Change(func(job *v1alpha1.PooledJob) { job.Status.Phase = v1alpha1.PooledJobFailed })
	g.Eventually(result).Should(Receive(Equal(failure.ExitOfSignal(syscall.SIGTERM))))
}

// slowOutput is an output that is read only after a while.
type slowOutput struct {
	strings.Builder
	read <-chan struct{}
}

func (o *slowOutput) Write(data []byte) (int, error) {
	<-o.read
	return o.Builder.Write(data)
}

func TestAnOutputThatNobodyReadsYetIsNoSilence(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	h := scriptedhub.New()
	h.ServeLog(func(w http.ResponseWriter) {
		for _, line := range []string{"2026-03-04T05:06:07.1Z one\n", "2026-03-04T05:06:09Z three\n"} {
			_, _ = io.WriteString(w, line)
			_ = http.NewResponseController(w).Flush()
		}
	})
	a := attendantOf(h.Start(t))
	h.Change(func(job *v1alpha1.PooledJob) { job.Status.Phase = v1alpha1.PooledJobSucceeded })
	a.logPatience = 50 * time.Millisecond
	read := make(chan struct{})
	time.AfterFunc(10*a.logPatience, func() { close(read) })
	out := &slowOutput{read: read}
	a.out = out
	g.Expect(a.attend(t.Context())).To(Succeed())
	g.Expect(out.String()).To(Equal("one\nthree\n"))
}

func TestACancelIsAskedForAgainAfterARefusal(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	h := scriptedhub.New()
	h.Interfere(scriptedhub.Refuse(2))
	attendantOf(h.Start(t)).askToCancel(t.Context())
	g.Expect(h.LastPatch()).To(ContainSubstring(`"cancel":true`))
}

func TestAnotherRunOfTheSameNameIsNotTakenForOurs(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	h := scriptedhub.New()
	a := attendantOf(h.Start(t), syscall.SIGTERM)
	h.Change(func(job *v1alpha1.PooledJob) { job.UID, job.Status.Phase = "u2", v1alpha1.PooledJobSucceeded })
	g.Expect(a.attend(t.Context())).To(MatchError(failure.DeletedError{Run: a.run}))
	a.askToCancel(t.Context())
	g.Expect(h.LastPatch()).To(BeEmpty())
}
