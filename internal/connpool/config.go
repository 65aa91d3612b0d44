package connpool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"

	"github.com/pooledjob/pooledjob/internal/connpool/transport"
)

// Identity says which server to reach and what to present there. It holds
// secrets. Connections whose identities are equal, byte by byte, share one TCP
// connection, one client and one set of informers.
type Identity = transport.Identity

// Config is what one connection asks of the pool.
type Config struct {
	Identity
	// ExpiresAt is when the credential ends; zero if that is not known. The
	// pool hands it back and does nothing about it.
	ExpiresAt time.Time
	// ClusterUID is the UID of the kube-system namespace that must be found at
	// the target; empty at the first contact.
	ClusterUID string
	// Namespaces are those to watch; none means all at once.
	Namespaces []string
	// MaxInFlight and QPS replace the numbers of Options, if not 0. Connections
	// that share one identity share the smallest of theirs.
	MaxInFlight, QPS int
}

// scopes returns the namespaces to watch, each of which has a view of its own.
func (c Config) scopes() []string {
	if len(c.Namespaces) == 0 {
		return []string{allNamespaces}
	}
	return slices.Compact(slices.Sorted(slices.Values(c.Namespaces)))
}

// scopeNames returns the scopes in one word.
func (c Config) scopeNames() string { return strings.Join(c.scopes(), ",") }

// Options configure a Pool. The zero value of a duration or a number means its
// default.
type Options struct {
	// Selector is the label selector of the objects to watch.
	Selector string
	// KeyLabel is the label whose value groups Jobs and Pods: the objects of
	// one run have the same. Of an object's labels a Lease shows those of its domain,
	// those that Selector asks to be equal, and of a Pod the name of its Job.
	KeyLabel string
	// OnState is called after the status of a connection changed, and after it
	// was disconnected; onlyWords is true if its states are as before, and only
	// the words for them changed. It must not block.
	OnState func(connection string, onlyWords bool)
	// OnChange is called after a watched object with the given value of
	// KeyLabel changed in what a Lease shows of it, and when there is room again
	// for a call on its behalf that ended with ErrBusy. Of what was there before the
	// connection became Ready only OnState is called. It must not block.
	OnChange func(key string)
	// UserAgent names this program to the targets.
	UserAgent string
	Log       logr.Logger

	// DialTimeout bounds the making of a TCP connection. Default 5 s: within it
	// a SYN is repeated twice.
	DialTimeout time.Duration
	// TLSHandshakeTimeout bounds the TLS handshake. Default 10 s, as net/http has
	// it: several round trips around the globe, and the work of a busy server, or
	// of ours when hundreds of connections are made at once.
	TLSHandshakeTimeout time.Duration
	// PingInterval is how long a TCP connection may be silent before a ping is
	// sent over it, PingTimeout how long the answer may take before the
	// connection is closed. Defaults 10 s and 5 s: a dead peer is found in 15 s,
	// where the defaults of client-go take 44 s.
	PingInterval, PingTimeout time.Duration
	// ProbeInterval is the time between two probes of a Ready connection,
	// jittered by a tenth. Default 5 s: a black hole is known in less than 20 s,
	// which is 5.5 s to the first of three probes, 4 s for each to fail and half a
	// second between them; for twelve requests a minute.
	ProbeInterval time.Duration
	// ProbeTimeout bounds one probe. Default 4 s.
	ProbeTimeout time.Duration
	// RequestTimeout bounds one request to the target other than a watch.
	// Default 30 s: below the API server's own limit of 60 s.
	RequestTimeout time.Duration
	// MaxInFlight bounds the requests to one target that are under way at once,
	// without watches and probes. Default 64: above it throughput falls, and with
	// the watches it stays below the 100 streams that an API server allows in
	// one TCP connection.
	MaxInFlight int
	// QPS bounds the requests to one target per second, without watches and
	// probes. Default 0, no bound: the API server's own priority and fairness
	// knows better how much it can take.
	QPS int
	// SyncTimeout is how long the first list of a view may take before it counts
	// as Unreachable. It goes on. Default 2 min.
	SyncTimeout time.Duration
	// WatchRenewal is how long a watch may be silent, without even a bookmark,
	// before it is ended and its informer lists anew. Default 90 s: an API server
	// sends a bookmark about once a minute.
	WatchRenewal time.Duration
	// WatchStaleness is how long a watch may be silent before its view does
	// not count as up to date. Default 150 s: one renewal must have failed, before
	// which a reflector waits up to a minute.
	WatchStaleness time.Duration
	// ReviewInterval is the time after which a watch that was denied is tried
	// again. Default 60 s.
	ReviewInterval time.Duration
	// MaxMemory bounds what is held of the Jobs and Pods of a connection, in bytes, beside 4 KiB
	// for each of its runs, finished ones too. A Job with its Pod counts about 800 bytes, and each Pod of
	// the run that has most of them about 3 KiB. Default 16 MiB: some 20,000 Jobs without a run, or 5,000
	// Pods of one run. All connections together may hold four times that, beside what their runs
	// account for; beyond it the one is given up that has the most.
	MaxMemory int
	// Runs is how many runs use a connection or, if its name is empty, all. It must not block; nil is
	// for none.
	Runs func(connection string) int
	// LimitPause is the time, jittered by a tenth, after which a target is tried again whose
	// answers were larger than can be taken. Default 5 min: it costs as much each time.
	LimitPause time.Duration
	// MinBackoff and MaxBackoff shape the wait before a new session: half of
	// MinBackoff, and a random time below a limit that doubles from MinBackoff
	// to MaxBackoff with each failure. Defaults 1 s and 60 s.
	MinBackoff, MaxBackoff time.Duration

	// Pace is how much is read of the lists and watches of one connection in a second, in the long run,
	// in bytes; four times as much may come at once. The same is read besides of the answers to
	// single requests. Default 16 MiB: see transport/pacing.go.
	Pace int

	// streamBuffer is how much of one answer that nobody reads is taken in, in bytes, and
	// connectionBuffer of all answers over one TCP connection; 0 is the default of net/http.
	streamBuffer, connectionBuffer int
}

