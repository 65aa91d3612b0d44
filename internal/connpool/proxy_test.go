package connpool

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// proxy forwards TCP connections to the API server, byte by byte, and can be told
// to fail as networks do.
type proxy struct {
	address  string
	upstream string
	running  sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	links    map[*link]struct{}
	accepted int
	holding  bool
	delay    time.Duration
	backlog  []chunk // what came in while holding, in order
}

// link is one forwarded connection.
type link struct{ near, far net.Conn }

// chunk are bytes on their way.
type chunk struct {
	to   net.Conn
	data []byte
}

// newProxy forwards to the server until the spec ends.
func newProxy(server string) *proxy {
	p := &proxy{upstream: strings.TrimSuffix(strings.TrimPrefix(server, "https://"), "/"), links: map[*link]struct{}{}}
	Expect(p.listen("127.0.0.1:0")).To(Succeed())
	DeferCleanup(func() {
		p.down()
		p.running.Wait()
	})
	return p
}

func (p *proxy) listen(address string) error {
	listener, err := listen(address)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener, p.address = listener, listener.Addr().String()
	p.running.Go(func() { p.accept(listener) })
	return nil
}

func listen(address string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
}

func (p *proxy) accept(listener net.Listener) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		p.admit(near)
	}
}

func (p *proxy) admit(near net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted++
	far, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.upstream)
	if err != nil || p.listener == nil {
		reset(near)
		return
	}
	l := &link{near: near, far: far}
	p.links[l] = struct{}{}
	p.running.Go(func() { p.pump(l, near, far) })
	p.running.Go(func() { p.pump(l, far, near) })
}

// reset closes a connection with a RST, as a host does on which nobody listens.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

// pump reads on while the proxy is holding, so that it sees the end of a
// connection also then.
func (p *proxy) pump(l *link, from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.linger()
		p.deliver(chunk{to: to, data: append([]byte{}, buffer[:n]...)})
		if err != nil {
			break
		}
	}
	l.near.Close()
	l.far.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// linger waits for as long as slow said.
func (p *proxy) linger() {
	p.mu.Lock()
	delay := p.delay
	p.mu.Unlock()
	if delay > 0 {
		<-time.After(delay)
	}
}

// slow delays everything, in both directions.
func (p *proxy) slow(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

func (p *proxy) deliver(c chunk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holding {
		p.backlog = append(p.backlog, c)
		return
	}
	_, _ = c.to.Write(c.data)
}

// cut closes every connection, with a RST.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		reset(l.near)
		reset(l.far)
	}
}

// down refuses new connections and cuts the old ones.
func (p *proxy) down() {
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close()
	}
	p.listener = nil
	p.mu.Unlock()
	p.cut()
}

// up ends down. Somebody may have got the port for a moment meanwhile.
func (p *proxy) up(ctx context.Context) {
	Eventually(ctx, p.listen).WithArguments(p.address).Should(Succeed())
}

// hold makes the proxy a black hole: nothing arrives any more and nobody is told.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holding = true
}

// release ends hold; what was held arrives.
func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.backlog {
		_, _ = c.to.Write(c.data)
	}
	p.holding, p.backlog = false, nil
}

// open counts the connections that are open.
func (p *proxy) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// dialled counts the connections that ever were asked for.
func (p *proxy) dialled() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}
