package transport

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Identity says which server to reach and what to present there. It holds
// secrets. Connections whose identities are equal, byte by byte, share one TCP
// connection, one client and one set of informers.
type Identity struct {
	// Server is the https URL of the API server.
	Server string
	// TLSServerName replaces Server's host in the check of its certificate.
	TLSServerName string
	// CAData are the PEM certificates that vouch for the server; empty means
	// the system's.
	CAData []byte
	// CertData and KeyData are the client certificate and key, PEM, if any.
	CertData, KeyData []byte
	// Token is the bearer token, if any.
	Token string
}

// Hash returns the key of an identity: "sha256:" and 64 hexadecimal digits. Each field
// is preceded by its length, so that no two identities have the same bytes.
func (id Identity) Hash() string {
	digest := sha256.New()
	for _, field := range [][]byte{
		[]byte(id.Server), []byte(id.TLSServerName), id.CAData, id.CertData, id.KeyData, []byte(id.Token),
	} {
		digest.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
		digest.Write(field)
	}
	return "sha256:" + hex.EncodeToString(digest.Sum(nil))
}

// Equal reports whether two identities are the same, byte by byte.
func (id Identity) Equal(other Identity) bool { return id.Hash() == other.Hash() }

// String names the server only.
func (id Identity) String() string { return id.Server }

// GoString returns String, so that %#v prints no secret either.
func (id Identity) GoString() string { return id.Server }
