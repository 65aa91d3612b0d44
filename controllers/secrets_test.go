package controllers

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// logbook keeps every line that is logged, at any verbosity.
type logbook struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logbook) logger() logr.Logger {
	return funcr.New(func(prefix, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		fmt.Fprintln(&l.lines, prefix, args)
	}, funcr.Options{Verbosity: 10, LogCaller: funcr.All})
}

func (l *logbook) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// logbooks are those of an operator and, apart, what client-go says of itself where no
// context has a logger: it speaks to a logger of the process then.
type logbooks struct{ operator, process logbook }

// debugLevel is how much of that is listened to: all but the bodies of requests, with
// which the specs themselves would hand their Secrets to it.
const debugLevel = "7"

// listen starts the operator anew, for the time of the spec, and keeps what is logged.
func listen() *logbooks {
	l := &logbooks{}
	verbosity := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(verbosity)
	operator.stop() // nobody may speak while the logger is changed
	Expect(verbosity.Set("v", debugLevel)).To(Succeed())
	klog.SetLogger(l.process.logger())
	*operator = *startOperator(operator.scheme, l.operator.logger())
	DeferCleanup(func() {
		operator.stop()
		klog.ClearLogger()
		Expect(verbosity.Set("v", "0")).To(Succeed())
		*operator = *startOperator(operator.scheme)
	})
	return l
}

// planted are a token and a key that can be recognised wherever they turn up.
type planted struct {
	token string
	key   []byte // PEM
}

func plant(token string) planted {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	der, err := x509.MarshalECPrivateKey(key)
	Expect(err).NotTo(HaveOccurred())
	return planted{token, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})}
}

func encoded(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// traces returns all that would give the secrets away: the token and the key, as they are
// and in base64 at any offset, also in pieces, such as the lines of a key or of a dump.
func (p planted) traces() map[string]string {
	const piece = 16 // bytes in a line of a dump
	traces := map[string]string{}
	pieces := func(name, secret string) {
		for i := 0; i+piece <= len(secret); i++ {
			traces[fmt.Sprintf("%s, from byte %d", name, i)] = secret[i : i+piece]
		}
	}
	if p.token != "" {
		pieces("the token's end", p.token[max(0, len(p.token)-3*piece):])
		for offset := range 3 {
			text := encoded(append(bytes.Repeat([]byte{0}, offset), p.token...))
			pieces(fmt.Sprintf("the token's end in base64, shifted by %d", offset), text[max(0, len(text)-4*piece):len(text)-4])
		}
	}
	for _, block := range strings.SplitAfter(string(p.key), "\n") {
		if line := strings.TrimSpace(block); len(line) == 64 {
			pieces("a line of the key", line[piece:])
		}
	}
	if len(p.key) > 0 {
		pieces("the key in base64", encoded(p.key)[6*piece:9*piece])
	}
	return traces
}

// worldTexts returns all texts that people get to see: the logs, the objects of the hub
// but its Secrets, the Events, and the metrics.
func worldTexts(ctx context.Context, l *logbooks) map[string]string {
	texts := map[string]string{"the log": l.operator.text(), "the log of client-go": l.process.text()}
	for name, list := range map[string]client.ObjectList{
		"ClusterConnections": &v1alpha1.ClusterConnectionList{},
		"PooledJobs":         &v1alpha1.PooledJobList{},
		"Events":             &eventsv1.EventList{},
		"core Events":        &corev1.EventList{},
		"ConfigMaps":         &corev1.ConfigMapList{},
	} {
		Expect(hub.List(ctx, list)).To(Succeed())
		text, err := json.Marshal(list)
		Expect(err).NotTo(HaveOccurred())
		texts[name] = string(text)
	}
	var jobs batchv1.JobList
	Expect(target.List(ctx, &jobs)).To(Succeed())
	text, err := json.Marshal(jobs)
	Expect(err).NotTo(HaveOccurred())
	texts["Jobs of the target"] = string(text)
	for name, registry := range map[string]prometheus.Gatherer{"metrics": operator.metrics, "metrics of controller-runtime": metrics.Registry} {
		families, err := registry.Gather()
		Expect(err).NotTo(HaveOccurred())
		var lines strings.Builder
		for _, family := range families {
			fmt.Fprintln(&lines, family)
		}
		texts[name] = lines.String()
	}
	return texts
}

// expectNoTrace looks for secrets in texts. A JSON text may have its characters escaped;
// neither tokens nor keys have any that are.
func expectNoTrace(texts map[string]string, secrets ...planted) {
	for _, secret := range secrets {
		for what, trace := range secret.traces() {
			for where, text := range texts {
				before, after, found := strings.Cut(text, trace)
				ExpectWithOffset(1, found).To(BeFalse(), "%s is in %s: ...%s[here]%s...",
					what, where, before[max(0, len(before)-120):], after[:min(120, len(after))])
			}
		}
	}
}

// answerStatus answers as an API server does.
func answerStatus(w http.ResponseWriter, err *apierrors.StatusError) {
	status := err.Status()
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status) // the client may be gone
}

