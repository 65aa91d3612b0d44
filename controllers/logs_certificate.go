package controllers

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pooledjob/pooledjob/internal/logserver"
	"github.com/pooledjob/pooledjob/internal/servingcert"
)

// +kubebuilder:rbac:groups="",namespace=pooledjob-system,resources=secrets,verbs=create
// +kubebuilder:rbac:groups="",namespace=pooledjob-system,resources=secrets,resourceNames=pooledjob-logs-tls,verbs=update
// +kubebuilder:rbac:groups=apiregistration.k8s.io,resources=apiservices,resourceNames=v1alpha1.stream.pooledjob.io,verbs=get;patch

const (
	// LogsService is the Service of the log API, in the manager's namespace.
	LogsService = "pooledjob-logs"
	// logsSecret has the log API's certificate, for all replicas.
	logsSecret = "pooledjob-logs-tls"

	logsBundleKey       = "ca.crt"
	logsAuthorityKeyKey = "ca.key"

	// certificateCheck is how often certificate and APIService are looked at;
	// certificateRetry is the wait after a failure.
	certificateCheck = 30 * time.Second
	certificateRetry = 5 * time.Second
)

// LogsCertificate keeps the certificate of the log API, in a Secret that the replicas
// share, and tells the hub's API server by the APIService whom to trust.
type LogsCertificate struct {
	hub       client.Client
	live      client.Reader
	namespace string
	now       func() time.Time
	current   atomic.Pointer[tls.Certificate]
	ready     chan struct{}
}

// NewLogsCertificate adds one to a manager.
func NewLogsCertificate(mgr ctrl.Manager, options Options) (*LogsCertificate, error) {
	c := &LogsCertificate{hub: mgr.GetClient(), live: mgr.GetAPIReader(), namespace: options.Namespace, now: options.Now, ready: make(chan struct{})}
	if c.now == nil {
		c.now = time.Now
	}
	if err := mgr.Add(c); err != nil {
		return nil, fmt.Errorf("the log API's certificate: %w", err)
	}
	return c, nil
}

// NeedLeaderElection tells that each replica needs it.
func (*LogsCertificate) NeedLeaderElection() bool { return false }

// Certificate is what to present.
func (c *LogsCertificate) Certificate() (*tls.Certificate, error) {
	if certificate := c.current.Load(); certificate != nil {
		return certificate, nil
	}
	return nil, errors.New("there is no certificate yet")
}

// Ready is closed when there is a certificate.
func (c *LogsCertificate) Ready() <-chan struct{} { return c.ready }

// Start renews the certificate in good time, until ctx is done.
func (c *LogsCertificate) Start(ctx context.Context) error {
	said := ""
	for {
		next := certificateCheck
		if err := c.keep(ctx); err != nil && ctx.Err() == nil {
			if words := err.Error(); words != said {
				said = words
				logf.FromContext(ctx).Info("The log API cannot be reached through the hub", "reason", words)
			}
			next = certificateRetry
		} else {
			said = ""
		}
		select {
		case <-time.After(next):
		case <-ctx.Done():
			return nil
		}
	}
}

// keep does what is needed. The hub is told whom to trust before the certificate is used.
func (c *LogsCertificate) keep(ctx context.Context) error {
	files, err := c.files(ctx)
	if err != nil {
		return err
	}
	told := c.tellAPIService(ctx, files.Bundle)
	if told != nil && c.current.Load() != nil {
		return told
	}
	certificate, err := tls.X509KeyPair(files.Certificate, files.Key)
	if err != nil {
		return fmt.Errorf("Secret %s/%s: %w", c.namespace, logsSecret, err)
	}
	if c.current.Swap(&certificate) == nil {
		close(c.ready)
	}
	return told
}

// files are those in the Secret, renewed if that is due. Of several replicas that renew
// one wins, and the others take over what it wrote.
func (c *LogsCertificate) files(ctx context.Context) (servingcert.Files, error) {
	ctx = logr.NewContext(ctx, logr.Discard()) // client-go would log bodies, keys and all
	key := client.ObjectKey{Namespace: c.namespace, Name: logsSecret}
	secret := &corev1.Secret{}
	err := c.live.Get(ctx, key, secret)
	if client.IgnoreNotFound(err) != nil {
		return servingcert.Files{}, fmt.Errorf("reading the log API's certificate: %w", err)
	}
	missing := err != nil
	files, renewed, err := servingcert.Files{
		Bundle: secret.Data[logsBundleKey], AuthorityKey: secret.Data[logsAuthorityKeyKey],
		Certificate: secret.Data[corev1.TLSCertKey], Key: secret.Data[corev1.TLSPrivateKeyKey],
	}.Renew([]string{LogsService + "." + c.namespace + ".svc"}, c.now())
	if err != nil || !renewed {
		return files, err
	}
	secret.Namespace, secret.Name = key.Namespace, key.Name
	secret.Data = map[string][]byte{
		logsBundleKey: files.Bundle, logsAuthorityKeyKey: files.AuthorityKey,
		corev1.TLSCertKey: files.Certificate, corev1.TLSPrivateKeyKey: files.Key,
	}
	if missing {
		err = c.hub.Create(ctx, secret)
	} else {
		err = c.hub.Update(ctx, secret)
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) {
		return c.files(ctx)
	}
	if err != nil {
		return files, fmt.Errorf("writing the log API's certificate: %w", err)
	}
	return files, nil
}

// tellAPIService writes the bundle to the APIService, if there is another.
func (c *LogsCertificate) tellAPIService(ctx context.Context, bundle []byte) error {
	service := &unstructured.Unstructured{}
	service.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"})
	name := logserver.Version + "." + logserver.Group
	err := c.live.Get(ctx, client.ObjectKey{Name: name}, service)
	switch {
	case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
		return fmt.Errorf("the hub has no APIService %s; apply config/logs, or start the manager without --logs-bind-address", name)
	case err != nil:
		return fmt.Errorf("reading APIService %s: %w", name, err)
	}
	want := base64.StdEncoding.EncodeToString(bundle)
	known, _, _ := unstructured.NestedString(service.Object, "spec", "caBundle")
	if known == want {
		return nil
	}
	patch := client.MergeFrom(service.DeepCopy())
	if err := unstructured.SetNestedField(service.Object, want, "spec", "caBundle"); err != nil {
		return fmt.Errorf("changing APIService %s: %w", name, err)
	}
	if err := c.hub.Patch(ctx, service, patch); err != nil {
		return fmt.Errorf("writing the CA to APIService %s: %w", name, err)
	}
	return nil
}
