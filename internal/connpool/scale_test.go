package connpool

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	realConnections = 60
	stubConnections = 120
	deadConnections = 20
	// maxGoroutines and maxBytes, of live heap, are what a connection without objects may
	// take.
	maxGoroutines = 15
	maxBytes      = 100 << 10
	// readyBound is within which all that live are Ready, on two busy cores.
	readyBound = 30 * time.Second
)

var _ = Describe("Two hundred connections", Ordered, func() {
	var (
		users []Config
		stubs []*countedServer
		fleet map[string]Config // of those that live, by name
		alone time.Duration
	)
	BeforeAll(func(ctx context.Context) {
		group := grantGroup(ctx)
		fleet = map[string]Config{}
		for i := range realConnections {
			config := groupConfig(uniqueName("user"), group)
			users = append(users, config)
			fleet[fmt.Sprint("real-", i)] = config
		}
		for i := range stubConnections {
			s := newCountedServer()
			stubs = append(stubs, s)
			fleet[fmt.Sprint("stub-", i)] = s.config(fmt.Sprint("token-", i))
		}
	})

	It("become Ready within 30 seconds, with one TCP connection and two watches each", func(ctx context.Context) {
		r := newQuietRig()
		sockets, watches := inodesTo(cluster.Config().Host), watchesAt(ctx)
		alone = r.connectAll(ctx, fleet, nil)
		AddReportEntry("180 connections, all alive", fmt.Sprintf("Ready after %.2f s", alone.Seconds()), ReportEntryVisibilityFailureOrVerbose)
		Expect(alone).To(BeNumerically("<", readyBound))

		Eventually(ctx, func() []string { return added(sockets, inodesTo(cluster.Config().Host)) }).Should(HaveLen(realConnections), "as the operating system counts")
		Eventually(ctx, func() map[string]int { return less(watchesAt(ctx), watches) }).Should(Equal(map[string]int{"jobs": realConnections, "pods": realConnections}), "as the API server counts")
		for i, s := range stubs {
			Expect(s.connections()).To(HaveLen(1), "to stub %d, as it counts", i)
			Expect(inodesTo(s.URL)).To(HaveLen(1), "to stub %d, as the operating system counts", i)
			Expect(s.watches()).To(Equal(2), "at stub %d", i)
		}
		// And so it stays.
		dials := func() (n int) {
			for _, s := range stubs {
				n += s.dialled()
			}
			return n
		}
		Consistently(ctx, dials).WithTimeout(2 * quiet).Should(Equal(dials()))
		Expect(added(sockets, inodesTo(cluster.Config().Host))).To(HaveLen(realConnections))
	})

	It("become Ready in time and stay undisturbed although 20 of them never connect", func(ctx context.Context) {
		r := newQuietRig()
		dead := deadFleet()
		Expect(dead).To(HaveLen(deadConnections))
		Expect(len(fleet) + len(dead)).To(Equal(200))
		beside := r.connectAll(ctx, fleet, dead)
		AddReportEntry("200 connections, 20 of them dead", fmt.Sprintf("the others Ready after %.2f s", beside.Seconds()), ReportEntryVisibilityFailureOrVerbose)
		Expect(beside).To(BeNumerically("<", readyBound))
		Expect(beside).To(BeNumerically("<", 5*alone+10*time.Second), "%s without the dead", alone)
		told := r.toldOfAll(fleet)
		for name := range dead {
			Eventually(ctx, r.attemptsOf(name)).WithTimeout(time.Minute).Should(BeNumerically(">=", 3), name)
			Expect(r.stateOf(name)()).To(Equal(Unreachable), name)
		}
		for name := range fleet {
			Expect(r.stateOf(name)()).To(Equal(Ready), name)
		}
		Expect(r.toldOfAll(fleet)).To(Equal(told), "somebody was disturbed")
	})

	It("use at most 15 goroutines and 100 KiB of live heap each, and no goroutine after Disconnect", func(ctx context.Context) {
		r := newQuietRig()
		// The API server is another process: what grows here is the connections' own.
		some := map[string]Config{}
		for i, config := range users {
			some[fmt.Sprint("real-", i)] = config
		}
		heap, before := inUse(), runtime.NumGoroutine()
		r.connectAll(ctx, some, nil)
		perConnection := float64(runtime.NumGoroutine()-before) / realConnections
		bytes := (inUse() - heap) / realConnections
		AddReportEntry("per connection", fmt.Sprintf("%.1f goroutines, %d KiB of live heap (%d connections without objects)",
			perConnection, bytes>>10, realConnections), ReportEntryVisibilityFailureOrVerbose)
		Expect(perConnection).To(BeNumerically("<=", maxGoroutines))
		Expect(bytes).To(BeNumerically("<=", maxBytes))
		for name := range some {
			r.pool.Disconnect(name)
		}
		Eventually(ctx, runtime.NumGoroutine).Should(BeNumerically("<=", before+2), goroutines)
	})
})

