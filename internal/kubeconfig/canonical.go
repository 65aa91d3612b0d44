package kubeconfig

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"iter"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
)

const certificateType = "CERTIFICATE"

// canonicalServer writes a URL that passed readServer in the one way that all
// its spellings share.
func canonicalServer(u *url.URL) string {
	host := canonicalHost(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port := u.Port(); port != "" && port != "443" {
		host += ":" + port
	}
	// Clients join this path with those of their requests, which cleans it too.
	clean := strings.TrimSuffix(path.Clean("/"+u.Path), "/")
	return (&url.URL{Scheme: "https", Host: host, Path: clean}).String()
}

// canonicalServerName returns empty for the name that is checked anyway.
func canonicalServerName(name string, server *url.URL) string {
	name = canonicalHost(name)
	if name == canonicalHost(server.Hostname()) {
		return ""
	}
	return name
}

func canonicalHost(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.String()
	}
	return lowerASCII(host)
}

// lowerASCII leaves all but ASCII letters alone: strings.ToLower makes letters
// of other scripts equal that are different names in the DNS.
func lowerASCII(s string) string {
	lower := []byte(s)
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	return string(lower)
}

// canonicalCA keeps what x509.CertPool would take, which is a set: order and
// repetition mean nothing.
func canonicalCA(data []byte) []byte {
	var certs [][]byte
	for block := range pemBlocks(data) {
		if block.Type != certificateType || len(block.Headers) > 0 {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, block.Bytes)
		}
	}
	slices.SortFunc(certs, bytes.Compare)
	return encodePEM(certificateType, slices.CompactFunc(certs, bytes.Equal)...)
}

// canonicalChain keeps the order: the first certificate is the client's own, and
// all are sent as they stand.
func canonicalChain(data []byte) []byte {
	var chain [][]byte
	for block := range pemBlocks(data) {
		if block.Type == certificateType {
			chain = append(chain, block.Bytes)
		}
	}
	return encodePEM(certificateType, chain...)
}

// canonicalKey keeps the first private key, the one that crypto/tls uses.
func canonicalKey(data []byte) []byte {
	for block := range pemBlocks(data) {
		if block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY") {
			return encodePEM(block.Type, block.Bytes)
		}
	}
	return nil
}

// pemBlocks yields the PEM blocks in data and skips what is between them.
func pemBlocks(data []byte) iter.Seq[*pem.Block] {
	return func(yield func(*pem.Block) bool) {
		for {
			block, rest := pem.Decode(data)
			if block == nil || !yield(block) {
				return
			}
			data = rest
		}
	}
}

// encodePEM writes blocks of one type; of none it makes nil.
func encodePEM(blockType string, ders ...[]byte) []byte {
	var encoded []byte
	for _, der := range ders {
		encoded = append(encoded, pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})...)
	}
	return encoded
}