// Transport returns the options for sending requests.
func (o Options) Transport() transport.Options {
	return transport.Options{
		UserAgent: o.UserAgent, DialTimeout: o.DialTimeout, TLSHandshakeTimeout: o.TLSHandshakeTimeout,
		PingInterval: o.PingInterval, PingTimeout: o.PingTimeout,
		StreamBuffer: o.streamBuffer, ConnectionBuffer: o.connectionBuffer,
	}
}

// WithDefaults returns the options with each zero value replaced by its default.
func (o Options) WithDefaults() Options {
	o.MaxInFlight = cmp.Or(o.MaxInFlight, 64)
	o.MaxMemory = cmp.Or(o.MaxMemory, 16<<20)
	o.Pace = cmp.Or(o.Pace, transport.DefaultPace)
	for duration, value := range map[*time.Duration]time.Duration{
		&o.DialTimeout:         5 * time.Second,
		&o.TLSHandshakeTimeout: 10 * time.Second,
		&o.PingInterval:        10 * time.Second,
		&o.PingTimeout:         5 * time.Second,
		&o.ProbeInterval:       5 * time.Second,
		&o.ProbeTimeout:        4 * time.Second,
		&o.RequestTimeout:      30 * time.Second,
		&o.SyncTimeout:         2 * time.Minute,
		&o.WatchRenewal:        90 * time.Second,
		&o.WatchStaleness:      150 * time.Second,
		&o.ReviewInterval:      time.Minute,
		&o.LimitPause:          5 * time.Minute,
		&o.MinBackoff:          time.Second,
		&o.MaxBackoff:          time.Minute,
	} {
		*duration = cmp.Or(*duration, value)
	}
	if o.OnState == nil {
		o.OnState = func(string, bool) {}
	}
	if o.OnChange == nil {
		o.OnChange = func(string) {}
	}
	return o
}

// runsOf returns how many runs use a connection, or all.
func (o Options) runsOf(connection string) int64 {
	if o.Runs == nil {
		return 0
	}
	return int64(o.Runs(connection))
}

// maxInFlight is the most that Options.MaxInFlight may be: with two watches and a
// probe it stays below the 100 streams of a TCP connection.
const maxInFlight = 90

// minMemory is the least that Options.MaxMemory may be, in bytes: some objects, whatever their size.
const minMemory = 1 << 20

// Validate returns an error that names the option that cannot work.
func (o Options) Validate() error {
	for name, d := range map[string]time.Duration{
		"dial-timeout": o.DialTimeout, "tls-handshake-timeout": o.TLSHandshakeTimeout,
		"ping-interval": o.PingInterval, "ping-timeout": o.PingTimeout,
		"probe-interval": o.ProbeInterval, "probe-timeout": o.ProbeTimeout, "request-timeout": o.RequestTimeout,
	} {
		if d < 0 {
			return fmt.Errorf("%s is %s; it must not be negative", name, d)
		}
	}
	switch {
	case o.MaxInFlight < 0 || o.MaxInFlight > maxInFlight:
		return fmt.Errorf("max-in-flight is %d; it must be from 1 to %d", o.MaxInFlight, maxInFlight)
	case o.MaxMemory < minMemory:
		return fmt.Errorf("max-memory-bytes is %d; it must be at least %d", o.MaxMemory, minMemory)
	case o.QPS < 0:
		return fmt.Errorf("qps is %d; it must not be negative", o.QPS)
	}
	return nil
}
