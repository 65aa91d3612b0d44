package logserver

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
)

// The ConfigMap in which every hub says by which certificate and headers its API server
// tells aggregated ones who asks.
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
)

// reviewBackoff is for reviews that the hub did not answer.
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
		TokenAccessReviewClient:  hub.AuthenticationV1(),
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

// run follows changes of the ConfigMap until ctx is done.
func (d *delegation) run(ctx context.Context) {
	go d.ca.Run(ctx, 1)
	d.own.Run(ctx, 1)
}
