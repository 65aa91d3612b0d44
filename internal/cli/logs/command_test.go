package logs

import (
	"net/http"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/pooledjob/pooledjob/test/scriptedhub"
)

func TestARunThatIsGoneHasEnded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	h := scriptedhub.New()
	hub, key := h.Start(t), scriptedhub.Run()
	g.Expect(hasEnded(t.Context(), hub, key, scriptedhub.UID)).To(BeFalse())
	g.Expect(hasEnded(t.Context(), hub, key, "u0")).To(BeTrue(), "another run has its name")
	h.Interfere(func(w http.ResponseWriter, _ *http.Request) bool {
		scriptedhub.WriteStatus(w, http.StatusNotFound, "NotFound")
		return true
	})
	g.Expect(hasEnded(t.Context(), hub, key, scriptedhub.UID)).To(BeTrue())
	h.Interfere(func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true })
	g.Expect(hasEnded(t.Context(), hub, key, scriptedhub.UID)).To(BeFalse(), "that is no answer of the hub's")
}
