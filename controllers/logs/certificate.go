package logs

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
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pooledjob/pooledjob/internal/logserver"
	"github.com/pooledjob/pooledjob/internal/servingcert"
)

// +kubebuilder:rbac:groups="",namespace=pooledjob-system,resources=secrets,verbs=create
// +kubebuilder:rbac:groups="",namespace=pooledjob-system,resources=secrets,resourceNames=pooledjob-logs-tls,verbs=update
// +kubebuilder:rbac:groups=apiregistration.k8s.io,resources=apiservices,resourceNames=v1alpha1.stream.pooledjob.io,verbs=get;patch

const (
	// Service is the Service of the log API, in the manager's namespace.
	Service = "pooledjob-logs"
	// secretName has the log API's certificate, for all replicas.
	secretName = "pooledjob-logs-tls"

	bundleKey       = "ca.crt"
	authorityKeyKey = "ca.key"

	// certificateCheck is how often certificate and APIService are looked at;
	// certificateRetry is the wait after a failure.
	certificateCheck = 30 * time.Second
	certificateRetry = 5 * time.Second
)

// ServingCertificate keeps the certificate of the log API, in a Secret that the replicas
// share, and writes their authority into the APIService, for the hub's API server.
type ServingCertificate struct {
	hub       client.Client
	live      client.Reader
	namespace string
	clock     clock.PassiveClock
	current   atomic.Pointer[tls.Certificate]
	ready     chan struct{}
}

// NewServingCertificate returns one for a manager to run. live must read the hub's API server itself.
func NewServingCertificate(hub client.Client, live client.Reader, namespace string, clock clock.PassiveClock) *ServingCertificate {
	return &ServingCertificate{hub: hub, live: live, namespace: namespace, clock: clock, ready: make(chan struct{})}
}

// NeedLeaderElection reports false: each replica needs a certificate.
func (*ServingCertificate) NeedLeaderElection() bool { return false }

// Certificate returns what to present.
func (c *ServingCertificate) Certificate() (*tls.Certificate, error) {
	if certificate := c.current.Load(); certificate != nil {
		return certificate, nil
	}
	return nil, errors.New("there is no certificate yet")
}

// Ready returns a channel that is closed when there is a certificate.
func (c *ServingCertificate) Ready() <-chan struct{} { return c.ready }

// Start renews the certificate in good time, until ctx is done.
func (c *ServingCertificate) Start(ctx context.Context) error {
	said := ""
	for {
		next := certificateCheck
		if err := c.Keep(ctx); err != nil && ctx.Err() == nil {
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

// Keep does once what is needed. The authority is written to the hub before the certificate is used.
func (c *ServingCertificate) Keep(ctx context.Context) error {
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
		return fmt.Errorf("Secret %s/%s: %w", c.namespace, secretName, err)
	}
	if c.current.Swap(&certificate) == nil {
		close(c.ready)
	}
	return told
}

// files returns those in the Secret, renewed if that is due. Of several replicas that renew
// one wins, and the others take over what it wrote.
func (c *ServingCertificate) files(ctx context.Context) (servingcert.Files, error) {
	ctx = logr.NewContext(ctx, logr.Discard()) // client-go would log bodies, keys and all
	key := client.ObjectKey{Namespace: c.namespace, Name: secretName}
	secret := &corev1.Secret{}
	err := c.live.Get(ctx, key, secret)
	if client.IgnoreNotFound(err) != nil {
		return servingcert.Files{}, fmt.Errorf("reading the log API's certificate: %w", err)
	}
	missing := err != nil
	files, renewed, err := servingcert.Files{
		Bundle: secret.Data[bundleKey], AuthorityKey: secret.Data[authorityKeyKey],
		Certificate: secret.Data[corev1.TLSCertKey], Key: secret.Data[corev1.TLSPrivateKeyKey],
	}.Renew([]string{Service + "." + c.namespace + ".svc"}, c.clock.Now())
	if err != nil || !renewed {
		return files, err
	}
	secret.Namespace, secret.Name = key.Namespace, key.Name
	secret.Data = map[string][]byte{
		bundleKey: files.Bundle, authorityKeyKey: files.AuthorityKey,
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
func (c *ServingCertificate) tellAPIService(ctx context.Context, bundle []byte) error {
	service := &unstructured.Unstructured{}
	service.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"})
	name := logserver.Version + "." + logserver.Group
	err := c.live.Get(ctx, client.ObjectKey{Name: name}, service)
	switch {
	case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
		return fmt.Errorf("the hub has no APIService %s; apply config/logs, or start the manager without --logs-bind-address", name)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("reading APIService %s: %w; bind the roles of config/logs", name, err)
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
