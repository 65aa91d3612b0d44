package faultproxy

import (
	"net"
	"sync"
)

// lines are the TCP connections of a proxy, with a switch that makes them silent.
type lines struct {
	net.Listener

	mu     sync.Mutex
	open   map[*line]struct{}
	silent chan struct{} // closed when they may go on; nil when they may
}

// line is a TCP connection from a client.
type line struct {
	net.Conn
	lines *lines
	once  sync.Once
	ended chan struct{}
}

func newLines(listener net.Listener) *lines {
	return &lines{Listener: listener, open: map[*line]struct{}{}}
}

// Accept implements net.Listener.
func (l *lines) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	opened := &line{Conn: conn, lines: l, ended: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[opened] = struct{}{}
	return opened, nil
}

// cut ends every connection with a reset.
func (l *lines) cut() {
	l.mu.Lock()
	all := make([]*line, 0, len(l.open))
	for line := range l.open {
		all = append(all, line)
	}
	l.mu.Unlock()
	for _, line := range all {
		line.cut()
	}
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// setSilent makes all connections silent, also those to come, or lets them go on.
func (l *lines) setSilent(silent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case silent && l.silent == nil:
		l.silent = make(chan struct{})
	case !silent && l.silent != nil:
		close(l.silent)
		l.silent = nil
	}
}

// await returns when the connection may go on; an error is that it has ended.
func (c *line) await() error {
	c.lines.mu.Lock()
	silent := c.lines.silent
	c.lines.mu.Unlock()
	if silent != nil {
		select {
		case <-silent:
		case <-c.ended:
		}
	}
	select {
	case <-c.ended: // what waited is not handed on, though the other side is not told yet
		return net.ErrClosed
	default:
		return nil
	}
}

// Read implements net.Conn. What came while the connection was silent is handed on
// when it is no longer.
func (c *line) Read(b []byte) (int, error) {
	if err := c.await(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	if closed := c.await(); closed != nil {
		return 0, closed
	}
	return n, err
}

// Write implements net.Conn.
func (c *line) Write(b []byte) (int, error) {
	if err := c.await(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn. A silent connection does not tell its end to the other
// side before it may speak again.
func (c *line) Close() error {
	var err error
	c.once.Do(func() {
		close(c.ended)
		c.lines.mu.Lock()
		silent := c.lines.silent
		delete(c.lines.open, c)
		c.lines.mu.Unlock()
		if silent == nil {
			err = c.Conn.Close()
			return
		}
		go func() {
			<-silent
			_ = c.Conn.Close()
		}()
	})
	return err
}

// cut closes the connection with a reset: what was written is thrown away.
func (c *line) cut() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
