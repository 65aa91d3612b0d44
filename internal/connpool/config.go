package connpool

import (
	"bytes"
	"cmp"
	"context"
	"time"

	"github.com/go-logr/logr"
)

// Config says how to reach one target and what to present there. It holds
// secrets.
type Config struct {
	// Server is the https URL of the API server.
	Server string
	// TLSServerName replaces Server's host in the check of its certificate.
	TLSServerName string
	// CAData are the PEM certificates that vouch for the server; empty means
	// the system's.
	CAData []byte
	// CertData and KeyData are the client certificate and key, PEM, if any.
	CertData, KeyData []byte
	// Token is the bearer token, if any.
	Token string
	// ClusterUID is the UID of the kube-system namespace that must be found at
	// the target; empty at the first contact.
	ClusterUID string
}

// sameIdentity tells whether two Configs reach the same server as the same
// identity, whatever cluster is expected there.
func (c Config) sameIdentity(o Config) bool {
	return c.Server == o.Server && c.TLSServerName == o.TLSServerName && c.Token == o.Token &&
		bytes.Equal(c.CAData, o.CAData) && bytes.Equal(c.CertData, o.CertData) && bytes.Equal(c.KeyData, o.KeyData)
}

// Options configure a Pool. The zero value of a duration or a
// number means its default.
type Options struct {
	// Selector is the label selector of the objects to watch.
	Selector string
	// KeyLabel is the label whose value groups Jobs and Pods: the objects of
	// one run have the same.
	KeyLabel string
	// OnState is called after the state of a connection changed. It must not
	// block.
	OnState func(connection string)
	// OnChange is called after a watched object with the given value of
	// KeyLabel changed. It must not block.
	OnChange func(connection, key string)
	// UserAgent names this program to the targets.
	UserAgent string
	Log       logr.Logger

	// ProbeInterval is the time between two probes of a Ready connection,
	// jittered by a tenth. Default 10 s: with three failures needed, a dead
	// target is known in about half a minute, at six requests a minute.
	ProbeInterval time.Duration
	// ProbeTimeout bounds one probe. Default 5 s.
	ProbeTimeout time.Duration
	// RequestTimeout bounds one request to the target other than a watch.
	// Default 30 s: below the API server's own limit of 60 s.
	RequestTimeout time.Duration
	// MaxInFlight bounds the requests to one target that are under way at once,
	// without the watches. Default 64: above it throughput falls, and a target
	// that answers slowly must not hold every worker of the caller.
	MaxInFlight int
	// SyncTimeout bounds the first list of a session. Default 2 min.
	SyncTimeout time.Duration
	// MinBackoff and MaxBackoff shape the wait before a new session: half of
	// MinBackoff, and a random time below a limit that doubles from MinBackoff
	// to MaxBackoff with each failure. Defaults 1 s and 60 s.
	MinBackoff, MaxBackoff time.Duration
}

func (o Options) withDefaults() Options {
	o.MaxInFlight = cmp.Or(o.MaxInFlight, 64)
	defaultTo(&o.ProbeInterval, 10*time.Second)
	defaultTo(&o.ProbeTimeout, 5*time.Second)
	defaultTo(&o.RequestTimeout, 30*time.Second)
	defaultTo(&o.SyncTimeout, 2*time.Minute)
	defaultTo(&o.MinBackoff, time.Second)
	defaultTo(&o.MaxBackoff, time.Minute)
	if o.OnState == nil {
		o.OnState = func(string) {}
	}
	if o.OnChange == nil {
		o.OnChange = func(string, string) {}
	}
	return o
}

func defaultTo(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// sleep waits for d or until ctx is done; it tells whether the time has passed.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
