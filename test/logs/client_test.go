package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gtypes "github.com/onsi/gomega/types"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// answer is what a client got.
type answer struct {
	Code int
	// Text is the log, and Message that of an error.
	Text, Message string
	Header        http.Header
	// Err is nil when the log ended as a complete one does.
	Err error
}

var clients = map[string]*rest.Config{}

// clientOf returns how a user reaches the hub.
func clientOf(user string) *rest.Config {
	if clients[user] == nil {
		kubeconfig, err := env.Hub.KubeconfigFor(user)
		Expect(err).NotTo(HaveOccurred())
		clients[user], err = clientcmd.RESTConfigFromKubeConfig(kubeconfig)
		Expect(err).NotTo(HaveOccurred())
	}
	return clients[user]
}

// logPath returns where the log of a PooledJob is.
func logPath(r *run, query string) string {
	return "/apis/stream.pooledjob.io/v1alpha1/namespaces/" + r.Namespace + "/pooledjobs/" + r.Name + "/log?" + query
}

// ask sends a request to the hub.
func ask(ctx context.Context, user, path string) (*http.Response, error) {
	config := clientOf(user)
	c, err := rest.HTTPClientFor(config)
	Expect(err).NotTo(HaveOccurred())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(config.Host, "/")+path, http.NoBody)
	Expect(err).NotTo(HaveOccurred())
	return c.Do(request)
}

// readAs reads the log of a run as it is.
func readAs(ctx context.Context, user string, r *run, query string) answer {
	response, err := ask(ctx, user, logPath(r, query))
	Expect(err).NotTo(HaveOccurred())
	return read(response)
}

func read(response *http.Response) answer {
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	a := answer{Code: response.StatusCode, Text: string(body), Header: response.Header, Err: err}
	if a.Code != http.StatusOK {
		var status metav1.Status
		Expect(json.Unmarshal(body, &status)).To(Succeed(), "an error is a Status: %s", body)
		a.Text, a.Message = "", status.Message
	}
	return a
}

// haveLog matches an answer that is a complete log.
func haveLog(text string) gtypes.GomegaMatcher {
	return And(HaveField("Code", http.StatusOK), HaveField("Err", BeNil()), HaveField("Text", text))
}

// beRefused matches an answer that is an error whose message has all the words.
func beRefused(code int, words ...string) gtypes.GomegaMatcher {
	all := []gtypes.GomegaMatcher{HaveField("Code", code)}
	for _, w := range words {
		all = append(all, HaveField("Message", ContainSubstring(w)))
	}
	return And(all...)
}

// follower is a client that follows.
type follower struct {
	response *http.Response
	leave    context.CancelFunc
	ended    chan error // gets nil when the log ended as a complete one does

	mu   sync.Mutex
	read bytes.Buffer
}

// followAs follows the log of a run until the spec ends, or leave.
func followAs(ctx context.Context, user string, r *run, query string) *follower {
	f := open(ctx, user, r, query)
	go func() {
		_, err := io.Copy(f, f.response.Body)
		f.ended <- err
	}()
	return f
}

// open begins to follow, and does not read.
func open(ctx context.Context, user string, r *run, query string) *follower {
	f := &follower{ended: make(chan error, 1)}
	ctx, f.leave = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	f.response, err = ask(ctx, user, logPath(r, "follow=true&"+query)) //nolint:bodyclose // closed with the spec
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() {
		f.leave()
		f.response.Body.Close()
	})
	if f.response.StatusCode != http.StatusOK {
		Expect(read(f.response)).To(BeNil(), "the log cannot be followed")
	}
	return f
}

// Write takes in what was read.
func (f *follower) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read.Write(p)
}

// text returns what was read.
func (f *follower) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read.String()
}