var _ = Describe("A server with 40 connections that goes down and comes back", func() {
	It("gets one dial per connection, spread over time, and disturbs no connection to another server", func(ctx context.Context) {
		const several = 40
		shared, other := newCountedServer(), newCountedServer()
		p := newProxy(shared.URL)
		r := newQuietRig(func(o *Options) {
			o.ProbeInterval = 300 * time.Millisecond
			o.MinBackoff, o.MaxBackoff = 100*time.Millisecond, 3*time.Second
		})
		mine, others := map[string]Config{}, map[string]Config{}
		for i := range several {
			config := shared.config(fmt.Sprint("token-", i))
			config.Server = "https://" + p.address
			mine[fmt.Sprint("mine-", i)] = config
			others[fmt.Sprint("other-", i)] = other.config(fmt.Sprint("token-", i))
		}
		r.connectAll(ctx, mine, nil)
		r.connectAll(ctx, others, nil)
		told, toldOthers, dialledOthers := r.toldOfAll(mine), r.toldOfAll(others), other.dialled()

		p.down()
		for name := range mine {
			Eventually(ctx, r.stateOf(name)).Should(Equal(Unreachable), name)
			// By now the limit of its wait is MaxBackoff.
			Eventually(ctx, r.attemptsOf(name)).WithTimeout(time.Minute).Should(BeNumerically(">=", 6), name)
		}
		shared.forget()
		up := time.Now()
		p.up(ctx)
		r.awaitAll(ctx, mine)
		dials := shared.arrivals()
		Expect(dials).To(HaveLen(several), "one dial each")
		spread := dials[several-1].Sub(dials[0])
		AddReportEntry("comeback", fmt.Sprintf("%d dials from %.2f to %.2f s after the server was back, at most %d within 0.2 s", several,
			dials[0].Sub(up).Seconds(), dials[several-1].Sub(up).Seconds(), crowd(dials, 200*time.Millisecond)), ReportEntryVisibilityFailureOrVerbose)
		Expect(spread).To(BeNumerically(">", time.Second))
		Expect(crowd(dials, 200*time.Millisecond)).To(BeNumerically("<", several/2))
		for name, before := range told {
			Expect(r.toldOfAll(mine)).To(HaveKeyWithValue(name, before+2), "of Unreachable and of Ready")
		}
		Expect(r.toldOfAll(others)).To(Equal(toldOthers), "somebody was disturbed")
		Expect(other.dialled()).To(Equal(dialledOthers))
	})
})

// quietRig is a rig that counts what is told of each connection, and logs nothing.
type quietRig struct {
	*rig
	tellings sync.Mutex
	told     map[string]int
}

