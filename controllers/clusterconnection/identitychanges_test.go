package clusterconnection

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/pooledjob/pooledjob/internal/connpool"
)

func TestAnIdentityIsNotChangedAgainAndAgain(t *testing.T) {
	g, now := NewWithT(t), time.Unix(1, 0)
	var changes identityChange
	to := func(n int) time.Duration {
		return changes.change(connpool.Identity{Server: "https://host", Token: fmt.Sprint(n)}, now)
	}
	for n := range identityBurst + 1 {
		g.Expect(to(n)).To(BeZero())
	}
	g.Expect(to(100)).To(Equal(identityPause))
	g.Expect(to(identityBurst)).To(BeZero(), "the one that it has is none")
	now = now.Add(identityPause / 2)
	g.Expect(to(101)).To(Equal(identityPause / 2))
	now = now.Add(identityPause / 2)
	g.Expect(to(101)).To(BeZero())
	g.Expect(to(100)).To(Equal(identityPause))
}
