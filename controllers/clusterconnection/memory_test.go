package clusterconnection

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/pooledjob/pooledjob/internal/connpool"
)

func TestForgottenConnectionBeginsAnew(t *testing.T) {
	g, now := NewWithT(t), time.Unix(1, 0)
	var all memories
	to := func(token string) time.Duration {
		return all.get("a").identity.change(connpool.Identity{Server: "https://host", Token: token}, now)
	}
	all.get("a").renewal.succeeded(now, time.Minute)
	for range identityBurst {
		to("one")
		to("two")
	}
	g.Expect(to("three")).To(Equal(identityPause))
	g.Expect(all.get("a").renewal.rest).NotTo(BeZero())
	all.forget("a")
	g.Expect(to("three")).To(BeZero())
	g.Expect(all.get("a").renewal.rest).To(BeZero())
}
