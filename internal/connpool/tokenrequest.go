package connpool

import (
	"context"
	"regexp"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/pooledjob/pooledjob/internal/connpool/sanitize"
	"github.com/pooledjob/pooledjob/internal/connpool/transport"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// maxToken bounds a token that a target gives, in bytes: it goes into a header of every
// request, and API servers give ones of about one KiB.
const maxToken = 32 << 10

// Uses reports whether the lease's session presents that identity.
func (l *Lease) Uses(id Identity) bool { return l.session.entry.hash == id.Hash() }

// RequestToken asks the target for a token of a ServiceAccount. The token that comes is
// not empty, of one piece, and not checked further. No error holds one.
func (l *Lease) RequestToken(ctx context.Context, namespace, name string, spec authenticationv1.TokenRequestSpec) (string, error) {
	token, err := call(ctx, l, func(ctx context.Context) (string, error) {
		answer := &authenticationv1.TokenRequest{}
		request := l.session.transport.Core.RESTClient().Post().
			Namespace(namespace).Resource("serviceaccounts").Name(name).SubResource("token").
			Body(&authenticationv1.TokenRequest{Spec: spec})
		err := transport.Read(ctx, request, tokenSchema, answer)
		return answer.Status.Token, err
	})
	switch {
	case err != nil:
		return "", redactTokens(err)
	case token == "" || len(token) > maxToken || strings.ContainsAny(token, " \t\r\n"):
		return "", transport.ErrNotKube
	}
	return token, nil
}

// someToken matches a JWT: the first part is JSON, whose first two characters are these
// in base64.
var someToken = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)

// redactTokens takes tokens out of an error: who answers wrongly to the request for one
// may do so with the token in its words.
func redactTokens(err error) error {
	for _, token := range someToken.FindAllString(err.Error(), -1) {
		err = transport.Redact(err, token)
	}
	return err
}

// tokenSchema is what is kept of a new token.
var tokenSchema = prune.NewSchema(&authenticationv1.TokenRequest{}, "TokenRequest", sanitize.SmallBounds, prune.Fields{
	"status": prune.Message(prune.Fields{"token": prune.Text(maxToken + 1)}),
})