func newQuietRig(changes ...func(*Options)) *quietRig {
	q := &quietRig{rig: &rig{run: uniqueName("run")}, told: map[string]int{}}
	options := Options{
		Selector: runLabel + "=" + q.run, KeyLabel: keyLabel, UserAgent: "connpool-test", Log: logr.Discard(),
		OnState: func(name string, _ bool) {
			q.tellings.Lock()
			defer q.tellings.Unlock()
			q.told[name]++
		},
		ProbeInterval: 2 * time.Second, MinBackoff: 50 * time.Millisecond, MaxBackoff: 300 * time.Millisecond,
	}
	for _, change := range changes {
		change(&options)
	}
	ctx, cancel := context.WithCancel(logr.NewContext(context.Background(), options.Log))
	q.pool, q.stop = New(ctx, options), cancel
	DeferCleanup(func() {
		cancel()
		q.pool.Wait()
	})
	return q
}

// toldOfAll counts the calls of OnState for each of these connections.
func (r *quietRig) toldOfAll(all map[string]Config) map[string]int {
	r.tellings.Lock()
	defer r.tellings.Unlock()
	told := map[string]int{}
	for name := range all {
		told[name] = r.told[name]
	}
	return told
}

// connectAll connects both, the dead in between, and returns after which time those
// that live were Ready.
func (r *quietRig) connectAll(ctx context.Context, living, dead map[string]Config) time.Duration {
	GinkgoHelper()
	began := time.Now()
	for name, config := range dead {
		r.pool.Connect(name, config)
	}
	for name, config := range living {
		r.pool.Connect(name, config)
	}
	r.awaitAll(ctx, living)
	return time.Since(began)
}

func (r *quietRig) awaitAll(ctx context.Context, all map[string]Config) {
	GinkgoHelper()
	Eventually(ctx, func() (missing []string) {
		for name := range all {
			if r.stateOf(name)() != Ready {
				missing = append(missing, name)
			}
		}
		return missing
	}).WithTimeout(2 * readyBound).Should(BeEmpty())
}

// attemptsOf counts the sessions of a connection that led to Unreachable.
func (r *quietRig) attemptsOf(name string) func() int64 {
	return func() int64 {
		r.pool.mu.Lock()
		defer r.pool.mu.Unlock()
		return r.pool.members[name].current.entry.ended[Unreachable]
	}
}

// deadFleet returns connections that come to nothing, each in one of four ways.
func deadFleet() map[string]Config {
	hole, stub := newProxy(cluster.Config().Host), newCountedServer()
	hole.hold()
	fleet := map[string]Config{}
	for i := range deadConnections / 4 {
		token := fmt.Sprint("dead-", i)
		fleet[fmt.Sprint("refused-", i)] = Config{Identity: Identity{Server: "https://" + closedAddress(), Token: token}}
		fleet[fmt.Sprint("deaf-", i)] = Config{Identity: Identity{Server: "https://" + hole.address, Token: token}}
		stranger := stub.config(token)
		stranger.CAData = cluster.Config().CAData
		fleet[fmt.Sprint("wrong-ca-", i)] = stranger
		nobody := adminConfig(nil)
		nobody.TLSServerName = fmt.Sprint("another-", i, ".example")
		fleet[fmt.Sprint("wrong-name-", i)] = nobody
	}
	return fleet
}

// countedServer is an apiserver that counts connections and watches.
type countedServer struct {
	*apiserver
	mu      sync.Mutex
	open    map[net.Conn]struct{}
	times   []time.Time // of the connections that ever came
	watched int
}

func newCountedServer() *countedServer {
	s := &countedServer{open: map[net.Conn]struct{}{}}
	s.apiserver = newAPIServer(func(c *http.Server) { c.ConnState = s.note })
	for _, path := range []string{jobsPath, podsPath} {
		answer := s.answers[path]
		s.answer(path, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("watch") != "" {
				s.count(1)
				defer s.count(-1)
			}
			answer(w, r)
		})
	}
	return s
}

