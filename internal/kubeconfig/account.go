package kubeconfig

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Account is what a ServiceAccount's token says of itself: all that it takes to ask for
// another one like it. It is unverified, as everything that a token claims.
type Account struct {
	// Namespace and Name are those of the ServiceAccount.
	Namespace, Name string
	// Audiences are whom the token is meant for; none if it is for its issuer alone,
	// which is what a token is for that nobody asked more of.
	Audiences []string
	// BoundTo is the object with which the token ends, if there is one.
	BoundTo BoundObject
	// IssuedAt and ExpiresAt are when its life begins and ends, in UTC and whole
	// seconds. The end is later.
	IssuedAt, ExpiresAt time.Time
}

// BoundObject is an object that a token is bound to: a Pod, a Secret or a Node.
type BoundObject struct{ Kind, Name, UID string }

// Errors of Account. Each says what to do.
var (
	errNoToken      = errors.New("the credential is a client certificate; put a ServiceAccount's token into the Secret")
	errTwoCreds     = errors.New("the kubeconfig has a client certificate beside the token, and the target goes by the certificate; take one of them out")
	errNotAccount   = errors.New("the token is not one of a ServiceAccount; put one of those into the Secret")
	errEndlessToken = errors.New("the token never expires; put one that does into the Secret, as kubectl create token makes them, and delete the other on the target")
	errNoLife       = errors.New("the token does not say when its life began; put one of kubectl create token into the Secret")
)

// accountSubject matches the sub claim of a ServiceAccount's token.
var accountSubject = regexp.MustCompile(
	`^system:serviceaccount:([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?):([a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?)$`)

// Account reads whose token the credential is. The error says why it is none that could
// be renewed.
//
// With a client certificate beside it the token does not count: a request would be that
// of the certificate's user, who must not get tokens of whomever the token names.
func (id Identity) Account() (Account, error) {
	switch {
	case id.Token == "":
		return Account{}, errNoToken
	case len(id.CertData) > 0:
		return Account{}, errTwoCreds
	}
	return accountOf(id.Token)
}

func accountOf(token string) (Account, error) {
	claims := claimsOf(token)
	var subject string
	_ = json.Unmarshal(claims["sub"], &subject) // stays empty
	named := accountSubject.FindStringSubmatch(subject)
	if named == nil {
		return Account{}, errNotAccount
	}
	account := Account{Namespace: named[1], Name: named[2], Audiences: audiences(claims), BoundTo: boundTo(claims["kubernetes.io"])}
	var ends, began bool
	account.ExpiresAt, ends = instant(claims["exp"])
	account.IssuedAt, began = instant(claims["iat"])
	switch {
	case !ends:
		return Account{}, errEndlessToken
	case !began || !account.IssuedAt.Before(account.ExpiresAt):
		return Account{}, errNoLife
	}
	return account, nil
}

// audiences reads the aud claim, which may be one name or a list.
func audiences(claims map[string]json.RawMessage) []string {
	var issuer, one string
	var names []string
	_ = json.Unmarshal(claims["iss"], &issuer)
	if json.Unmarshal(claims["aud"], &one) == nil {
		names = []string{one}
	} else if json.Unmarshal(claims["aud"], &names) != nil {
		return nil
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })
	if len(names) == 0 || slices.Equal(names, []string{issuer}) {
		return nil
	}
	return names
}

// boundTo reads the object that a token is bound to. One that is bound to a Pod names the
// Pod's Node, too.
func boundTo(claim json.RawMessage) BoundObject {
	type object struct{ Name, UID string }
	var private struct{ Pod, Secret, Node *object }
	_ = json.Unmarshal(claim, &private)
	for _, o := range []struct {
		kind  string
		named *object
	}{{"Pod", private.Pod}, {"Secret", private.Secret}, {"Node", private.Node}} {
		if o.named != nil && o.named.Name != "" {
			return BoundObject{Kind: o.kind, Name: o.named.Name, UID: o.named.UID}
		}
	}
	return BoundObject{}
}

// Username returns the name that the target knows the ServiceAccount by.
func (a Account) Username() string {
	return strings.Join([]string{"system:serviceaccount", a.Namespace, a.Name}, ":")
}

// Life returns how long the token lives, from its beginning to its end.
func (a Account) Life() time.Duration { return a.ExpiresAt.Sub(a.IssuedAt) }
