package connpool

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// transport is the client of one session and the connections under it.
type transport struct {
	client  kubernetes.Interface
	wire    *wire
	sockets *sockets
}

// newTransport makes a client with connections of its own, which can be used until
// ctx is done. client-go's shared transports would not do: they are found by TLS
// settings alone, never close a connection, and outlive the credential that opened
// them.
func newTransport(ctx context.Context, identity Identity, o Options, count *atomic.Int64) (*transport, error) {
	server, err := url.Parse(identity.Server)
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	restConfig := restConfigOf(identity, o)
	tlsConfig, err := rest.TLSConfigFor(restConfig)
	if err != nil {
		return nil, fmt.Errorf("TLS settings: %w", err)
	}
	t := &transport{sockets: newSockets(o, count)}
	t.wire = newWire(ctx, &http.Transport{
		DialContext:         t.sockets.dial,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: o.TLSHandshakeTimeout,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: o.PingInterval, PingTimeout: o.PingTimeout},
	}, server)
	wrapped, err := rest.HTTPWrappersForConfig(restConfig, t.wire)
	if err != nil {
		return nil, fmt.Errorf("authentication settings: %w", err)
	}
	t.client, err = kubernetes.NewForConfigAndClient(restConfig, &http.Client{
		Transport: wrapped,
		// A redirect would send the credential to a server nobody named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	if err != nil {
		return nil, fmt.Errorf("client settings: %w", err)
	}
	return t, nil
}

func restConfigOf(identity Identity, o Options) *rest.Config {
	return &rest.Config{
		Host:        identity.Server,
		BearerToken: identity.Token,
		UserAgent:   o.UserAgent,
		TLSClientConfig: rest.TLSClientConfig{
			ServerName: identity.TLSServerName,
			CAData:     identity.CAData,
			CertData:   identity.CertData,
			KeyData:    identity.KeyData,
		},
		// Answers come as protobuf, six times cheaper to decode than JSON;
		// requests go as JSON, because only of JSON does the API server refuse
		// fields that it does not know.
		ContentConfig: rest.ContentConfig{
			AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json",
			ContentType:        "application/json",
		},
		QPS:            -1, // 0 would mean five a second; the gate bounds them, if anything
		WarningHandler: rest.NoWarnings{},
	}
}
