package connpool

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// gateway stands before API servers: it ends TLS, tells its users apart by token or
// client certificate, sends each to the server that is meant for it, and remembers
// who asked what over which TCP connection.
type gateway struct {
	*httptest.Server

	mu          sync.Mutex
	certificate tls.Certificate
	users       map[string]http.Handler
	hooks       map[string]http.HandlerFunc // by path, before the user's server
	visits      []*visit
	conns       map[net.Conn]struct{}
}

// visit is one request.
type visit struct {
	user, method, path string
	query              url.Values
	from               string // the far end of the TCP connection
	ended              bool
}

// watching reports whether the request is a watch.
func (v visit) watching() bool { return v.query.Get("watch") != "" }

// listing reports whether the request is for a whole list, be it by a watch.
func (v visit) listing() bool {
	if strings.HasSuffix(v.path, "/jobs") || strings.HasSuffix(v.path, "/pods") {
		return v.method == http.MethodGet && (!v.watching() || v.query.Get("sendInitialEvents") == "true")
	}
	return false
}

// newGateway starts a gateway that ends with the spec, after the pools that are made
// later. It has a certificate of the authority and sends the users to the server.
func newGateway(ca *authority, server http.Handler, users ...string) *gateway {
	g := newQuietGateway(ca, server, users...)
	g.EnableHTTP2 = true
	g.start()
	return g
}

// newQuietGateway returns one that was not started.
func newQuietGateway(ca *authority, server http.Handler, users ...string) *gateway {
	g := &gateway{
		users: map[string]http.Handler{}, hooks: map[string]http.HandlerFunc{}, conns: map[net.Conn]struct{}{},
		certificate: ca.issue("gateway"),
	}
	for _, user := range users {
		g.users[user] = server
	}
	g.Server = httptest.NewUnstartedServer(g)
	g.Config.ErrorLog = log.New(GinkgoWriter, "gateway: ", 0)
	g.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if state == http.StateClosed || state == http.StateHijacked {
			delete(g.conns, conn)
			return
		}
		g.conns[conn] = struct{}{}
	}
	return g
}

func (g *gateway) start() {
	g.TLS = &tls.Config{Certificates: []tls.Certificate{g.certificate}, ClientAuth: tls.RequestClientCert}
	g.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		current := g.TLS.Clone()
		current.GetConfigForClient = nil
		current.Certificates = []tls.Certificate{g.certificate}
		return current, nil
	}
	g.StartTLS()
	DeferCleanup(func() {
		g.CloseClientConnections() // watches would go on
		g.Close()
	})
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if certificates := r.TLS.PeerCertificates; len(certificates) > 0 {
		user = certificates[0].Subject.CommonName
	}
	v := &visit{user: user, method: r.Method, path: r.URL.Path, query: r.URL.Query(), from: r.RemoteAddr}
	g.mu.Lock()
	g.visits = append(g.visits, v)
	hook, server := g.hooks[r.URL.Path], g.users[user]
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		v.ended = true
	}()
	if hook != nil {
		hook(w, r)
	}
	if server == nil {
		answerError(apierrors.NewUnauthorized("nobody knows "+user))(w, r)
		return
	}
	server.ServeHTTP(w, r)
}

// user sends a user to a server; without one the user is not known any more.
func (g *gateway) user(name string, server http.Handler) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users[name] = server
}

// hook does something before a request for the path goes on.
func (g *gateway) hook(path string, do http.HandlerFunc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hooks[path] = do
}

// seen returns the requests so far that the filter picks.
func (g *gateway) seen(filter func(visit) bool) []visit {
	g.mu.Lock()
	defer g.mu.Unlock()
	var seen []visit
	for _, v := range g.visits {
		if filter(*v) {
			seen = append(seen, *v)
		}
	}
	return seen
}

// watchesOf counts the open watches of a user; "" is any.
func (g *gateway) watchesOf(user string) func() int {
	return func() int {
		return len(g.seen(func(v visit) bool { return !v.ended && v.watching() && (user == "" || v.user == user) }))
	}
}

// creators returns the users that created something, in order.
func (g *gateway) creators() []string {
	var users []string
	for _, v := range g.seen(func(v visit) bool {
		return v.method == http.MethodPost && !strings.HasSuffix(v.path, "/selfsubjectaccessreviews")
	}) {
		users = append(users, v.user)
	}
	return users
}

