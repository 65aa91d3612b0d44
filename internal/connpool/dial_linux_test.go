package connpool

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// Other systems than Linux treat a full queue in other ways.
var _ = Describe("A connection that is closed while it dials", func() {
	It("ends its pending dial when the pool stops", func(ctx context.Context) {
		address := deafAddress()
		r := newRig()
		r.pool.Connect(target, Config{Identity: Identity{Server: "https://" + address, Token: "token"}})
		Eventually(ctx, goroutines).Should(ContainSubstring("net.(*sysDialer)"))
		r.stop()
		r.pool.Wait()
		// The dial's own limit is 10 s.
		Eventually(ctx, goroutines).WithTimeout(3 * time.Second).ShouldNot(ContainSubstring("net.(*sysDialer)"))
	})
})

// deafAddress returns one where a dial gets no answer: somebody listens, but the queue
// of connections that wait to be accepted is full.
func deafAddress() string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(syscall.Close, fd)
	Expect(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})).To(Succeed())
	Expect(syscall.Listen(fd, 0)).To(Succeed())
	bound, err := syscall.Getsockname(fd)
	Expect(err).NotTo(HaveOccurred())
	inet, ok := bound.(*syscall.SockaddrInet4)
	Expect(ok).To(BeTrue())
	address := fmt.Sprintf("127.0.0.1:%d", inet.Port)
	fill(address)
	return address
}

// fill dials until nobody answers any more.
func fill(address string) {
	for range 10 {
		conn, err := (&net.Dialer{Timeout: 300 * time.Millisecond}).DialContext(context.Background(), "tcp", address)
		if err != nil {
			return
		}
		DeferCleanup(conn.Close)
	}
	Fail("the queue of " + address + " does not fill up")
}
