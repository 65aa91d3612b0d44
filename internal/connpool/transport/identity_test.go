package transport

import (
	"reflect"
	"testing"

	. "github.com/onsi/gomega"
)

// TestHash changes every field there is, so that one that is added later is not
// forgotten.
func TestHash(t *testing.T) {
	g := NewWithT(t)
	full := func() Identity {
		return Identity{
			Server: "https://a", TLSServerName: "a", CAData: []byte("ca"), CertData: []byte("cert"),
			KeyData: []byte("key"), Token: "token",
		}
	}
	g.Expect(full().Hash()).To(MatchRegexp("^sha256:[0-9a-f]{64}$"))
	g.Expect(full().Hash()).To(Equal(full().Hash()))
	g.Expect(Identity{CAData: []byte{}}.Hash()).To(Equal(Identity{}.Hash()), "empty is absent")
	g.Expect(Identity{Server: "ab", TLSServerName: "c"}.Hash()).NotTo(Equal(Identity{Server: "a", TLSServerName: "bc"}.Hash()))
	seen := map[string]string{full().Hash(): "unchanged"}
	fields := reflect.TypeFor[Identity]()
	for i := range fields.NumField() {
		field := fields.Field(i)
		for kind, value := range map[string]string{"changed": "other", "taken away": ""} {
			changed := full()
			reflect.ValueOf(&changed).Elem().Field(i).Set(reflect.ValueOf(value).Convert(field.Type))
			what := field.Name + " " + kind
			g.Expect(seen).NotTo(HaveKey(changed.Hash()), what)
			seen[changed.Hash()] = what
		}
	}
}
