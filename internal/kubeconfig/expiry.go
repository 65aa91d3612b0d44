package kubeconfig

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// endless is 9999-12-31T23:59:59Z in Unix seconds. RFC 5280 gives it to
// certificates that do not expire, and API times end there.
const endless = 253402300799

// ExpiresAt returns when the credential expires by what it says of itself: the
// earlier of the end of the client certificate and the `exp` claim of the token.
// It is in UTC and whole seconds. ok is false when neither says so, as with a
// token that is not a JWT or a claim that makes no sense.
//
// The claim is read without checking the token's signature, which only the
// target can do. It is good for a warning and for not asking in vain, and must
// not decide anything else: two Identities are the same when their whole tokens
// are, whatever the tokens claim.
func (id Identity) ExpiresAt() (at time.Time, ok bool) {
	cert, certEnds := certificateExpiry(id.CertData)
	token, tokenEnds := tokenExpiry(id.Token)
	if certEnds && (!tokenEnds || cert.Before(token)) {
		return cert, true
	}
	return token, tokenEnds
}

// certificateExpiry returns the end of the first certificate, the client's own.
// Those that follow vouch for it, and the target may know others that do.
func certificateExpiry(data []byte) (time.Time, bool) {
	for block := range pemBlocks(data) {
		if block.Type != certificateType {
			continue
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil || leaf.NotAfter.Unix() >= endless {
			return time.Time{}, false
		}
		return leaf.NotAfter.UTC(), true
	}
	return time.Time{}, false
}

// tokenExpiry reads the exp claim of a JWT.
func tokenExpiry(token string) (time.Time, bool) {
	return instant(claimsOf(token)["exp"])
}

// claimsOf reads the claims of what has the form of a JWT; of anything else there are
// none.
func claimsOf(token string) map[string]json.RawMessage {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	if _, ok := jsonPart(parts[0]); !ok {
		return nil
	}
	if _, err := base64.RawURLEncoding.DecodeString(parts[2]); err != nil {
		return nil
	}
	claims, _ := jsonPart(parts[1])
	return claims
}

// instant reads a claim that is a time.
func instant(claim json.RawMessage) (time.Time, bool) {
	var seconds *float64 // may have a fraction, and be null
	if err := json.Unmarshal(claim, &seconds); err != nil || seconds == nil {
		return time.Time{}, false
	}
	// Some issuers write 0 into tokens that do not expire.
	if *seconds < 1 || *seconds >= endless {
		return time.Time{}, false
	}
	return time.Unix(int64(*seconds), 0).UTC(), true
}

// jsonPart decodes the JSON object in one part of a JWT. Its values stay as they
// are written: a map, unlike a struct, distinguishes exp from EXP.
func jsonPart(part string) (map[string]json.RawMessage, bool) {
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return nil, false
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, false
	}
	return object, true
}
