package transport

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// sockets are the open TCP connections of one session.
type sockets struct {
	dialer net.Dialer
	count  *atomic.Int64 // of the entry: the sessions before and after count there too
	pacing *Pacing
	done   chan struct{} // closed by close

	mu     sync.Mutex
	open   map[*socket]struct{}
	closed bool
}

// socket is a TCP connection that knows when it is closed.
type socket struct {
	net.Conn
	owner *sockets
	once  sync.Once
}

// Read implements net.Conn.
func (s *socket) Read(into []byte) (int, error) {
	n, err := s.Conn.Read(into)
	s.owner.pause(s.owner.pacing.reserve(s.owner.pacing.reads, max(n, readCost)))
	return n, err
}

// Write implements net.Conn.
func (s *socket) Write(data []byte) (int, error) {
	s.owner.pause(s.owner.pacing.reserve(s.owner.pacing.writes, 1)) // readers write, too: they ask for more
	return s.Conn.Write(data)
}

// pause waits for a delay, or until all sockets are closed.
func (s *sockets) pause(delay time.Duration) {
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.done:
		}
	}
}

// Close implements net.Conn.
func (s *socket) Close() error {
	s.once.Do(func() {
		s.owner.mu.Lock()
		defer s.owner.mu.Unlock()
		delete(s.owner.open, s)
		s.owner.count.Add(-1)
	})
	return s.Conn.Close()
}

func newSockets(o Options, count *atomic.Int64, pacing *Pacing) *sockets {
	return &sockets{
		dialer: net.Dialer{Timeout: o.DialTimeout, KeepAlive: o.PingInterval, ControlContext: refuseMetadata},
		count:  count,
		pacing: pacing,
		done:   make(chan struct{}),
		open:   map[*socket]struct{}{},
	}
}

// dial makes a TCP connection, unless close was called.
func (s *sockets) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := s.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return nil, ErrClosed
	}
	made := &socket{Conn: conn, owner: s}
	s.open[made] = struct{}{}
	s.count.Add(1)
	return made, nil
}

// close closes every connection, also those with a live watch, and lets no other
// be made.
func (s *sockets) close() {
	s.mu.Lock()
	if !s.closed {
		close(s.done)
	}
	s.closed = true
	var open []*socket
	for conn := range s.open {
		open = append(open, conn)
	}
	s.mu.Unlock()
	for _, conn := range open {
		_ = conn.Close()
	}
}

// metadataAddresses are those of cloud metadata services that are not link-local:
// AWS over IPv6, Alibaba Cloud and Oracle Cloud, after their documentation.
var metadataAddresses = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("192.0.0.192"),
}

// refuseMetadata looks at the address after the name was resolved. Cloud metadata
// services give credentials to whoever asks; they live on link-local addresses and
// a few others, and no kubeconfig may make us talk to them.
func refuseMetadata(_ context.Context, _, address string, _ syscall.RawConn) error {
	addrPort, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	addr := addrPort.Addr().Unmap().WithZone("")
	if addr.IsLinkLocalUnicast() {
		return fmt.Errorf("address %s is link-local and is never dialled", addr)
	}
	for _, known := range metadataAddresses {
		if addr == known {
			return fmt.Errorf("address %s is that of a cloud's metadata service and is never dialled", addr)
		}
	}
	return nil
}
