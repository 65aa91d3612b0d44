package connpool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var batchJobs = schema.GroupResource{Group: "batch", Resource: "jobs"}

func TestStateAfter(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		state State
	}{
		"nobody needs it":        {errIdle, Idle},
		"another cluster":        {errOtherCluster, Connecting},
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

func TestBackoff(t *testing.T) {
	g := NewWithT(t)
	const least, most = time.Second, time.Minute
	options := Options{MinBackoff: least, MaxBackoff: most}
	for failures, limit := range map[int]time.Duration{
		0: least, 1: 2 * least, 2: 4 * least, 5: 32 * least, 6: most, 7: most, 15: most, 16: most, 64: most, 1 << 20: most,
	} {
		low, high := time.Hour, time.Duration(0)
		for range 1000 {
			wait := backoff(options, failures)
			low, high = min(low, wait), max(high, wait)
		}
		g.Expect(low).To(BeNumerically(">=", least/2), "after %d failures", failures)
		g.Expect(high).To(BeNumerically("<", least/2+limit), "after %d failures", failures)
		g.Expect(high-low).To(BeNumerically(">", limit*8/10), "no jitter after %d failures", failures)
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

func TestRefuseMetadata(t *testing.T) {
	for address, allowed := range map[string]bool{
		"169.254.169.254:443":          false,
		"169.254.0.1:6443":             false,
		"[fe80::1%eth0]:443":           false,
		"[fe80::1]:443":                false,
		"[febf::1]:443":                false,
		"[::ffff:169.254.169.254]:443": false,
		"[fd00:ec2::254]:443":          false,
		"100.100.100.200:443":          false,
		"192.0.0.192:443":              false,
		"not an address":               false,
		"host.example:443":             false, // it comes after the resolution: this cannot be
		"127.0.0.1:6443":               true,
		"10.0.0.1:443":                 true,
		"169.253.169.254:443":          true,
		"[2001:db8::1]:443":            true,
		"[fd00::1]:443":                true,
		"[::ffff:10.0.0.1]:443":        true,
	} {
		t.Run(address, func(t *testing.T) {
			NewWithT(t).Expect(refuseMetadata(t.Context(), "tcp", address, nil) == nil).To(Equal(allowed))
		})
	}
}

// TestHash changes every field there is, so that one that is added later is not
// forgotten.
func TestHash(t *testing.T) {
	g := NewWithT(t)
	full := func() Identity {
		return Identity{
			Server: "https://a", TLSServerName: "a", CAData: []byte("ca"), CertData: []byte("cert"),
			KeyData: []byte("key"), Token: "token",
		}
	}
	g.Expect(full().hash()).To(MatchRegexp("^sha256:[0-9a-f]{64}$"))
	g.Expect(full().hash()).To(Equal(full().hash()))
	g.Expect(Identity{CAData: []byte{}}.hash()).To(Equal(Identity{}.hash()), "empty is absent")
	g.Expect(Identity{Server: "ab", TLSServerName: "c"}.hash()).NotTo(Equal(Identity{Server: "a", TLSServerName: "bc"}.hash()))
	seen := map[string]string{full().hash(): "unchanged"}
	fields := reflect.TypeFor[Identity]()
	for i := range fields.NumField() {
		field := fields.Field(i)
		for kind, value := range map[string]string{"changed": "other", "taken away": ""} {
			changed := full()
			reflect.ValueOf(&changed).Elem().Field(i).Set(reflect.ValueOf(value).Convert(field.Type))
			what := field.Name + " " + kind
			g.Expect(seen).NotTo(HaveKey(changed.hash()), what)
			seen[changed.hash()] = what
		}
	}
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

func TestRedactLeavesOrdinaryWordsAlone(t *testing.T) {
	refused := errors.New("dial tcp: connection refused")
	for _, token := range []string{"", "t", "tcp"} {
		if got := redact(refused, token); got != refused { //nolint:errorlint // the same error, untouched
			t.Errorf("redact with token %q made %q of it", token, got)
		}
	}
}
