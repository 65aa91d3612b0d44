package transport

import (
	"testing"

	. "github.com/onsi/gomega"
)

func TestRefuseMetadata(t *testing.T) {
	for address, allowed := range map[string]bool{
		"169.254.169.254:443":          false,
		"169.254.0.1:6443":             false,
		"[fe80::1%eth0]:443":           false,
		"[fe80::1]:443":                false,
		"[febf::1]:443":                false,
		"[::ffff:169.254.169.254]:443": false,
		"[fd00:ec2::254]:443":          false,
		"100.100.100.200:443":          false,
		"192.0.0.192:443":              false,
		"not an address":               false,
		"host.example:443":             false, // it comes after the resolution: this cannot be
		"127.0.0.1:6443":               true,
		"10.0.0.1:443":                 true,
		"169.253.169.254:443":          true,
		"[2001:db8::1]:443":            true,
		"[fd00::1]:443":                true,
		"[::ffff:10.0.0.1]:443":        true,
	} {
		t.Run(address, func(t *testing.T) {
			NewWithT(t).Expect(refuseMetadata(t.Context(), "tcp", address, nil) == nil).To(Equal(allowed))
		})
	}
}
