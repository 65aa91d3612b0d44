package connpool

import (
	"context"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

var _ = Describe("The metrics of a connection", func() {
	It("show its state, sockets, watches, objects and credential expiry while it is Ready", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		figures := r.registry()
		Expect(figures()).To(BeEmpty(), "there is no connection yet")
		config := adminConfig(p)
		config.ExpiresAt = time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
		first := r.createJob(ctx)
		r.createPod(ctx, first.Name)
		r.connect(ctx, target, config)
		Expect(figures()).To(And(
			HaveKeyWithValue(`up{target}`, 1.0),
			HaveKeyWithValue(`sockets{target}`, float64(p.open())),
			HaveKeyWithValue(`sockets{target}`, 1.0),
			HaveKeyWithValue(`watches{target}`, 2.0),
			HaveKeyWithValue(`requests_in_flight{target}`, 0.0),
			HaveKeyWithValue(`requests_queued{target}`, 0.0),
			HaveKeyWithValue(`credential_expiry_timestamp_seconds{target}`, float64(config.ExpiresAt.Unix())),
			HaveKeyWithValue(`informer_objects{target,jobs}`, 1.0),
			HaveKeyWithValue(`informer_objects{target,pods}`, 1.0),
		))
		expectState(figures(), Ready)
		Expect(figures()).NotTo(HaveKey(HavePrefix("reconnects_total")), "no session has ended")

		r.createJob(ctx)
		Eventually(ctx, figures).Should(HaveKeyWithValue(`informer_objects{target,jobs}`, 2.0))
		deleteJob(ctx, first)
		Eventually(ctx, figures).Should(HaveKeyWithValue(`informer_objects{target,jobs}`, 1.0))
		Expect(figures()).To(HaveKeyWithValue(`informer_objects{target,pods}`, 1.0))
	})

	It("disappear when it is disconnected, while those of other connections stay", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig()
		figures := r.registry()
		config := s.config("token")
		config.ExpiresAt = time.Now().Add(time.Hour)
		r.connect(ctx, "other", s.config("other"))
		others := names(figures())
		r.connect(ctx, target, config)
		Expect(figures()).To(HaveKey(`up{target}`))
		Eventually(ctx, figures).Should(HaveKey(`probe_duration_seconds{target}`))
		r.pool.Disconnect(target)
		Expect(names(figures())).To(ConsistOf(others))
		r.pool.Disconnect("other")
		Expect(figures()).To(BeEmpty())
	})

	It("count ended sessions by reason in reconnects_total, and show up=0 while it is down", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(func(o *Options) { o.MinBackoff, o.MaxBackoff = time.Second, time.Second })
		figures := r.registry()
		r.connect(ctx, target, s.config("token"))
		s.answer(readyPath, answerPage(http.StatusUnauthorized))
		s.answer(identityPath, answerPage(http.StatusBadGateway))
		Eventually(ctx, figures).Should(HaveKeyWithValue(`reconnects_total{target,Rejected}`, 1.0))
		expectState(figures(), Rejected)
		Expect(figures()).To(And(
			HaveKeyWithValue(`up{target}`, 0.0),
			Not(HaveKey(HavePrefix("informer_objects"))), Not(HaveKey(HavePrefix("watch_silence"))),
		))
		Eventually(ctx, figures).Should(And(HaveKeyWithValue(`sockets{target}`, 0.0), HaveKeyWithValue(`watches{target}`, 0.0)))
		Eventually(ctx, figures).Should(HaveKeyWithValue(`reconnects_total{target,Unreachable}`, BeNumerically(">=", 2)))
		expectState(figures(), Unreachable)
		Expect(figures()).To(HaveKeyWithValue(`reconnects_total{target,Rejected}`, 1.0))
	})

	It("keep the counts of reconnects_total when the identity changes", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(func(o *Options) { o.MinBackoff, o.MaxBackoff = 100*time.Millisecond, 100*time.Millisecond })
		figures := r.registry()
		r.connect(ctx, target, s.config("token"))
		s.answer(readyPath, answerError(apierrors.NewUnauthorized("who?")))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Rejected))
		s.answer(readyPath, answerOK)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		rejected := figures()[`reconnects_total{target,Rejected}`]
		Expect(rejected).To(BeNumerically(">=", 1))
		r.connect(ctx, "sharer", s.config("token"))
		r.pool.Connect(target, s.config("another"))
		Eventually(ctx, figures).Should(HaveKeyWithValue(`reconnects_total{target,Rotated}`, 1.0))
		Expect(figures()).To(HaveKeyWithValue(`reconnects_total{target,Rejected}`, rejected))
		Expect(figures()).NotTo(HaveKey(HavePrefix("reconnects_total{sharer")), "it came later")
	})

	It("show up=0 when its credential has expired", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig()
		figures := r.registry()
		config := s.config("token")
		config.ExpiresAt = time.Now().Add(time.Hour)
		r.connect(ctx, target, config)
		Expect(figures()).To(HaveKeyWithValue(`up{target}`, 1.0))
		config.ExpiresAt = time.Now().Add(-time.Second)
		r.pool.Connect(target, config)
		Expect(figures()).To(And(HaveKeyWithValue(`up{target}`, 0.0), HaveKeyWithValue(`credential_expiry_timestamp_seconds{target}`, float64(config.ExpiresAt.Unix()))))
	})

	It("show up=1, no socket and no watch while it is Idle", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig()
		figures := r.registry()
		r.connect(ctx, target, s.config("token"))
		r.pool.Sleep(target)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Idle))
		expectState(figures(), Idle)
		Expect(figures()).To(HaveKeyWithValue(`up{target}`, 1.0))
		Eventually(ctx, figures).Should(And(HaveKeyWithValue(`sockets{target}`, 0.0), HaveKeyWithValue(`watches{target}`, 0.0)))
		Expect(figures()).To(HaveKeyWithValue(`reconnects_total{target,Idle}`, 1.0))
	})

	It("count the requests in flight, and the runs that wait as requests_queued", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(func(o *Options) { o.MaxInFlight = 2 })
		figures := r.registry()
		lease := r.connect(ctx, target, s.config("token"))
		release := make(chan struct{})
		s.answer(jobPath, func(w http.ResponseWriter, _ *http.Request) {
			<-release
			w.WriteHeader(http.StatusNotFound)
		})
		for range 2 {
			go func() { _, _ = lease.GetJob(ctx, "default", "job") }()
		}
		Eventually(ctx, figures).Should(HaveKeyWithValue(`requests_in_flight{target}`, 2.0))
		for _, key := range []string{"one", "two", "three", "three"} {
			_, err := keyed(lease, key).GetJob(ctx, "default", "job")
			Expect(err).To(MatchError(ErrBusy))
		}
		Expect(figures()).To(And(HaveKeyWithValue(`requests_in_flight{target}`, 2.0), HaveKeyWithValue(`requests_queued{target}`, 3.0)))
		Expect(figures()).To(HaveKeyWithValue(`watches{target}`, 2.0))
		close(release)
		Eventually(ctx, figures).Should(And(HaveKeyWithValue(`requests_in_flight{target}`, 0.0), HaveKeyWithValue(`requests_queued{target}`, 0.0)))
	})

	It("show how long the last probe took", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(func(o *Options) { o.ProbeInterval = 50 * time.Millisecond })
		figures := r.registry()
		const slow = 500 * time.Millisecond
		s.answer(readyPath, func(w http.ResponseWriter, q *http.Request) {
			<-time.After(slow)
			answerOK(w, q)
		})
		r.connect(ctx, target, s.config("token"))
		Expect(figures()).To(HaveKeyWithValue(`probe_duration_seconds{target}`, And(BeNumerically(">=", slow.Seconds()), BeNumerically("<", 3))))
		s.answer(readyPath, answerOK)
		Eventually(ctx, figures).Should(HaveKeyWithValue(`probe_duration_seconds{target}`, And(BeNumerically(">", 0), BeNumerically("<", slow.Seconds()))))
	})

	It("show how long its most silent watch has sent nothing", func(ctx context.Context) {
		s := newAPIServer()
		jobs, pods := s.feeds()
		r := newRig()
		figures := r.registry()
		r.connect(ctx, target, s.config("token"))
		granted := time.Now()
		silence := func() float64 { return figures()[`watch_silence_seconds{target}`] }
		Eventually(ctx, func() bool {
			pods.bookmark() // of Pods there is news
			return silence() > 1
		}).Should(BeTrue())
		Expect(silence()).To(BeNumerically("<", time.Since(granted).Seconds()+1))
		jobs.bookmark()
		Eventually(ctx, silence).Should(BeNumerically("<", 1))
	})

	It("show the shared sockets and watches for each of two connections with one identity", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig()
		figures := r.registry()
		r.connect(ctx, target, s.config("token"))
		r.connect(ctx, "twin", s.config("token"))
		Expect(figures()).To(And(HaveKeyWithValue(`sockets{target}`, 1.0), HaveKeyWithValue(`sockets{twin}`, 1.0)))
		Expect(figures()).To(And(HaveKeyWithValue(`watches{target}`, 2.0), HaveKeyWithValue(`watches{twin}`, 2.0)))
	})
})

