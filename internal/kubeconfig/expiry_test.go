package kubeconfig

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

const goodHeader = `{"alg":"RS256"}`

// jwt returns a token with the given header and payload, signed by nobody.
func jwt(header, payload string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(header)) + "." + encode([]byte(payload)) + "." + encode([]byte("signature"))
}

func claims(payload string) string { return jwt(goodHeader, payload) }

func TestExpiresAt(t *testing.T) {
	at := func(second int64) time.Time { return time.Unix(second, 0).UTC() }
	ecCert, ecKey := keyPair(t)
	private := privateKey(t, ecCert, ecKey)
	cert := func(notAfter time.Time) []byte { return certificate(t, private, notAfter) }
	none := time.Time{}
	tests := map[string]struct {
		id   Identity
		want time.Time // zero: not known
	}{
		"nothing":                 {Identity{}, none},
		"token":                   {Identity{Token: claims(`{"sub":"a","exp":1700000000}`)}, at(1700000000)},
		"token, with a fraction":  {Identity{Token: claims(`{"exp":1700000000.75}`)}, at(1700000000)},
		"token, with an exponent": {Identity{Token: claims(`{"exp":1.7e9}`)}, at(1700000000)},
		"token, first second":     {Identity{Token: claims(`{"exp":1}`)}, at(1)},
		"token, last second":      {Identity{Token: claims(`{"exp":253402300798}`)}, at(253402300798)},
		"certificate":             {Identity{CertData: cert(at(1800000000))}, at(1800000000)},
		"certificate before 1970": {Identity{CertData: cert(at(-5))}, at(-5)},
		"certificate, other zone": {Identity{CertData: cert(at(1800000000).In(time.FixedZone("x", 3600)))}, at(1800000000)},
		"leaf of a chain":         {Identity{CertData: join(cert(at(1800000000)), cert(at(1700000000)))}, at(1800000000)},
		"leaf after a key":        {Identity{CertData: join(ecKey, cert(at(1800000000)))}, at(1800000000)},
		"both, certificate first": {Identity{CertData: cert(at(1600000000)), Token: claims(`{"exp":1700000000}`)}, at(1600000000)},
		"both, token first":       {Identity{CertData: cert(at(1800000000)), Token: claims(`{"exp":1700000000}`)}, at(1700000000)},
		"both, token tells not":   {Identity{CertData: cert(at(1800000000)), Token: "opaque"}, at(1800000000)},
		"both, certificate endless": {
			Identity{CertData: cert(at(endless)), Token: claims(`{"exp":1700000000}`)}, at(1700000000),
		},

		"certificate without an end": {Identity{CertData: cert(at(endless))}, none},
		"certificate of no sense":    {Identity{CertData: []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}, none},
		"no certificate":             {Identity{CertData: ecKey}, none},
		"opaque token":               {Identity{Token: "s3cret-t0ken"}, none},
		"two parts":                  {Identity{Token: strings.TrimSuffix(claims(`{"exp":1700000000}`), ".c2lnbmF0dXJl")}, none},
		"four parts":                 {Identity{Token: claims(`{"exp":1700000000}`) + ".YQ"}, none},
		"header not base64":          {Identity{Token: "!" + claims(`{"exp":1700000000}`)}, none},
		"header not JSON":            {Identity{Token: jwt(`x`, `{"exp":1700000000}`)}, none},
		"signature not base64":       {Identity{Token: claims(`{"exp":1700000000}`) + "!"}, none},
		"padded":                     {Identity{Token: claims(`{"exp":1700000000}`) + "=="}, none},
		"payload not base64":         {Identity{Token: strings.Replace(claims(`{"exp":1700000000}`), ".", ".!", 1)}, none},
		"payload not JSON":           {Identity{Token: claims(`exp=1700000000`)}, none},
		"payload no object":          {Identity{Token: claims(`[1700000000]`)}, none},
		"payload null":               {Identity{Token: claims(`null`)}, none},
		"payload cut":                {Identity{Token: claims(`{"exp":1700000000`)}, none},
		"no exp":                     {Identity{Token: claims(`{"iat":1700000000}`)}, none},
		"exp of another":             {Identity{Token: claims(`{"EXP":1700000000,"a":{"exp":1700000000}}`)}, none},
		"exp null":                   {Identity{Token: claims(`{"exp":null}`)}, none},
		"exp text":                   {Identity{Token: claims(`{"exp":"1700000000"}`)}, none},
		"exp list":                   {Identity{Token: claims(`{"exp":[1700000000]}`)}, none},
		"exp zero":                   {Identity{Token: claims(`{"exp":0}`)}, none},
		"exp negative":               {Identity{Token: claims(`{"exp":-1700000000}`)}, none},
		"exp in milliseconds":        {Identity{Token: claims(`{"exp":1700000000000}`)}, none},
		"exp beyond all bounds":      {Identity{Token: claims(`{"exp":1e300}`)}, none},
		"exp beyond floats":          {Identity{Token: claims(`{"exp":1e999}`)}, none},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := test.id.ExpiresAt()
			if want := !test.want.IsZero(); !got.Equal(test.want) || ok != want {
				t.Errorf("ExpiresAt = %v, %v; want %v, %v", got, ok, test.want, want)
			}
		})
	}
}

// TestExpiryDecidesNoSharing has tokens that differ in what no claim tells.
func TestExpiryDecidesNoSharing(t *testing.T) {
	signed := claims(`{"sub":"a","exp":1700000000}`)
	a := mustParse(t, parts{server: "https://target.example", token: signed}.write())
	b := mustParse(t, parts{server: "https://target.example", token: signed + "AA"}.write())
	if a.Token == b.Token {
		t.Error("tokens with the same claims are the same identity")
	}
}
