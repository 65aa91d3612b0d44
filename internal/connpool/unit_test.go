package connpool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pooledjob/pooledjob/internal/connpool/transport"
)

var batchJobs = schema.GroupResource{Group: "batch", Resource: "jobs"}

func TestStateAfter(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		state State
	}{
		"nobody needs it":        {errIdle, Idle},
		"another cluster":        {transport.ErrOtherCluster, Connecting},
		"403 of a proxy":         {apierrors.NewGenericServerResponse(http.StatusForbidden, "get", batchJobs, "x", "", 0, true), Unreachable},
		"401":                    {apierrors.NewUnauthorized("no"), Rejected},
		"403":                    {apierrors.NewForbidden(batchJobs, "", errors.New("no")), Forbidden},
		"404":                    {apierrors.NewNotFound(batchJobs, "x"), Unreachable},
		"500":                    {apierrors.NewInternalError(errors.New("no")), Unreachable},
		"503":                    {apierrors.NewServiceUnavailable("no"), Unreachable},
		"302":                    {apierrors.NewGenericServerResponse(http.StatusFound, "get", batchJobs, "x", "", 0, true), Unreachable},
		"connection closed":      {io.EOF, Unreachable},
		"first list is too slow": {errors.New("the first list of Jobs and Pods took too long"), Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(stateAfter(test.err)).To(Equal(test.state))
			g.Expect(stateAfter(fmt.Errorf("probing: %w", test.err))).To(Equal(test.state), "wrapped")
		})
	}
}

// TestNews: a change of the state is told at once, other words for it only when
// they mean something, or after a while.
func TestNews(t *testing.T) {
	g := NewWithT(t)
	told := 0
	ctx, cancel := context.WithCancel(t.Context())
	p := New(ctx, Options{OnState: func(string, bool) { told++ }})
	m := &member{name: "a", told: news{state: Connecting}}
	e := &entry{pool: p, state: Connecting, ended: map[State]int64{}}
	m.current = &hold{member: m, entry: e}
	e.holds = map[*hold]struct{}{m.current: {}}
	defer cancel()
	denied := func(words string) error { return apierrors.NewForbidden(batchJobs, "", errors.New(words)) }
	lost := func(err error, want int, words string) {
		t.Helper()
		p.lost(e, err)
		g.Expect(told).To(Equal(want))
		g.Expect(m.status().State).To(Equal(stateAfter(err)))
		g.Expect(m.status().Err).To(MatchError(ContainSubstring(words)))
	}
	lost(denied("no pods"), 1, "no pods")
	lost(denied("no pods"), 1, "no pods")
	lost(denied("no jobs"), 1, "no pods") // it is chance which is asked for first
	explained := func(missing string) error { return &deniedError{denial: denied("no jobs"), missing: []string{missing}} }
	lost(explained("list jobs"), 2, "list jobs")
	lost(explained("list jobs"), 2, "list jobs")
	lost(denied("no pods"), 2, "list jobs") // the target could not be asked this time
	lost(explained("list pods"), 3, "list pods")
	lost(errors.New("refused"), 4, "refused")
	lost(errors.New("refused"), 4, "refused")
	lost(errors.New("reset by port 1234"), 4, "refused")
	e.saidAt = e.saidAt.Add(-newsInterval)
	lost(errors.New("refused"), 4, "refused")
	lost(errors.New("reset by port 1235"), 5, "1235")
	lost(denied("no pods"), 6, "no pods")
	lost(apierrors.NewUnauthorized("request 7f"), 7, "request 7f")
	e.saidAt = e.saidAt.Add(-newsInterval)
	lost(apierrors.NewUnauthorized("another request"), 7, "request 7f")
	g.Expect(e.ended).To(Equal(map[State]int64{Forbidden: 8, Unreachable: 5, Rejected: 2}))
}

func TestDefaults(t *testing.T) {
	g := NewWithT(t)
	o := Options{ProbeTimeout: time.Minute}.WithDefaults()
	g.Expect(o.ProbeTimeout).To(Equal(time.Minute))
	for _, d := range []time.Duration{o.ProbeInterval, o.RequestTimeout, o.SyncTimeout, o.MinBackoff, o.MaxBackoff} {
		g.Expect(d).To(BeNumerically(">", 0))
	}
	g.Expect(o.MaxInFlight).To(BeNumerically(">", 0))
	o.OnState("nobody listens", false)
	o.OnChange("nobody listens")
}
