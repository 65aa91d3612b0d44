package faultproxy

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pooledjob/pooledjob/test/localcluster"
)

const (
	token    = "first"
	patience = 5 * time.Second
)

// stage is a proxy before a real API server, with a client of its own.
type stage struct {
	*WithT
	t      *testing.T
	proxy  *Proxy
	direct kubernetes.Interface
	client kubernetes.Interface
}

func TestProxy(t *testing.T) {
	localcluster.SkipIfShort(t)
	cluster, err := localcluster.Start(t.Context(), localcluster.Options{Name: "behind", Audit: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	for name, test := range map[string]func(*stage){
		"requests pass, as the user of the certificate": func(s *stage) { testPass(s, cluster) },
		"the kubeconfig works":                          testKubeconfig,
		"a token that is not good gets 401":             testTokens,
		"the hook hears both moments":                   testHook,
		"an answer before is not forwarded":             testAnswerBefore,
		"an answer after hides what was done":           testAnswerAfter,
		"a page is no Status":                           testPage,
		"a cut ends the connection":                     testCut,
		"an answer can be swallowed":                    testSwallow,
		"a delay delays":                                testDelay,
		"a request can come later":                      testLater,
		"a watch tells at once and can be ended":        testWatch,
		"a black hole is silent until it is healed":     testBlackHole,
		"a cut in a black hole hands nothing on":        testCutInBlackHole,
	} {
		t.Run(name, func(t *testing.T) {
			proxy, err := Start(t.Context(), "behind", cluster.Config(), token)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(proxy.Stop)
			test(&stage{NewWithT(t), t, proxy, newClient(t, cluster.Config()), newClient(t, proxy.Config(token))})
		})
	}
}

func newClient(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func (s *stage) create(name string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := s.client.CoreV1().Namespaces().Create(s.t.Context(), namespace, metav1.CreateOptions{})
	return err
}

func (s *stage) read(ctx context.Context) error {
	_, err := s.client.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
	return err
}

func (s *stage) exists(name string) bool {
	_, err := s.direct.CoreV1().Namespaces().Get(s.t.Context(), name, metav1.GetOptions{})
	s.Expect(err == nil || apierrors.IsNotFound(err)).To(BeTrue(), "%v", err)
	return err == nil
}

// on has the hook do that to one kind of request at one moment, and nothing to others.
func (s *stage) on(moment Moment, call string, action Action) {
	s.proxy.SetHook(func(m Moment, c *Call) Action {
		if m == moment && c.String() == call {
			return action
		}
		return Action{}
	})
}

func testPass(s *stage, cluster *localcluster.Cluster) {
	s.Expect(s.create("passed")).To(Succeed())
	s.Expect(s.exists("passed")).To(BeTrue())
	s.Eventually(cluster.AuditEvents).Should(ContainElement(And(
		HaveField("ObjectRef.Name", "passed"), HaveField("User.Username", "admin"))))
}

func testKubeconfig(s *stage) {
	data, err := s.proxy.Kubeconfig(token)
	s.Expect(err).NotTo(HaveOccurred())
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	s.Expect(err).NotTo(HaveOccurred())
	s.client = newClient(s.t, config)
	s.Expect(s.read(s.t.Context())).To(Succeed())
}

func testTokens(s *stage) {
	s.proxy.Accept("second", "third")
	s.Expect(apierrors.IsUnauthorized(s.read(s.t.Context()))).To(BeTrue())
	s.client = newClient(s.t, s.proxy.Config("third"))
	s.Expect(s.read(s.t.Context())).To(Succeed())
}

func testHook(s *stage) {
	var mu sync.Mutex
	var heard []string
	s.proxy.SetHook(func(moment Moment, call *Call) Action {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, string(moment)+" "+call.String()+" "+call.Namespace+"/"+call.Name+" "+http.StatusText(call.Code))
		return Action{}
	})
	pods := s.client.CoreV1().Pods("default")
	_, err := pods.List(s.t.Context(), metav1.ListOptions{})
	s.Expect(err).NotTo(HaveOccurred())
	_, err = pods.Patch(s.t.Context(), "nobody", "application/merge-patch+json", []byte("{}"), metav1.PatchOptions{}, "status")
	s.Expect(apierrors.IsNotFound(err)).To(BeTrue())
	s.Expect(s.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(s.t.Context()).Error()).To(Succeed())
	mu.Lock()
	defer mu.Unlock()
	s.Expect(heard).To(Equal([]string{
		"before LIST pods default/ ", "after LIST pods default/ OK",
		"before PATCH pods/status default/nobody ", "after PATCH pods/status default/nobody Not Found",
		"before GET /readyz / ", "after GET /readyz / OK",
	}))
}

func testAnswerBefore(s *stage) {
	s.on(Before, "POST namespaces", Action{Answer: http.StatusConflict})
	s.Expect(apierrors.IsConflict(s.create("refused"))).To(BeTrue())
	s.Expect(s.exists("refused")).To(BeFalse())
	// With Retry-After the client itself tries again.
	first := true
	s.proxy.SetHook(func(moment Moment, _ *Call) Action {
		if moment == After || !first {
			return Action{}
		}
		first = false
		return Action{Answer: http.StatusTooManyRequests, RetryAfter: time.Second}
	})
	began := time.Now()
	s.Expect(s.create("later")).To(Succeed())
	s.Expect(time.Since(began)).To(BeNumerically(">=", time.Second))
}

func testAnswerAfter(s *stage) {
	s.on(After, "POST namespaces", Action{Answer: http.StatusInternalServerError})
	s.Expect(apierrors.IsInternalError(s.create("done-all-the-same"))).To(BeTrue())
	s.Expect(s.exists("done-all-the-same")).To(BeTrue())
}

func testPage(s *stage) {
	s.on(After, "GET namespaces", Action{Page: http.StatusNotFound})
	err := s.read(s.t.Context())
	s.Expect(apierrors.IsNotFound(err)).To(BeTrue())
	s.Expect(apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)).To(BeTrue())
}

func testCut(s *stage) {
	s.on(After, "POST namespaces", Action{Cut: true})
	err := s.create("cut")
	s.Expect(err).To(HaveOccurred())
	var status apierrors.APIStatus
	s.Expect(errors.As(err, &status)).To(BeFalse(), "%v", err)
	s.Expect(s.exists("cut")).To(BeTrue())
	s.Eventually(s.proxy.Connections).Should(BeZero())

	s.proxy.SetHook(nil)
	s.Expect(s.read(s.t.Context())).To(Succeed())
	s.Expect(s.proxy.Connections()).To(Equal(1))
	s.proxy.Cut()
	s.Eventually(s.proxy.Connections).Should(BeZero())
	s.Expect(s.read(s.t.Context())).To(Succeed())
}

func testSwallow(s *stage) {
	s.on(After, "POST namespaces", Action{Swallow: time.Minute})
	ctx, cancel := context.WithTimeout(s.t.Context(), 500*time.Millisecond)
	defer cancel()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "swallowed"}}
	_, err := s.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	s.Expect(errors.Is(err, context.DeadlineExceeded)).To(BeTrue(), "%v", err)
	s.Expect(s.exists("swallowed")).To(BeTrue())
}

