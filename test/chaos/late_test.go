package chaos

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pooledjob/pooledjob/test/faultproxy"
)

// lateness is how much later a request to create a Job comes than it seems. A server may do
// it up to a minute after the client has given up.
const lateness = 15 * time.Second

// delayFirstCreation has the first request to create a Job come late, while its
// connection seems to be lost.
func delayFirstCreation(t *target) {
	var asked atomic.Int32
	t.proxy.SetHook(func(moment faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
		if moment == faultproxy.Before && call.Resource == "jobs" && call.Method == http.MethodPost && asked.Add(1) == 1 {
			return faultproxy.Action{Later: lateness}
		}
		return faultproxy.Action{}
	})
}

var _ = Describe("A request to create a Job that arrives late", func() {
	for _, restarted := range []bool{false, true} {
		It(fmt.Sprintf("leaves no Job behind when the PooledJob is deleted (manager restarted: %t)", restarted), func(ctx context.Context) {
			if !long() {
				Skip("the deletion may take 75 seconds")
			}
			DeferCleanup(heal)
			startManager(ctx)
			t := world.targets[0]
			delayFirstCreation(t)
			sent := time.Now()
			run := startRun(ctx, fmt.Sprintf("late-%t", restarted), t, time.Hour)
			if restarted {
				Expect(killManager()).To(Succeed())
				Expect(relaunch(ctx)).To(Succeed())
				awaitConnected(ctx)
			}
			Expect(time.Since(sent)).To(BeNumerically("<", lateness), "the machine is too slow for this spec")
			Expect(world.hub.client.Delete(ctx, run.job.DeepCopy())).To(Succeed())
			Eventually(remaining).WithContext(ctx).WithTimeout(2 * time.Minute).ShouldNot(ContainElement(run.job.Name))
			Consistently(leftBehind).WithContext(ctx).WithTimeout(max(time.Until(sent.Add(lateness+5*time.Second)), time.Second)).
				ShouldNot(ContainElement(ContainSubstring(run.job.Name + "-")))
		}, NodeTimeout(10*time.Minute))
	}
})
