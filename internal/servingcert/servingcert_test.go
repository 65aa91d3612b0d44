package servingcert

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

var (
	names = []string{"logs.system.svc"}
	born  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// renew renews files that must change, or must not.
func renew(t *testing.T, f Files, at time.Time, change bool) Files {
	t.Helper()
	g := NewWithT(t)
	renewed, changed, err := f.Renew(names, at)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(changed).To(Equal(change), "changed")
	if !changed {
		g.Expect(renewed).To(Equal(f))
	}
	return renewed
}

// verify looks at a certificate as the hub's API server does, which trusts a bundle.
func verify(t *testing.T, bundle []byte, served Files, name string, at time.Time) error {
	t.Helper()
	g := NewWithT(t)
	pair, err := tls.X509KeyPair(served.Certificate, served.Key)
	g.Expect(err).NotTo(HaveOccurred())
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	g.Expect(err).NotTo(HaveOccurred())
	roots := x509.NewCertPool()
	g.Expect(roots.AppendCertsFromPEM(bundle)).To(BeTrue())
	_, err = leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: at})
	return err
}

func TestNewFiles(t *testing.T) {
	g := NewWithT(t)
	f := renew(t, Files{}, born, true)
	g.Expect(verify(t, f.Bundle, f, names[0], born)).To(Succeed())
	g.Expect(verify(t, f.Bundle, f, names[0], born.Add(-clockSkew))).To(Succeed(), "the API server's clock is behind")
	g.Expect(verify(t, f.Bundle, f, "other.system.svc", born)).To(BeAssignableToTypeOf(x509.HostnameError{}))
	g.Expect(verify(t, renew(t, Files{}, born, true).Bundle, f, names[0], born)).To(BeAssignableToTypeOf(x509.UnknownAuthorityError{}), "another's authority")
	renew(t, f, born.Add(time.Hour), false)

	certificate := parseCertificates(f.Certificate)[0]
	g.Expect(certificate.IsCA).To(BeFalse(), "what is presented signs nothing")
	g.Expect(certificate.ExtKeyUsage).To(ConsistOf(x509.ExtKeyUsageServerAuth))
	g.Expect(f.Key).NotTo(Equal(f.AuthorityKey))
}

func TestCertificateIsRenewedInGoodTime(t *testing.T) {
	g := NewWithT(t)
	f := renew(t, Files{}, born, true)
	renew(t, f, born.Add(certificateLife*2/3-time.Minute), false)

	later := born.Add(certificateLife * 2 / 3)
	renewed := renew(t, f, later, true)
	g.Expect(renewed.Bundle).To(Equal(f.Bundle), "the authority stays")
	g.Expect(renewed.AuthorityKey).To(Equal(f.AuthorityKey))
	g.Expect(renewed.Certificate).NotTo(Equal(f.Certificate))
	g.Expect(verify(t, f.Bundle, renewed, names[0], born.Add(certificateLife+time.Hour))).To(Succeed())
	g.Expect(verify(t, f.Bundle, f, names[0], born.Add(certificateLife+time.Hour))).NotTo(Succeed(), "the former has ended by then")
}

func TestAuthorityIsKeptInTheBundle(t *testing.T) {
	g := NewWithT(t)
	later := born.Add(authorityLife * 2 / 3)
	former := renew(t, Files{}, born, true)
	former = renew(t, former, later.Add(-time.Minute), true)
	bundle := former.Bundle

	f := renew(t, former, later, true)
	g.Expect(parseCertificates(f.Bundle)).To(HaveLen(2))
	g.Expect(bytes.HasSuffix(f.Bundle, bundle)).To(BeTrue(), "the one that signs comes first")
	g.Expect(verify(t, f.Bundle, f, names[0], later)).To(Succeed())
	g.Expect(verify(t, f.Bundle, former, names[0], later)).To(Succeed(), "a replica that presents what it had")
	g.Expect(verify(t, bundle, f, names[0], later)).NotTo(Succeed(), "why the bundle must be told first")
	renew(t, f, later.Add(time.Minute), false)

	// By the next change of the authority the first has ended, and is trusted no more.
	last := renew(t, f, later.Add(authorityLife*2/3), true)
	g.Expect(parseCertificates(last.Bundle)).To(HaveLen(2))
	g.Expect(bytes.Contains(last.Bundle, bundle)).To(BeFalse())
}

func TestFilesThatWillNotDo(t *testing.T) {
	good, other := renew(t, Files{}, born, true), renew(t, Files{}, born, true)
	for name, spoil := range map[string]func(*Files){
		"no bundle":                     func(f *Files) { f.Bundle = nil },
		"bundle that is none":           func(f *Files) { f.Bundle = []byte("-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n") },
		"bundle of another":             func(f *Files) { f.Bundle = other.Bundle },
		"no key of the authority":       func(f *Files) { f.AuthorityKey = nil },
		"another's key of an authority": func(f *Files) { f.AuthorityKey = other.AuthorityKey },
		"no certificate":                func(f *Files) { f.Certificate = nil },
		"certificate of another":        func(f *Files) { f.Certificate, f.Key = other.Certificate, other.Key },
		"no key":                        func(f *Files) { f.Key = nil },
		"key that is none":              func(f *Files) { f.Key = []byte("-----BEGIN PRIVATE KEY-----\nbm8=\n-----END PRIVATE KEY-----\n") },
		"key of another":                func(f *Files) { f.Key = other.Key },
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			f := good
			spoil(&f)
			f = renew(t, f, born.Add(time.Minute), true)
			g.Expect(verify(t, f.Bundle, f, names[0], born.Add(time.Minute))).To(Succeed())
			renew(t, f, born.Add(2*time.Minute), false)
		})
	}
	t.Run("another name", func(t *testing.T) {
		g := NewWithT(t)
		f, changed, err := good.Renew([]string{names[0], "new.system.svc"}, born.Add(time.Minute))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(changed).To(BeTrue())
		for _, name := range []string{names[0], "new.system.svc"} {
			g.Expect(verify(t, good.Bundle, f, name, born.Add(time.Minute))).To(Succeed())
		}
	})
	t.Run("a clock that went back", func(t *testing.T) {
		g := NewWithT(t)
		f := renew(t, good, born.Add(-time.Hour), true)
		g.Expect(verify(t, f.Bundle, f, names[0], born.Add(-time.Hour))).To(Succeed())
	})
}