// echoServer returns a kubeconfig of a server that answers with the headers of the request.
func echoServer(user string) []byte {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprintln(w, r.Header)
	}))
	DeferCleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return kubeconfigOf(server.URL, ca, user)
}

var _ = Describe("The secrets of a kubeconfig", func() {
	It("appear nowhere when the target sends back what it received", func(ctx context.Context) {
		log := listen()
		account := createAccount(ctx)
		allow(ctx, accountSubject(account))
		token, _ := tokenOf(ctx, account, time.Hour)
		var refused atomic.Int32
		w := connectedAs(ctx, throughGateway(fmt.Sprintf("token: %q", token), func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/jobs"):
				answerStatus(w, apierrors.NewInternalError(fmt.Errorf("no Jobs for %v", r.Header)))
			case r.URL.Query().Get("watch") != "" && refused.Add(1) <= 4:
				// Why a watch was refused is nothing that we log; client-go does.
				answerStatus(w, apierrors.NewTooManyRequestsError(fmt.Sprintf("no watch for %v", r.Header)))
			default:
				return false
			}
			return true
		}))
		eventually(ctx, w.submit(ctx)).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonTargetError,
			ContainSubstring("no Jobs for"), ContainSubstring("[redacted]")))
		Eventually(log.operator.text).WithContext(ctx).Should(ContainSubstring(w.name))
		expectNoTrace(worldTexts(ctx, log), planted{token: token})
	})

	It("appear nowhere, whether the connection works or fails", func(ctx context.Context) {
		log := listen()

		secret := plant("s3cret-t0ken-that-must-not-show-anywhere")
		secrets := []planted{secret}
		config := targetCluster.Config()
		token := fmt.Sprintf("token: %q", secret.token)
		withKey := fmt.Sprintf("client-certificate-data: %q, client-key-data: %q", encoded(config.CertData), encoded(secret.key))
		of := func(user string) []byte { return kubeconfigOf(config.Host, config.CAData, user) }
		at := func(server string, ca []byte) []byte { return kubeconfigOf(server, ca, token) }

		account := createAccount(ctx)
		poor, _ := tokenOf(ctx, account, time.Hour)
		rich := createAccount(ctx)
		allow(ctx, accountSubject(rich))
		good, _ := tokenOf(ctx, rich, time.Hour)
		user := certificateOf(userWithRights(ctx))
		nobody := certificateOf(uniqueName("nobody"))
		for _, kubeconfig := range [][]byte{user, nobody} {
			parsed, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
			Expect(err).NotTo(HaveOccurred())
			secrets = append(secrets, planted{"", parsed.KeyData})
		}
		secrets = append(secrets, planted{token: poor}, planted{token: good})

		cases := map[string]struct {
			kubeconfig []byte
			reason     string
		}{
			"works, with a token":                 {withToken(good), v1alpha1.ReasonConnected},
			"works, with a certificate":           {user, v1alpha1.ReasonConnected},
			"401":                                 {of(token), v1alpha1.ReasonCredentialsRejected},
			"403, with a token":                   {withToken(poor), v1alpha1.ReasonForbidden},
			"403, with a certificate":             {nobody, v1alpha1.ReasonForbidden},
			"nobody answers":                      {at("https://127.0.0.1:1", nil), v1alpha1.ReasonUnreachable},
			"no such name":                        {at("https://nowhere.invalid", nil), v1alpha1.ReasonUnreachable},
			"another CA":                          {at(config.Host, hubCluster.Config().CAData), v1alpha1.ReasonUnreachable},
			"a server that says what it was told": {echoServer(token), v1alpha1.ReasonUnreachable},
			"YAML that ends in the token":         {[]byte("users: [{name: a, user: {token: " + secret.token), v1alpha1.ReasonInvalidKubeconfig},
			"YAML that is the token":              {[]byte(secret.token), v1alpha1.ReasonInvalidKubeconfig},
			"the token as a key":                  {of(fmt.Sprintf("%q: x", secret.token)), v1alpha1.ReasonInvalidKubeconfig},
			"the token as an object":              {of(fmt.Sprintf("token: {%q: %q}", secret.token, secret.token)), v1alpha1.ReasonInvalidKubeconfig},
			"the token as the kind":               {[]byte("{apiVersion: v1, kind: " + secret.token + "}"), v1alpha1.ReasonInvalidKubeconfig},
			"the token as base64":                 {of(fmt.Sprintf("client-key-data: %q", secret.token)), v1alpha1.ReasonInvalidKubeconfig},
			"the token with white space":          {of(fmt.Sprintf("token: %q", secret.token+"\n"+secret.token)), v1alpha1.ReasonInvalidKubeconfig},
			"the token as password":               {of(fmt.Sprintf("username: a, password: %q", secret.token)), v1alpha1.ReasonInvalidKubeconfig},
			"the token as the name of a file":     {of(fmt.Sprintf("tokenFile: %q", secret.token)), v1alpha1.ReasonInvalidKubeconfig},
			"the token as argument of a plugin":   {of(fmt.Sprintf("exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: x, args: [%q]}", secret.token)), v1alpha1.ReasonInvalidKubeconfig},
			"the token in the address":            {at("https://user:"+secret.token+"@127.0.0.1:1", nil), v1alpha1.ReasonInvalidKubeconfig},
			"the token in an address that is none": {
				at("https://user:"+secret.token+"@127.0.0.1:port%", nil), v1alpha1.ReasonInvalidKubeconfig,
			},
			"the token in a proxy's address": {
				bytes.Replace(of(token), []byte("server:"), []byte("proxy-url: \"http://a:"+secret.token+"@127.0.0.1:1\", server:"), 1), v1alpha1.ReasonInvalidKubeconfig,
			},
			"a key of another certificate": {of(withKey), v1alpha1.ReasonInvalidKubeconfig},
			"a key without a certificate":  {of(fmt.Sprintf("client-key-data: %q", encoded(secret.key))), v1alpha1.ReasonInvalidKubeconfig},
			"a key that is broken":         {of(strings.Replace(withKey, encoded(secret.key), encoded(secret.key[:len(secret.key)-40]), 1)), v1alpha1.ReasonInvalidKubeconfig},
			"a key as the CA":              {kubeconfigOf(config.Host, secret.key, token), v1alpha1.ReasonInvalidKubeconfig},
		}
		worlds := map[string]world{}
		for name, c := range cases {
			w := newWorld(ctx)
			worlds[name] = w
			w.createSecret(ctx, c.kubeconfig...)
			w.createConnection(ctx)
			w.submit(ctx)
		}
		settled := func(g Gomega) {
			for name, w := range worlds {
				ready := w.connection(g, ctx)
				g.Expect(ready.Status.Conditions).To(ContainElement(And(HaveField("Type", v1alpha1.ConditionReady), HaveField("Reason", cases[name].reason))), name)
				g.Expect(log.operator.text()).To(ContainSubstring(w.name), "the log tells of it")
			}
		}
		Eventually(settled).WithTimeout(30 * time.Second).Should(Succeed())
		expectNoTrace(worldTexts(ctx, log), secrets...)

		// The same as rotations of a connection that works, and back.
		for name, c := range cases {
			if c.reason == v1alpha1.ReasonConnected {
				continue
			}
			w := worlds[name]
			w.replaceSecret(ctx, withToken(good))
			Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)), name)
			w.replaceSecret(ctx, c.kubeconfig)
			Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionCredentialsValid, metav1.ConditionFalse, c.reason), name)
		}
		Eventually(worlds["401"].eventsOf(v1alpha1.ReasonLastKubeconfig)).WithContext(ctx).ShouldNot(BeEmpty())
		expectNoTrace(worldTexts(ctx, log), secrets...)
		for name, text := range worldTexts(ctx, log) {
			Expect(len(text)).To(BeNumerically(">", 10), name+" has something in it")
		}
	})
})
