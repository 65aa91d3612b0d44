package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// tcpEstablished is a connection's state in /proc/net/tcp; see proc_net_tcp.rst of Linux.
const tcpEstablished = "01"

// connectionsOf counts, by remote port and as Linux has it, the established TCP
// connections of a process.
func connectionsOf(g Gomega, pid int) map[string]int {
	folder := fmt.Sprintf("/proc/%d", pid)
	files, err := os.ReadDir(filepath.Join(folder, "fd"))
	g.Expect(err).NotTo(HaveOccurred())
	own := map[string]bool{}
	for _, file := range files {
		// A file that was closed meanwhile has no link any more.
		if link, err := os.Readlink(filepath.Join(folder, "fd", file.Name())); err == nil {
			own[link] = true
		}
	}
	counts := map[string]int{}
	for _, table := range []string{"tcp", "tcp6"} {
		content, err := os.ReadFile(filepath.Join(folder, "net", table))
		if os.IsNotExist(err) && table == "tcp6" {
			continue
		}
		g.Expect(err).NotTo(HaveOccurred())
		for line := range strings.Lines(string(content)) {
			// sl local remote state queues timer retransmits uid timeout inode
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != tcpEstablished || !own["socket:["+fields[9]+"]"] {
				continue
			}
			_, hex, _ := strings.Cut(fields[2], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			g.Expect(err).NotTo(HaveOccurred())
			counts[strconv.FormatUint(port, 10)]++
		}
	}
	return counts
}

// connectionsTo returns the established TCP connections of the manager to any of the
// addresses, by port.
func connectionsTo(addresses ...string) func(Gomega) map[string]int {
	return func(g Gomega) map[string]int {
		all, wanted := connectionsOf(g, local.Manager().PID()), map[string]int{}
		for _, address := range addresses {
			if n := all[portOf(address)]; n > 0 {
				wanted[portOf(address)] = n
			}
		}
		return wanted
	}
}

// hostOf returns the host and port of a URL, or of what is no URL.
func hostOf(address string) string {
	_, host, ok := strings.Cut(address, "://")
	if !ok {
		host = address
	}
	return strings.TrimSuffix(host, "/")
}

func portOf(address string) string {
	_, port, err := net.SplitHostPort(hostOf(address))
	Expect(err).NotTo(HaveOccurred())
	return port
}

// forwarder is another address of a server: it hands on TCP connections.
type forwarder struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	conns []net.Conn
}

// newForwarder hands on to a server until the spec ends, or close.
func newForwarder(ctx context.Context, to string) *forwarder {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	f := &forwarder{listener: listener, to: hostOf(to)}
	var running sync.WaitGroup
	running.Go(f.run)
	DeferCleanup(func() {
		f.close()
		running.Wait()
	})
	return f
}

// url returns the address to use.
func (f *forwarder) url() string { return "https://" + f.listener.Addr().String() }

func (f *forwarder) run() {
	var links sync.WaitGroup
	defer links.Wait()
	for {
		near, err := f.listener.Accept()
		if err != nil {
			return
		}
		far, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", f.to)
		if err != nil {
			near.Close()
			continue
		}
		f.mu.Lock()
		f.conns = append(f.conns, near, far)
		f.mu.Unlock()
		for _, way := range [][]net.Conn{{near, far}, {far, near}} {
			links.Go(func() {
				_, _ = io.Copy(way[1], way[0])
				near.Close()
				far.Close()
			})
		}
	}
}

// close ends the address and its connections.
func (f *forwarder) close() {
	f.listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range f.conns {
		conn.Close()
	}
}
