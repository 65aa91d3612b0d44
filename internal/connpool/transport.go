package connpool

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	// A connection on which nothing arrives for pingAfter is pinged, and closed
	// when the answer takes longer than pingTimeout: a dead peer is found in
	// about 15 s, where the defaults take 44 s.
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
)

// transport is the client of one session and the connections under it.
type transport struct {
	client kubernetes.Interface
	dialer *connrotation.Dialer
}

// dialUntil refuses to dial once ctx is done, also to a request that was under way
// then: a connection that is made after close would never be closed. A dial under
// way ends too: net/http goes on with it when nobody waits any more.
func dialUntil(ctx context.Context, dial connrotation.DialFunc) connrotation.DialFunc {
	return func(requestCtx context.Context, network, address string) (net.Conn, error) {
		dialCtx, cancel := context.WithCancel(requestCtx)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		if ctx.Err() != nil {
			return nil, ErrClosed
		}
		conn, err := dial(dialCtx, network, address)
		if err == nil && ctx.Err() != nil {
			_ = conn.Close()
			return nil, ErrClosed
		}
		return conn, err
	}
}

// newTransport makes a client with connections of its own, which can be used until
// ctx is done. client-go's shared transports would not do: they are found by TLS
// settings alone, never close a connection, and outlive the credential that opened
// them.
func newTransport(ctx context.Context, config Config, userAgent string) (*transport, error) {
	restConfig := &rest.Config{
		Host:        config.Server,
		BearerToken: config.Token,
		UserAgent:   userAgent,
		TLSClientConfig: rest.TLSClientConfig{
			ServerName: config.TLSServerName,
			CAData:     config.CAData,
			CertData:   config.CertData,
			KeyData:    config.KeyData,
		},
		// Answers come as protobuf, six times cheaper to decode than JSON;
		// requests go as JSON, because only of JSON does the API server refuse
		// fields that it does not know.
		ContentConfig: rest.ContentConfig{
			AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json",
			ContentType:        "application/json",
		},
		QPS:            -1, // 0 would mean five a second
		WarningHandler: rest.NoWarnings{},
	}
	tlsConfig, err := rest.TLSConfigFor(restConfig)
	if err != nil {
		return nil, fmt.Errorf("TLS settings: %w", err)
	}
	netDialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: pingAfter, ControlContext: refuseLinkLocal}
	dialer := connrotation.NewDialer(netDialer.DialContext)
	base := &http.Transport{
		DialContext:         dialUntil(ctx, dialer.DialContext),
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: handshakeTimeout,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	wrapped, err := rest.HTTPWrappersForConfig(restConfig, base)
	if err != nil {
		return nil, fmt.Errorf("authentication settings: %w", err)
	}
	client, err := kubernetes.NewForConfigAndClient(restConfig, &http.Client{
		Transport: wrapped,
		// A redirect would send the credential to a server nobody named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	if err != nil {
		return nil, fmt.Errorf("client settings: %w", err)
	}
	return &transport{client: client, dialer: dialer}, nil
}

// close ends every connection, also those with a live watch. The context of the
// transport must be done before.
func (t *transport) close() { t.dialer.CloseAll() }

// refuseLinkLocal looks at the address after the name was resolved: cloud metadata
// services live on link-local addresses, and no kubeconfig may make us talk to
// them.
func refuseLinkLocal(_ context.Context, _, address string, _ syscall.RawConn) error {
	addrPort, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	if addrPort.Addr().Unmap().IsLinkLocalUnicast() {
		return fmt.Errorf("address %s is link-local and is never dialled", addrPort.Addr())
	}
	return nil
}
