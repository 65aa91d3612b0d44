package kubeconfig

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	accountLife = `"iat":1700000000,"exp":1700003600,`
	accountSub  = `"sub":"system:serviceaccount:jobs:pooledjob"`
)

func TestAccount(t *testing.T) {
	want := func(changes ...func(*Account)) Account {
		account := Account{
			Namespace: "jobs", Name: "pooledjob",
			IssuedAt: time.Unix(1700000000, 0).UTC(), ExpiresAt: time.Unix(1700003600, 0).UTC(),
		}
		for _, change := range changes {
			change(&account)
		}
		return account
	}
	meantFor := func(names ...string) Account { return want(func(a *Account) { a.Audiences = names }) }
	bound := func(kind string) Account {
		return want(func(a *Account) { a.BoundTo = BoundObject{Kind: kind, Name: "that", UID: "u-1"} })
	}
	tests := map[string]struct {
		claims string
		want   Account
	}{
		"for its issuer":          {`"iss":"https://a","aud":["https://a"],`, want()},
		"for its issuer, as text": {`"iss":"https://a","aud":"https://a",`, want()},
		"for nobody":              {`"iss":"https://a",`, want()},
		"for an empty list":       {`"iss":"https://a","aud":[],`, want()},
		"for another":             {`"iss":"https://a","aud":["b"],`, meantFor("b")},
		"for another, as text":    {`"iss":"https://a","aud":"b",`, meantFor("b")},
		"for two":                 {`"iss":"https://a","aud":["https://a","b"],`, meantFor("https://a", "b")},
		"for a number":            {`"aud":5,`, want()},
		"bound to its account":    {`"kubernetes.io":{"namespace":"jobs","serviceaccount":{"name":"pooledjob","uid":"u-0"}},`, want()},
		"bound to a Secret":       {`"kubernetes.io":{"secret":{"name":"that","uid":"u-1"}},`, bound("Secret")},
		"bound to a Pod":          {`"kubernetes.io":{"node":{"name":"n","uid":"u-2"},"pod":{"name":"that","uid":"u-1"}},`, bound("Pod")},
		"bound to a Node":         {`"kubernetes.io":{"node":{"name":"that","uid":"u-1"}},`, bound("Node")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Identity{Token: claims("{" + accountLife + test.claims + accountSub + "}")}.Account()
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
	account := want()
	if account.Life() != time.Hour || account.Username() != "system:serviceaccount:jobs:pooledjob" {
		t.Errorf("got %s of %q", account.Life(), account.Username())
	}
}

func TestAccountThatIsNone(t *testing.T) {
	cert, key := keyPair(t)
	good := claims("{" + accountLife + accountSub + "}")
	of := func(subject string) Identity {
		return Identity{Token: claims("{" + accountLife + `"sub":"` + subject + `"}`)}
	}
	tests := map[string]struct {
		id   Identity
		want error
	}{
		"a certificate":             {Identity{CertData: cert, KeyData: key}, errNoToken},
		"a certificate, too":        {Identity{CertData: cert, KeyData: key, Token: good}, errTwoCreds},
		"an opaque token":           {Identity{Token: "s3cret-t0ken"}, errNotAccount},
		"a person's token":          {of("jane"), errNotAccount},
		"a sub that is a number":    {Identity{Token: claims(`{"sub":5}`)}, errNotAccount},
		"no namespace":              {of("system:serviceaccount::a"), errNotAccount},
		"no name":                   {of("system:serviceaccount:a:"), errNotAccount},
		"more than a name":          {of("system:serviceaccount:a:b:c"), errNotAccount},
		"a path for a name":         {of("system:serviceaccount:a:../b"), errNotAccount},
		"a path for a namespace":    {of("system:serviceaccount:..:b"), errNotAccount},
		"a name beyond bounds":      {of("system:serviceaccount:a:" + strings.Repeat("b", 254)), errNotAccount},
		"a namespace beyond bounds": {of("system:serviceaccount:" + strings.Repeat("b", 64) + ":a"), errNotAccount},
		"no end":                    {Identity{Token: claims(`{"iat":1700000000,` + accountSub + `}`)}, errEndlessToken},
		"an end of 0":               {Identity{Token: claims(`{"iat":1700000000,"exp":0,` + accountSub + `}`)}, errEndlessToken},
		"no beginning":              {Identity{Token: claims(`{"exp":1700000000,` + accountSub + `}`)}, errNoLife},
		"an end at the beginning":   {Identity{Token: claims(`{"iat":1700000000,"exp":1700000000,` + accountSub + `}`)}, errNoLife},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if account, err := test.id.Account(); !errors.Is(err, test.want) {
				t.Errorf("got %+v, %v, want %v", account, err, test.want)
			}
		})
	}
}
