package faultproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// streams is how many requests one connection takes at once; an API server's default.
const streams = 100

// Proxy stands before one API server. Its methods may be called concurrently.
type Proxy struct {
	name   string
	ca     []byte
	server *http.Server
	back   *http.Transport
	lines  *lines
	done   chan struct{}  // closed when the server has ended
	late   sync.WaitGroup // requests that are on their way

	mu      sync.Mutex
	tokens  []string
	hook    Hook
	watches map[*watchBody]struct{}
}

// Start starts a proxy before the API server of that configuration, as the user of
// its client certificate. The token is the first that is good.
func Start(ctx context.Context, name string, behind *rest.Config, token string) (*Proxy, error) {
	address, err := url.Parse(behind.Host)
	if err != nil {
		return nil, fmt.Errorf("the server behind proxy %s: %w", name, err)
	}
	clientTLS, err := rest.TLSConfigFor(behind)
	if err != nil {
		return nil, fmt.Errorf("the client certificate of proxy %s: %w", name, err)
	}
	certificate, ca, err := newCertificate(name)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for proxy %s: %w", name, err)
	}
	p := &Proxy{
		name: name, ca: ca, lines: newLines(listener), done: make(chan struct{}),
		tokens: []string{token}, watches: map[*watchBody]struct{}{},
		back: &http.Transport{
			TLSClientConfig: clientTLS, ForceAttemptHTTP2: true, DisableCompression: true,
			HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		},
	}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(address)
			r.Out.Header.Del("Authorization")
		},
		Transport:      p.back,
		FlushInterval:  -1,
		ModifyResponse: p.answered,
		ErrorHandler:   p.failed,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	p.server = &http.Server{
		Handler:           p.handler(forward),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ConnContext:       withLine,
		ErrorLog:          log.New(io.Discard, "", 0),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: streams},
		ReadHeaderTimeout: time.Minute,
	}
	go func() {
		defer close(p.done)
		_ = p.server.ServeTLS(p.lines, "", "")
	}()
	return p, nil
}

// Stop ends the proxy and all connections.
func (p *Proxy) Stop() {
	p.Heal()
	_ = p.server.Close()
	<-p.done
	p.late.Wait()
	p.lines.cut()
	p.back.CloseIdleConnections()
}

// URL returns where the proxy listens.
func (p *Proxy) URL() string { return "https://" + p.lines.Addr().String() }

// Config returns a configuration for the proxy with that token.
func (p *Proxy) Config(token string) *rest.Config {
	return &rest.Config{Host: p.URL(), BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: p.ca}, QPS: -1}
}

// Kubeconfig returns a kubeconfig for the proxy with that token.
func (p *Proxy) Kubeconfig(token string) ([]byte, error) {
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[p.name] = &clientcmdapi.Cluster{Server: p.URL(), CertificateAuthorityData: p.ca}
	kubeconfig.AuthInfos[p.name] = &clientcmdapi.AuthInfo{Token: token}
	kubeconfig.Contexts[p.name] = &clientcmdapi.Context{Cluster: p.name, AuthInfo: p.name}
	kubeconfig.CurrentContext = p.name
	data, err := clientcmd.Write(*kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("encoding a kubeconfig of proxy %s: %w", p.name, err)
	}
	return data, nil
}

// Accept says which tokens are good from now on. As with an API server, watches that
// were begun with another one go on.
func (p *Proxy) Accept(tokens ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens = slices.Clone(tokens)
}

// SetHook says what happens to each request that comes from now on; nil lets all pass.
func (p *Proxy) SetHook(hook Hook) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

// Cut ends all connections. New ones can be made at once.
func (p *Proxy) Cut() { p.lines.cut() }

// BlackHole makes all connections silent, also new ones, until Heal: nothing is read
// or written, and nothing ends.
func (p *Proxy) BlackHole() { p.lines.setSilent(true) }

// Heal ends BlackHole: connections go on where they were.
func (p *Proxy) Heal() { p.lines.setSilent(false) }

// Connections returns how many connections there are.
func (p *Proxy) Connections() int { return p.lines.count() }

// Watches returns how many watches are under way.
func (p *Proxy) Watches() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.watches)
}

// EndWatches ends all watches, as an API server does when their time is over.
func (p *Proxy) EndWatches() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for watch := range p.watches {
		watch.end()
	}
}

func (p *Proxy) accepts(header string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.tokens, func(token string) bool { return header == "Bearer "+token })
}

