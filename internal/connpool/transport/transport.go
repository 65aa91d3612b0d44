package transport

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	batchv1client "k8s.io/client-go/kubernetes/typed/batch/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/pooledjob/pooledjob/internal/connpool/sanitize"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// Transport are the clients of one session and the connections under them. A client of
// every API group there is would take 30 KiB.
type Transport struct {
	Core    *corev1client.CoreV1Client
	Batch   *batchv1client.BatchV1Client
	wire    *wire
	sockets *sockets
	token   string // must not get into a message or a log
}

// Options say how requests are sent.
type Options struct {
	// UserAgent names this program to the targets.
	UserAgent string
	// DialTimeout and TLSHandshakeTimeout bound the making of a TCP connection.
	DialTimeout, TLSHandshakeTimeout time.Duration
	// PingInterval is how long a TCP connection may be silent before a ping is sent over it, and PingTimeout
	// how long the answer may take before the connection is closed.
	PingInterval, PingTimeout time.Duration
	// StreamBuffer is how much of one answer that nobody reads is taken in, in bytes, and
	// ConnectionBuffer of all answers over one TCP connection; 0 is the default of net/http.
	StreamBuffer, ConnectionBuffer int
}

// New makes a client with connections of its own, which can be used until
// ctx is done. client-go's shared transports would not do: they are found by TLS
// settings alone, never close a connection, and outlive the credential that opened
// them.
func New(ctx context.Context, identity Identity, o Options, count *atomic.Int64, pacing *Pacing) (*Transport, error) {
	server, err := url.Parse(identity.Server)
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	restConfig := restConfigOf(identity, o)
	tlsConfig, err := rest.TLSConfigFor(restConfig)
	if err != nil {
		return nil, fmt.Errorf("TLS settings: %w", err)
	}
	t := &Transport{sockets: newSockets(o, count, pacing), token: identity.Token}
	t.wire = newWire(ctx, &http.Transport{
		DialContext:         t.sockets.dial,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: o.TLSHandshakeTimeout,
		ForceAttemptHTTP2:   true,
		// API servers compress only long lists, which are read rarely, and a short answer can
		// be made of which nobody reads the end.
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaders,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: o.PingInterval, PingTimeout: o.PingTimeout,
			MaxReceiveBufferPerStream: o.StreamBuffer, MaxReceiveBufferPerConnection: o.ConnectionBuffer,
		},
	}, server)
	wrapped, err := rest.HTTPWrappersForConfig(restConfig, answers{t.wire, pacing})
	if err != nil {
		return nil, fmt.Errorf("authentication settings: %w", err)
	}
	if err := t.connect(restConfig, wrapped); err != nil {
		return nil, fmt.Errorf("client settings: %w", err)
	}
	return t, nil
}

// ProveBy has nothing sent over a new TCP connection before prove has let it pass, and counts in redialled
// the connections that replaced one. It must be called before the first request.
func (t *Transport) ProveBy(prove func(context.Context) error, redialled *atomic.Int64) {
	t.wire.prove, t.wire.redialled = prove, redialled
}

// Tidy closes TCP connections that are of no more use, and those that the server has wanted to end for as
// long as grace.
func (t *Transport) Tidy(grace time.Duration) { t.wire.tidy(grace) }

// Close closes every TCP connection, also those with a live watch, and lets no other be made.
func (t *Transport) Close() { t.sockets.close() }

// connect makes the clients.
func (t *Transport) connect(restConfig *rest.Config, over http.RoundTripper) (err error) {
	client := &http.Client{
		Transport: over,
		// A redirect would send the credential to a server nobody named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if t.Core, err = corev1client.NewForConfigAndClient(restConfig, client); err != nil {
		return err
	}
	t.Batch, err = batchv1client.NewForConfigAndClient(restConfig, client)
	return err
}

// Get asks for a path as text or JSON.
func (t *Transport) Get(ctx context.Context, path string) ([]byte, error) {
	result := t.Core.RESTClient().Get().AbsPath(path).
		SetHeader("Accept", "application/json").MaxRetries(0).Do(ctx)
	body, err := result.Raw()
	if err != nil {
		return nil, result.Error() // the target's own words, where it has some
	}
	return body, nil
}

// ReadClusterUID asks the target which cluster it is.
func (t *Transport) ReadClusterUID(ctx context.Context) (string, error) {
	namespace := &corev1.Namespace{}
	request := t.Core.RESTClient().Get().Resource("namespaces").Name(metav1.NamespaceSystem)
	if err := Read(ctx, request, namespaceSchema, namespace); err != nil {
		return "", err
	}
	// It is written to the hub, and a target can answer with what it was sent.
	uid := string(namespace.UID)
	if !validUID.MatchString(uid) || RedactText(uid, t.token) != uid {
		return "", ErrNotKube
	}
	return uid, nil
}

// validUID matches what the UID of an object can be, as far as the hub can hold it: API
// servers make UUIDs, but nothing says that they must.
var validUID = regexp.MustCompile(`^[[:graph:]]{1,128}$`)

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
		// Answers come as protobuf, of which the fields that are kept can be read alone;
		// requests go as JSON, because only of JSON does the API server refuse
		// fields that it does not know.
		ContentConfig: rest.ContentConfig{
			AcceptContentTypes: "application/vnd.kubernetes.protobuf",
			ContentType:        "application/json",
		},
		QPS:            -1, // 0 would mean five a second; the gate bounds them, if anything
		WarningHandler: rest.NoWarnings{},
	}
}

// namespaceSchema is what is kept of the namespace whose UID identifies a cluster.
var namespaceSchema = prune.NewSchema(&corev1.Namespace{}, "Namespace", sanitize.SmallBounds, prune.Fields{
	"metadata": prune.Message(prune.Fields{"name": prune.Exact(prune.MaxName), "uid": prune.Text(sanitize.MaxUID + 1)}),
})

// Unlogged returns a context without a logger: client-go would log what targets answer, and
// a target can answer with the credential that it was sent.
func Unlogged(ctx context.Context) context.Context { return logr.NewContext(ctx, logr.Discard()) }