func testLater(s *stage) {
	s.on(Before, "POST namespaces", Action{Later: 300 * time.Millisecond})
	s.Expect(s.create("later-than-it-seems")).NotTo(Succeed())
	s.Expect(s.exists("later-than-it-seems")).To(BeFalse())
	s.Eventually(s.exists).WithArguments("later-than-it-seems").WithTimeout(patience).Should(BeTrue())
}

func testDelay(s *stage) {
	s.on(Before, "GET namespaces", Action{Delay: 300 * time.Millisecond})
	began := time.Now()
	s.Expect(s.read(s.t.Context())).To(Succeed())
	s.Expect(time.Since(began)).To(BeNumerically(">=", 300*time.Millisecond))
}

func testWatch(s *stage) {
	begin := func() (watch.Interface, error) {
		return s.client.CoreV1().Namespaces().Watch(s.t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=watched"})
	}
	w, err := begin()
	s.Expect(err).NotTo(HaveOccurred())
	s.Expect(s.create("watched")).To(Succeed())
	var event watch.Event
	s.Eventually(w.ResultChan()).WithTimeout(patience).Should(Receive(&event))
	s.Expect(event.Type).To(Equal(watch.Added))
	s.Expect(s.proxy.Watches()).To(Equal(1))
	s.proxy.EndWatches()
	s.Eventually(w.ResultChan()).WithTimeout(patience).Should(BeClosed())
	s.Expect(s.proxy.Connections()).To(Equal(1))
	s.Eventually(s.proxy.Watches).WithTimeout(patience).Should(BeZero())

	s.on(Before, "WATCH namespaces", Action{Answer: http.StatusGone})
	_, err = begin()
	s.Expect(apierrors.IsResourceExpired(err)).To(BeTrue(), "%v", err)
}

func testBlackHole(s *stage) {
	s.Expect(s.read(s.t.Context())).To(Succeed())
	s.proxy.BlackHole()
	for _, client := range []kubernetes.Interface{s.client, newClient(s.t, s.proxy.Config(token))} {
		s.client = client
		ctx, cancel := context.WithTimeout(s.t.Context(), 300*time.Millisecond)
		err := s.read(ctx)
		cancel()
		s.Expect(errors.Is(err, context.DeadlineExceeded)).To(BeTrue(), "%v", err)
	}
	answered := make(chan error)
	go func() { answered <- s.read(s.t.Context()) }()
	s.Consistently(answered).WithTimeout(300 * time.Millisecond).ShouldNot(Receive())
	s.proxy.Heal()
	s.Eventually(answered).WithTimeout(patience).Should(Receive(Succeed()))
}

func testCutInBlackHole(s *stage) {
	w, err := s.client.CoreV1().Namespaces().Watch(s.t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=unheard-of"})
	s.Expect(err).NotTo(HaveOccurred())
	s.proxy.BlackHole()
	s.client = s.direct
	s.Expect(s.create("unheard-of")).To(Succeed())
	s.proxy.Cut()
	s.Consistently(w.ResultChan()).WithTimeout(300 * time.Millisecond).ShouldNot(Receive())
	s.proxy.Heal()
	event, told := <-w.ResultChan()
	s.Expect(told).To(BeFalse(), "%v", event)
}

func TestCalls(t *testing.T) {
	g := NewWithT(t)
	for path, want := range map[string]Call{
		"/apis/batch/v1/namespaces/team-a/jobs/one":      {Resource: "jobs", Namespace: "team-a", Name: "one"},
		"/apis/pooledjob.io/v1alpha1/pooledjobs?watch=1": {Resource: "pooledjobs", Watch: true},
		"/api/v1/namespaces/kube-system":                 {Resource: "namespaces", Name: "kube-system"},
		"/api/v1/namespaces/team-a/pods/one/status":      {Resource: "pods", Namespace: "team-a", Name: "one", Subresource: "status"},
		"/api/v1/pods?watch=false":                       {Resource: "pods"},
		"/apis/batch/v1/namespaces/a/jobs?dryRun=All":    {Resource: "jobs", Namespace: "a", DryRun: true},
		"/readyz":        {},
		"/apis/batch/v1": {},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://server"+path, http.NoBody)
		g.Expect(err).NotTo(HaveOccurred())
		want.Method, want.Path = http.MethodGet, request.URL.Path
		g.Expect(*newCall(request)).To(Equal(want), path)
	}
}