// ask returns what the hook says.
func (p *Proxy) ask(moment Moment, call *Call) Action {
	p.mu.Lock()
	hook := p.hook
	p.mu.Unlock()
	if hook == nil {
		return Action{}
	}
	return hook(moment, call)
}

type contextKey string

const (
	lineKey contextKey = "line"
	callKey contextKey = "call"
	lateKey contextKey = "late"
)

func withLine(ctx context.Context, conn net.Conn) context.Context {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	return context.WithValue(ctx, lineKey, conn)
}

// cutLine cuts the connection that a request came by.
func cutLine(ctx context.Context) {
	if line, ok := ctx.Value(lineKey).(*line); ok {
		line.cut()
	}
}

// handler checks the token, asks the hook and forwards.
func (p *Proxy) handler(forward http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := newCall(r)
		if !p.accepts(r.Header.Get("Authorization")) {
			newStatus(http.StatusUnauthorized, 0).write(w)
			return
		}
		// All of it has come before the hook is told: a hook may break the line.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // the client went away before it had said all
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		action := p.ask(Before, call)
		if action.Later > 0 {
			r.Body = p.postpone(r, forward, action.Later)
			action.Cut = true
		}
		other, err := perform(r.Context(), action)
		switch {
		case err != nil:
			panic(http.ErrAbortHandler)
		case other != nil:
			other.write(w)
		default:
			forward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey, call)))
		}
	})
}

// postpone forwards a request when some time has passed, whether its client is still
// there or not. It returns the body anew.
func (p *Proxy) postpone(r *http.Request, forward http.Handler, d time.Duration) io.ReadCloser {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return http.NoBody // the client went away before it had said all
	}
	ctx := context.WithValue(context.WithoutCancel(r.Context()), lateKey, true)
	late := r.Clone(ctx)
	late.Body = io.NopCloser(bytes.NewReader(body))
	p.late.Go(func() {
		select {
		case <-time.After(d):
		case <-p.done:
			return
		}
		defer func() { _ = recover() }() // that is how a failed request ends
		forward.ServeHTTP(&nobody{header: http.Header{}}, late)
	})
	return io.NopCloser(bytes.NewReader(body))
}

// nobody is whom the answer to a late request goes to.
type nobody struct{ header http.Header }

// Header implements http.ResponseWriter.
func (n *nobody) Header() http.Header { return n.header }

// Write implements http.ResponseWriter.
func (n *nobody) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader implements http.ResponseWriter.
func (n *nobody) WriteHeader(int) {}

// answered is called with the server's answer.
func (p *Proxy) answered(response *http.Response) error {
	ctx := response.Request.Context()
	if ctx.Value(lateKey) != nil {
		return nil
	}
	call, ok := ctx.Value(callKey).(*Call)
	if !ok {
		return errors.New("a request without a call")
	}
	call.Code = response.StatusCode
	action := p.ask(After, call)
	other, err := perform(ctx, action)
	if err != nil {
		return err
	}
	if other != nil {
		other.replace(response)
	} else if call.Watch && response.StatusCode == http.StatusOK {
		response.Body = p.watchBody(response.Body, action.First)
	}
	return nil
}

// failed ends a request that has no answer. When that is not the client's own doing,
// it looks to it as if its connection was lost.
func (p *Proxy) failed(_ http.ResponseWriter, r *http.Request, _ error) {
	if r.Context().Err() == nil {
		cutLine(r.Context())
	}
	panic(http.ErrAbortHandler)
}

// watchBody is what a watch tells. It can be ended.
type watchBody struct {
	io.Reader
	io.Closer
	proxy *Proxy
	once  sync.Once
	ended chan struct{}
}

func (p *Proxy) watchBody(body io.ReadCloser, first io.Reader) *watchBody {
	b := &watchBody{Reader: body, Closer: body, proxy: p, ended: make(chan struct{})}
	if first != nil {
		b.Reader = io.MultiReader(first, body)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watches[b] = struct{}{}
	return b
}

// end makes the watch end without an error.
func (b *watchBody) end() {
	b.once.Do(func() {
		close(b.ended)
		_ = b.Closer.Close()
	})
}

// Read implements io.Reader.
func (b *watchBody) Read(buffer []byte) (int, error) {
	n, err := b.Reader.Read(buffer)
	select {
	case <-b.ended:
		return n, io.EOF
	default:
		return n, err
	}
}

// Close implements io.Closer.
func (b *watchBody) Close() error {
	b.proxy.mu.Lock()
	delete(b.proxy.watches, b)
	b.proxy.mu.Unlock()
	return b.Closer.Close()
}
