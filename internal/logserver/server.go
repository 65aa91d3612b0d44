package logserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/kubernetes"
)

// Group and Version are those of the API.
const (
	Group   = "stream.pooledjob.io"
	Version = "v1alpha1"
)

// The PooledJobs themselves, which a client must be allowed to get.
const (
	jobsGroup = "pooledjob.io"
	resource  = "pooledjobs"
)

const (
	// headerTimeout bounds the reading of a request's header.
	headerTimeout = 10 * time.Second
	// pingAfter and pingTimeout find clients that are gone without a word.
	pingAfter, pingTimeout = 15 * time.Second, 15 * time.Second
	// idleTimeout ends connections without requests; the hub's API server makes new ones.
	idleTimeout = 90 * time.Second
	// maxHeader bounds a request's header: who somebody is can take a few KiB.
	maxHeader = 64 << 10
	// stopTimeout is how long requests may take to break off.
	stopTimeout = 2 * time.Second
)

// Options configure a Server.
type Options struct {
	// Hub is a client of the hub for reviews, and for its ConfigMap about authentication.
	Hub kubernetes.Interface
	// Certificate is what the server presents; it is asked for at each handshake.
	Certificate func() (*tls.Certificate, error)
	// Limits bound the requests that are served at a time.
	Limits Limits
	Log    logr.Logger
	// Timing replaces the waits of requests that follow, if not zero; for tests.
	timing timing
}

// Server serves the API. It is a prometheus.Collector of its figures.
type Server struct {
	options    Options
	backend    Backend
	delegation *delegation
	codecs     runtime.NegotiatedSerializer
	limits     *limits
}

// New makes a server.
func New(backend Backend, options Options) (*Server, error) {
	if options.timing == (timing{}) {
		options.timing = defaultTiming
	}
	d, err := newDelegation(options.Hub)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return &Server{
		options: options, backend: backend, delegation: d,
		codecs: serializer.NewCodecFactory(scheme).WithoutConversion(),
		limits: newLimits(options.Limits),
	}, nil
}

// Serve answers requests until ctx is done; it closes the listener.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	s.delegation.load(ctx, s.options.Log)
	go s.delegation.run(ctx)
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(logr.ToSlogHandler(s.options.Log.V(1)), slog.LevelInfo),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		HTTP2:             &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			ClientAuth:     tls.RequestClientCert, // the hub's API server shows one; whose it is is looked at later
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.options.Certificate() },
		},
	}
	stopped := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(stopped)
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			_ = server.Close()
		}
	})()
	err := server.ServeTLS(listener, "", "")
	if ctx.Err() == nil {
		return fmt.Errorf("serving logs: %w", err)
	}
	<-stopped
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /apis/"+Group+"/"+Version+"/namespaces/{namespace}/"+resource+"/{name}/log", s.serveLog)
	s.addDiscovery(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{Group: Group}, "",
			"there is nothing at "+r.URL.Path, 0, false))
	})
	handler := filters.WithAuthorization(mux, s.delegation.authorizer, s.codecs)
	handler = filters.WithAuthentication(handler, s.delegation.authenticator, filters.Unauthorized(s.codecs), nil, s.delegation.headers)
	return filters.WithRequestInfo(handler, &request.RequestInfoFactory{
		APIPrefixes: sets.NewString("apis"), GrouplessAPIPrefixes: sets.NewString(),
	})
}

// serveLog answers one request. After an error that cannot be sent any more the
// response is broken off, so that nobody takes it for complete.
func (s *Server) serveLog(w http.ResponseWriter, r *http.Request) {
	out, err := s.log(w, r)
	switch {
	case err == nil || errors.Is(err, errLimit):
		if out != nil {
			_ = out.begin() // an empty log is one too
		}
	case out != nil && out.begun:
		if r.Context().Err() == nil {
			s.options.Log.Info("A log was broken off", "namespace", r.PathValue("namespace"), "pooledJob", r.PathValue("name"), "reason", err.Error())
		}
		panic(http.ErrAbortHandler)
	case r.Context().Err() == nil:
		s.fail(w, r, err)
	default: // without an answer it would be an empty log
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) log(w http.ResponseWriter, r *http.Request) (*output, error) {
	ctx, namespace, name := r.Context(), r.PathValue("namespace"), r.PathValue("name")
	query, err := parseQuery(r.URL.Query(), time.Now())
	if err != nil {
		return nil, err
	}
	// What was authorized must be what is served, however the path is written.
	if info, ok := request.RequestInfoFrom(ctx); !ok || info.Namespace != namespace || info.Name != name || info.Subresource != "log" {
		return nil, badQuery("the path names no PooledJob")
	}
	if err := s.mayReadJob(ctx, namespace, name); err != nil {
		return nil, err
	}
	user, _ := request.UserFrom(ctx)
	leave, err := s.limits.enterFor(user.GetName(), namespace, query.logsAtOnce())
	if err != nil {
		return nil, err
	}
	defer leave()
	run, err := s.backend.Run(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	reading := &reading{
		backend: s.backend, namespace: namespace, name: name, query: query, run: run,
		out: newOutput(w, query.limitBytes), enter: func(name string) (func(), error) { return s.limits.enterConnection(name, query.logsAtOnce()) }, timing: s.options.timing,
	}
	if query.follow {
		return reading.out, reading.follow(ctx)
	}
	return reading.out, reading.read(ctx)
}

// mayReadJob makes sure that the client may get the PooledJob itself; the right to get
// its log was asked for by the filters.
func (s *Server) mayReadJob(ctx context.Context, namespace, name string) error {
	user, _ := request.UserFrom(ctx)
	decision, reason, err := s.delegation.authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: user, Verb: "get", Namespace: namespace, Name: name,
		APIGroup: jobsGroup, APIVersion: "*", Resource: resource, ResourceRequest: true,
	})
	switch {
	case err != nil:
		return unavailable("asking the hub whether PooledJob %q may be read: %v", name, err)
	case decision != authorizer.DecisionAllow:
		return apierrors.NewForbidden(schema.GroupResource{Group: jobsGroup, Resource: resource}, name,
			fmt.Errorf("user %q cannot get the PooledJob, and so not its log %s", user.GetName(), reason))
	}
	return nil
}

// fail answers with an error, as API servers do.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	responsewriters.ErrorNegotiated(err, s.codecs, schema.GroupVersion{Version: "v1"}, w, r)
}

var (
	servedMetric  = prometheus.NewDesc("pooledjob_log_requests", "Requests for logs that are being served, by ClusterConnection.", []string{"connection"}, nil)
	refusedMetric = prometheus.NewDesc("pooledjob_log_refusals_total", "Requests for logs that were refused, by the limit: user, namespace, connection or total.", []string{"limit"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Server) Describe(descs chan<- *prometheus.Desc) {
	descs <- servedMetric
	descs <- refusedMetric
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(metrics chan<- prometheus.Metric) {
	for name, n := range s.limits.served() {
		metrics <- prometheus.MustNewConstMetric(servedMetric, prometheus.GaugeValue, float64(n), name)
	}
	for limit, n := range s.limits.refused() {
		metrics <- prometheus.MustNewConstMetric(refusedMetric, prometheus.CounterValue, float64(n), limit)
	}
}