// connsOf returns the TCP connections, open or not, over which a user asked; "" is any.
func (g *gateway) connsOf(user string) []string {
	var conns []string
	for _, v := range g.seen(func(v visit) bool { return user == "" || v.user == user }) {
		if !slices.Contains(conns, v.from) {
			conns = append(conns, v.from)
		}
	}
	return conns
}

// open returns the TCP connections that are open.
func (g *gateway) open() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	open := []string{}
	for conn := range g.conns {
		open = append(open, conn.RemoteAddr().String())
	}
	return open
}

// config reaches the gateway, and presents nothing yet.
func (g *gateway) config(ca *authority) Config {
	return Config{Identity: Identity{Server: g.URL, CAData: ca.pem()}}
}

// withToken returns the configuration with another token.
func withToken(config Config, token string) Config {
	config.Token = token
	return config
}

// realServer returns the suite's API server, asked by its administrator.
func realServer() http.Handler {
	upstream, err := url.Parse(cluster.Config().Host)
	Expect(err).NotTo(HaveOccurred())
	transport, err := rest.TransportFor(cluster.Config())
	Expect(err).NotTo(HaveOccurred())
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.Out.Header.Del("Authorization")
		},
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      log.New(GinkgoWriter, "gateway: ", 0),
	}
}

// fakeServer answers as an API server with the UID that has no objects.
func fakeServer(uid string) *apiserver {
	s := newAPIServer()
	s.answer(identityPath, answerJSON(&corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: types.UID(uid)},
	}))
	return s
}

// authority is a CA of a spec's own.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority() *authority {
	a := &authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: uniqueName("ca")},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.certificate, a.key = a.sign(template)
	return a
}

// sign makes a key and a certificate for it; the authority's own while it has none.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	Expect(err).NotTo(HaveOccurred())
	certificate, err := x509.ParseCertificate(der)
	Expect(err).NotTo(HaveOccurred())
	return certificate, key
}

// issue makes a certificate for a name, which a server at 127.0.0.1 can use and a
// client.
func (a *authority) issue(name string) tls.Certificate {
	certificate, key := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"gateway.example"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}
}

// pem returns what clients trust.
func (a *authority) pem() []byte { return caOf(a.certificate) }

// withCertificate returns the configuration with a client certificate for the user.
func (a *authority) withCertificate(config Config, user string) Config {
	pair := a.issue(user)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	Expect(err).NotTo(HaveOccurred())
	config.CertData = caOf(pair.Leaf)
	config.KeyData = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	return config
}

// history are the statuses that OnState found, of each connection in order.
type history struct {
	*rig
	mu   sync.Mutex
	told map[string][]Status
}

// newHistory makes a rig with a history.
func newHistory() *history {
	h := &history{told: map[string][]Status{}}
	h.rig = newRig(func(o *Options) {
		onState := o.OnState
		o.OnState = func(name string, onlyWords bool) {
			status, _ := h.pool.Status(name)
			h.mu.Lock()
			h.told[name] = append(h.told[name], status)
			h.mu.Unlock()
			onState(name, onlyWords)
		}
	})
	return h
}

// of returns the states of a connection that OnState has reported.
func (h *history) of(name string) []State {
	h.mu.Lock()
	defer h.mu.Unlock()
	states := []State{}
	for _, status := range h.told[name] {
		states = append(states, status.State)
	}
	return states
}

// statusOf reads the status of a connection.
func (r *rig) statusOf(name string) Status {
	status, _ := r.pool.Status(name)
	return status
}

// hashOf reads which identity a connection uses.
func (r *rig) hashOf(name string) func() string {
	return func() string { return r.statusOf(name).IdentityHash }
}

// nextState reads the state of the identity that target does not use yet; "" when
// there is none.
func (r *rig) nextState() State {
	if next := r.status().Next; next != nil {
		return next.State
	}
	return ""
}

// createThrough creates a Job by a lease of the connection.
func (r *rig) createThrough(ctx context.Context, name string) error {
	_, _, err := r.lease(name).CreateJob(ctx, toCreate(r.newJob()))
	return err
}

// holdUp makes a hook that holds requests up until release is called.
func holdUp() (hook http.HandlerFunc, release func()) {
	gate := make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	DeferCleanup(release)
	return func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	}, release
}

// getJob asks for a Job that does not exist, in the background.
func getJob(ctx context.Context, l *Lease) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := l.GetJob(ctx, "default", "job")
		ended <- err
	}()
	return ended
}
