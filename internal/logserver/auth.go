package logserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
)

// The ConfigMap in which every hub publishes the certificate and the headers by which its API server
// passes the user of a request on to aggregated API servers.
const (
	authenticationConfigMap = "extension-apiserver-authentication"
	requestHeaderCAKey      = "requestheader-client-ca-file"
)

// The API servers' own times for what they remember of a review, and for asking again.
const (
	allowTTL      = 10 * time.Second
	denyTTL       = 10 * time.Second
	tokenTTL      = 10 * time.Second
	reviewTimeout = 10 * time.Second
	loadRetry     = time.Second
)

// reviewBackoff returns the back-off for reviews that the hub did not answer.
func reviewBackoff() *wait.Backoff {
	return &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 5}
}

// delegation asks the hub who a client is and what it may.
type delegation struct {
	authenticator authenticator.Request
	headers       *authenticatorfactory.RequestHeaderConfig
	authorizer    authorizer.Authorizer

	ca  *dynamiccertificates.ConfigMapCAController
	own *headerrequest.RequestHeaderAuthRequestController
}

func newDelegation(hub kubernetes.Interface) (*delegation, error) {
	d := &delegation{}
	var err error
	d.ca, err = dynamiccertificates.NewDynamicCAFromConfigMapController("request-header", metav1.NamespaceSystem, authenticationConfigMap, requestHeaderCAKey, hub)
	if err != nil {
		return nil, fmt.Errorf("the hub's request header CA: %w", err)
	}
	d.own = headerrequest.NewRequestHeaderAuthRequestController(authenticationConfigMap, metav1.NamespaceSystem, hub,
		"requestheader-username-headers", "requestheader-uid-headers", "requestheader-group-headers",
		"requestheader-extra-headers-prefix", "requestheader-allowed-names")
	d.headers = &authenticatorfactory.RequestHeaderConfig{
		CAContentProvider:   d.ca,
		UsernameHeaders:     headerrequest.StringSliceProvider(headerrequest.StringSliceProviderFunc(d.own.UsernameHeaders)),
		UIDHeaders:          headerrequest.StringSliceProviderFunc(d.own.UIDHeaders),
		GroupHeaders:        headerrequest.StringSliceProviderFunc(d.own.GroupHeaders),
		ExtraHeaderPrefixes: headerrequest.StringSliceProviderFunc(d.own.ExtraHeaderPrefixes),
		AllowedClientNames:  headerrequest.StringSliceProviderFunc(d.own.AllowedClientNames),
	}
	d.authenticator, _, err = authenticatorfactory.DelegatingAuthenticatorConfig{
		TokenAccessReviewClient:  quietReviews{hub.AuthenticationV1()},
		TokenAccessReviewTimeout: reviewTimeout,
		WebhookRetryBackoff:      reviewBackoff(),
		CacheTTL:                 tokenTTL,
		RequestHeaderConfig:      d.headers,
	}.New()
	if err != nil {
		return nil, fmt.Errorf("delegated authentication: %w", err)
	}
	d.authorizer, err = authorizerfactory.DelegatingAuthorizerConfig{
		SubjectAccessReviewClient: hub.AuthorizationV1(),
		AllowCacheTTL:             allowTTL,
		DenyCacheTTL:              denyTTL,
		WebhookRetryBackoff:       reviewBackoff(),
	}.New()
	if err != nil {
		return nil, fmt.Errorf("delegated authorization: %w", err)
	}
	return d, nil
}

// load reads the ConfigMap, and returns when that has worked once: before it nobody that
// comes through the hub would be known.
func (d *delegation) load(ctx context.Context, log logr.Logger) {
	for said := false; ctx.Err() == nil; pause(ctx, loadRetry) {
		err := errors.Join(d.ca.RunOnce(ctx), d.own.RunOnce(ctx))
		if err == nil {
			return
		}
		if !said {
			said = true
			log.Info("The log API cannot be served yet", "reason", err.Error())
		}
	}
}

// run follows changes of the ConfigMap until ctx is done.
func (d *delegation) run(ctx context.Context) {
	go d.ca.Run(ctx, 1)
	d.own.Run(ctx, 1)
}

// quietReviews asks for reviews of tokens without a logger: client-go would log them, from
// level 8 on.
type quietReviews struct {
	authenticationclient.AuthenticationV1Interface
}

// TokenReviews implements AuthenticationV1Interface.
func (q quietReviews) TokenReviews() authenticationclient.TokenReviewInterface {
	return quietTokenReviews{q.AuthenticationV1Interface.TokenReviews()}
}

type quietTokenReviews struct {
	authenticationclient.TokenReviewInterface
}

// Create implements TokenReviewInterface.
func (q quietTokenReviews) Create(ctx context.Context, review *authenticationv1.TokenReview, options metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	return q.TokenReviewInterface.Create(logr.NewContext(ctx, logr.Discard()), review, options)
}