func (s *countedServer) note(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.open[conn] = struct{}{}
		s.times = append(s.times, time.Now())
	}
	if state == http.StateClosed || state == http.StateHijacked {
		delete(s.open, conn)
	}
}

func (s *countedServer) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched += n
}

// connections returns the open ones.
func (s *countedServer) connections() []net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []net.Conn
	for conn := range s.open {
		open = append(open, conn)
	}
	return open
}

func (s *countedServer) watches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watched
}

// dialled counts the connections that ever came, or came since forget; arrivals is
// when they did.
func (s *countedServer) dialled() int { return len(s.arrivals()) }

func (s *countedServer) arrivals() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.times)
}

func (s *countedServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = nil
}

// crowd returns the greatest number of moments that lie within a window.
func crowd(moments []time.Time, window time.Duration) (most int) {
	for i, first := range moments {
		n := 0
		for _, moment := range moments[i:] {
			if moment.Sub(first) <= window {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// grantGroup makes a group whose members may all that connections need.
func grantGroup(ctx context.Context) string {
	GinkgoHelper()
	group := uniqueName("group")
	_, err := client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: group},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get"}},
			{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"get", "list", "watch", "create", "patch", "delete"}},
			{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list", "watch", "delete"}},
		},
	}, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: group},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: group},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: group}},
	}, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	return group
}

// groupConfig reaches the cluster as a member of the group.
func groupConfig(user, group string) Config {
	GinkgoHelper()
	kubeconfig, err := cluster.KubeconfigFor(user, group)
	Expect(err).NotTo(HaveOccurred())
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	Expect(err).NotTo(HaveOccurred())
	return configOf(config, nil)
}

// inUse returns the bytes of live heap.
func inUse() int {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

// watchesAt counts the watches of Jobs and Pods that the API server serves.
func watchesAt(ctx context.Context) map[string]int {
	GinkgoHelper()
	body, err := client.Discovery().RESTClient().Get().AbsPath("/metrics").Do(ctx).Raw()
	Expect(err).NotTo(HaveOccurred())
	watches := map[string]int{}
	for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, "apiserver_longrunning_requests{") || !strings.Contains(line, `verb="WATCH"`) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64)
		Expect(err).NotTo(HaveOccurred())
		for _, resource := range []string{"jobs", "pods"} {
			if strings.Contains(line, `resource="`+resource+`"`) {
				watches[resource] += int(value)
			}
		}
	}
	return watches
}

func less(counts, before map[string]int) map[string]int {
	difference := map[string]int{}
	for name, count := range counts {
		difference[name] = count - before[name]
	}
	return difference
}

// inodesTo returns this process' open TCP connections to a server, by their inodes, as
// the kernel knows them.
func inodesTo(server string) []string {
	GinkgoHelper()
	_, port, err := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(server, "https://"), "/"))
	Expect(err).NotTo(HaveOccurred())
	number, err := strconv.Atoi(port)
	Expect(err).NotTo(HaveOccurred())
	mine := ownSockets()
	var found []string
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		lines, err := os.ReadFile(table)
		Expect(err).NotTo(HaveOccurred())
		for line := range strings.Lines(string(lines)) {
			fields := strings.Fields(line)
			const established = "01"
			if len(fields) > 9 && strings.HasSuffix(fields[2], fmt.Sprintf(":%04X", number)) && fields[3] == established && mine[fields[9]] {
				found = append(found, fields[9])
			}
		}
	}
	return found
}

// ownSockets returns the inodes of this process' sockets.
func ownSockets() map[string]bool {
	GinkgoHelper()
	files, err := filepath.Glob("/proc/self/fd/*")
	Expect(err).NotTo(HaveOccurred())
	inodes := map[string]bool{}
	for _, file := range files {
		link, err := os.Readlink(file)
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes
}

// added returns those that were not there before.
func added(before, now []string) []string {
	return slices.DeleteFunc(slices.Clone(now), func(inode string) bool { return slices.Contains(before, inode) })
}