// registry gathers what a strict registry has of the pool, anew with each call: the
// values of series by their names without the prefix and the values of their labels.
func (r *rig) registry() func() map[string]float64 {
	const prefix = "pooledjob_connection_"
	registry := prometheus.NewPedanticRegistry()
	ExpectWithOffset(1, registry.Register(r.pool)).To(Succeed())
	return func() map[string]float64 {
		GinkgoHelper()
		families, err := registry.Gather()
		Expect(err).NotTo(HaveOccurred())
		series := map[string]float64{}
		for _, family := range families {
			Expect(family.GetName()).To(HavePrefix(prefix))
			for _, metric := range family.GetMetric() {
				connection, others := "", ""
				for _, label := range metric.GetLabel() {
					if label.GetName() == "connection" {
						connection = label.GetValue()
						continue
					}
					others += "," + label.GetValue()
				}
				name := family.GetName()[len(prefix):] + "{" + connection + others + "}"
				series[name] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
			}
		}
		return series
	}
}

// expectState looks whether the target is said to be in this state, and in no other.
func expectState(figures map[string]float64, want State) {
	GinkgoHelper()
	for _, state := range states {
		is := 0.0
		if state == want {
			is = 1
		}
		Expect(figures).To(HaveKeyWithValue("state{target,"+string(state)+"}", is))
	}
}

func names(figures map[string]float64) []string {
	var all []string
	for name := range figures {
		all = append(all, name)
	}
	return all
}
