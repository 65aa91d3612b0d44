// Package servingcert makes the certificate that an aggregated API presents to the hub's
// API server, and the authority that signs it. They are renewed long before they end, and
// the authority before is kept in the bundle until it ends, so that nobody has to change
// both at once.
package servingcert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

const (
	// authorityLife and certificateLife are how long each is valid. Both are renewed when
	// a third of that is left.
	authorityLife   = 3 * 365 * 24 * time.Hour
	certificateLife = 90 * 24 * time.Hour
	// clockSkew is how far back validity begins: the API server's clock may be behind.
	clockSkew = 5 * time.Minute
)

// Files are a certificate with all that belongs to it, PEM.
type Files struct {
	// Bundle are the authorities to trust, the one that signs first.
	Bundle []byte
	// AuthorityKey is the key of that one.
	AuthorityKey []byte
	// Certificate and Key are to be presented.
	Certificate, Key []byte
}

// Renew returns the files to use from now on for a server of these names; changed is false
// when those that there are will do. Files that cannot be read are replaced.
func (f Files) Renew(names []string, now time.Time) (renewed Files, changed bool, err error) {
	authority, err := f.authority(now)
	if err != nil {
		return f, false, err
	}
	if authority.fresh || !f.serves(names, authority.certificate, now) {
		return authority.sign(names, now)
	}
	return f, false, nil
}

// authority is who signs, and whom to trust.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	files       Files
	fresh       bool
}

// authority returns the one that there is, or a new one.
func (f Files) authority(now time.Time) (*authority, error) {
	known := parseCertificates(f.Bundle)
	key, keyErr := parseKey(f.AuthorityKey)
	if len(known) > 0 && keyErr == nil && lasts(known[0], authorityLife, now) && belong(known[0], key) {
		return &authority{certificate: known[0], key: key, files: f}, nil
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: fmt.Sprintf("pooledjob-logs-ca-%d", now.Unix())},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	made := &authority{fresh: true}
	encoded, encodedKey, err := made.issue(template)
	if err != nil {
		return nil, err
	}
	made.files = Files{Bundle: encoded, AuthorityKey: encodedKey}
	for _, before := range known {
		if now.Before(before.NotAfter) {
			made.files.Bundle = append(made.files.Bundle, encode("CERTIFICATE", before.Raw)...)
		}
	}
	return made, nil
}

// serves reports whether the certificate will do.
func (f Files) serves(names []string, by *x509.Certificate, now time.Time) bool {
	certificates := parseCertificates(f.Certificate)
	key, err := parseKey(f.Key)
	if len(certificates) == 0 || err != nil || !belong(certificates[0], key) || !lasts(certificates[0], certificateLife, now) {
		return false
	}
	for _, name := range names {
		if certificates[0].VerifyHostname(name) != nil {
			return false
		}
	}
	return certificates[0].CheckSignatureFrom(by) == nil
}

// sign makes a certificate.
func (a *authority) sign(names []string, now time.Time) (Files, bool, error) {
	files := a.files
	var err error
	files.Certificate, files.Key, err = a.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		DNSNames:    names,
		NotBefore:   now.Add(-clockSkew),
		NotAfter:    now.Add(certificateLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return files, true, err
}

// issue signs a template for a new key; an authority without a certificate gets it so.
func (a *authority) issue(template *x509.Certificate) (certificate, key []byte, err error) {
	made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, nil, fmt.Errorf("making a serial number: %w", err)
	}
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, made
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, made.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("signing a certificate: %w", err)
	}
	encodedKey, err := x509.MarshalPKCS8PrivateKey(made)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a key: %w", err)
	}
	if a.certificate == nil {
		if a.certificate, err = x509.ParseCertificate(raw); err != nil {
			return nil, nil, fmt.Errorf("reading a certificate: %w", err)
		}
		a.key = made
	}
	return encode("CERTIFICATE", raw), encode("PRIVATE KEY", encodedKey), nil
}

func lasts(certificate *x509.Certificate, life time.Duration, now time.Time) bool {
	return !now.Before(certificate.NotBefore) && certificate.NotAfter.Sub(now) > life/3
}

func belong(certificate *x509.Certificate, key crypto.Signer) bool {
	public, ok := certificate.PublicKey.(*ecdsa.PublicKey)
	return ok && public.Equal(key.Public())
}

func encode(kind string, raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
}

// parseCertificates reads those that can be read.
func parseCertificates(data []byte) []*x509.Certificate {
	var certificates []*x509.Certificate
	for data = bytes.TrimSpace(data); len(data) > 0; {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
			certificates = append(certificates, certificate)
		}
	}
	return certificates
}

func parseKey(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("no key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("not a key of ours")
	}
	return signer, nil
}
