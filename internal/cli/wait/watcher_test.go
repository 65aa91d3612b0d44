package wait

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/test/scriptedhub"
)

func TestARefusalForAMomentEndsNothing(t *testing.T) {
	t.Parallel()
	seen := make(chan *v1alpha1.PooledJob, 9)
	watch := func(ctx context.Context, hub *cluster.Client) error {
		w := &Watcher{Hub: hub, Run: scriptedhub.Run()}
		return w.Follow(ctx, func(job *v1alpha1.PooledJob) bool { seen <- job; return state.HasEnded(job) })
	}
	g := NewWithT(t)
	h := scriptedhub.New()
	hub := h.Start(t)
	ended := make(chan error, 1)
	go func() { ended <- watch(t.Context(), hub) }()
	g.Eventually(seen).Should(Receive())
	h.Interfere(scriptedhub.Refuse(2))
	h.Change(func(job *v1alpha1.PooledJob) { job.Status.Phase = v1alpha1.PooledJobSucceeded })
	g.Eventually(ended, 10*time.Second).Should(Receive(BeNil()))
	h.Interfere(scriptedhub.Refuse(100))
	g.Expect(apierrors.IsForbidden(watch(t.Context(), hub))).To(BeTrue(), "who was never let in is told at once")
}
