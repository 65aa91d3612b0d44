package clusterconnection

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/kubeconfig"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

func TestRenewalIsDueInTheSixthTenthOfALife(t *testing.T) {
	account := kubeconfig.Account{IssuedAt: testTime, ExpiresAt: testTime.Add(1000 * time.Minute)}
	different := map[time.Time]bool{}
	for i := range 200 {
		name := fmt.Sprintf("cluster-%d", i)
		due, overdue := RenewalSchedule(name, account)
		if after := due.Sub(testTime); after < 500*time.Minute || after > 600*time.Minute {
			t.Errorf("%s is due after %s", name, after)
		}
		if overdue.Sub(testTime) != 750*time.Minute {
			t.Errorf("overdue after %s", overdue.Sub(testTime))
		}
		if again, _ := RenewalSchedule(name, account); !again.Equal(due) {
			t.Error("not the same after a restart")
		}
		different[due] = true
	}
	if len(different) < 150 {
		t.Errorf("200 connections are due at %d times", len(different))
	}
	// The longest life that a token can have is no overflow.
	endless := kubeconfig.Account{IssuedAt: time.Unix(1, 0), ExpiresAt: time.Unix(253402300798, 0)}
	if due, overdue := RenewalSchedule("a", endless); !due.After(endless.IssuedAt) || !overdue.After(due) {
		t.Errorf("due %s, overdue %s", due, overdue)
	}
}

func TestRenewalIsTriedAgainEverLater(t *testing.T) {
	memory := &renewalMemory{}
	for i, want := range []time.Duration{1, 2, 4, 8, 10, 10, 10} {
		if got := memory.failed(testTime, errTarget, 0); got != want*time.Minute || !memory.retry.Equal(testTime.Add(got)) {
			t.Errorf("after failure %d again in %s, at %s", i+1, got, memory.retry)
		}
	}
	for range 100 {
		if got := memory.failed(testTime, errTarget, 0); got != maxRenewalPause {
			t.Fatalf("again in %s", got)
		}
	}
	if got := memory.failed(testTime, errTarget, time.Hour); got != time.Hour {
		t.Errorf("again in %s, and not before an hour has passed", got)
	}
	for life, want := range map[time.Duration]time.Duration{0: time.Minute, 5 * time.Minute: 5 * time.Minute, time.Hour: 10 * time.Minute} {
		if got := memory.succeeded(testTime, life); got != want || memory.failure != "" || !memory.retry.IsZero() || !memory.rest.Equal(testTime.Add(want)) {
			t.Errorf("after a success again in %s: %+v", got, memory)
		}
	}
}

func TestRenewalFailureIsForgottenWithItsToken(t *testing.T) {
	memory := &renewalMemory{}
	c := newConnection()
	one, two := kubeconfig.Identity{Token: "one"}, kubeconfig.Identity{Token: "two"}
	fail := func() renewalMemory {
		memory.concern(c, one)
		memory.succeeded(testTime, time.Minute)
		memory.failed(testTime, errTarget, 0)
		return *memory
	}
	failed := fail()
	memory.concern(c, one)
	if *memory != failed {
		t.Errorf("got %+v, want %+v", *memory, failed)
	}
	memory.concern(c, two)
	if memory.failure != "" || !memory.retry.IsZero() || !memory.rest.Equal(failed.rest) {
		t.Errorf("of another token: %+v", *memory)
	}
	failed = fail()
	c.Generation++
	memory.concern(c, one)
	if memory.failure != "" || !memory.retry.IsZero() || !memory.rest.Equal(failed.rest) {
		t.Errorf("of another spec: %+v", *memory)
	}
	failed = fail()
	memory.forgetToken()
	if !memory.rest.Equal(failed.rest) || memory.failure != "" {
		t.Errorf("of a Secret that is gone: %+v", *memory)
	}
}

func TestConditionsWithRenewal(t *testing.T) {
	const why = "The token was not renewed: words."
	inADay := testTime.Add(24 * time.Hour)
	late, early := testTime.Add(-time.Minute), testTime.Add(time.Minute)
	tests := map[string]struct {
		status     connpool.Status
		renewal    renewal
		want       fixtures.Five
		credential []string
		again      time.Duration
	}{
		"all is well, far from the end": {poolStatus(connpool.Ready, ends(inAYear)), renewal{overdue: inAnHour}, fixtures.All(yes),
			[]string{"accepts", "renews"}, 365*24*time.Hour - testWarning},
		"all is well, near the end":     {poolStatus(connpool.Ready, ends(inADay)), renewal{overdue: inAnHour}, fixtures.All(yes), []string{"renews"}, time.Hour},
		"overdue, near the end":         {poolStatus(connpool.Ready, ends(inADay)), renewal{overdue: late}, fixtures.Five{yes, "True/ExpiringSoon", yes, yes, yes}, []string{"put new ones"}, 24 * time.Hour},
		"overdue, far from the end":     {poolStatus(connpool.Ready, ends(inAYear)), renewal{overdue: late}, fixtures.All(yes), []string{"renews"}, 365*24*time.Hour - testWarning},
		"failed":                        {poolStatus(connpool.Ready, ends(inADay)), renewal{failure: why, overdue: early}, fixtures.Five{yes, "True/TokenRenewalFailed", yes, yes, yes}, []string{why, inADay.Format(time.RFC3339)}, time.Minute},
		"failed, far from the end":      {poolStatus(connpool.Ready, ends(inAYear)), renewal{failure: why, overdue: late}, fixtures.Five{yes, "True/TokenRenewalFailed", yes, yes, yes}, []string{why}, 365*24*time.Hour - testWarning},
		"failed, overdue, near the end": {poolStatus(connpool.Ready, ends(inADay)), renewal{failure: why, overdue: late}, fixtures.Five{yes, "True/ExpiringSoon", yes, yes, yes}, []string{why, inADay.Format(time.RFC3339)}, 24 * time.Hour},
		"failed, and is Idle":           {poolStatus(connpool.Idle, ends(inAYear)), renewal{failure: why, overdue: inAnHour}, fixtures.Five{"True/Idle", "True/TokenRenewalFailed", "True/Idle", "True/Idle", "True/Idle"}, []string{why}, 365*24*time.Hour - testWarning},
		"failed, but unreached":         {poolStatus(connpool.Unreachable, ends(inAYear)), renewal{failure: why, overdue: inAnHour}, fixtures.Five{"False/Unreachable", unknown, "False/Unreachable", unknown, unknown}, nil, 365*24*time.Hour - testWarning},
		"failed, and expired": {poolStatus(connpool.Ready, ends(anHourAgo)), renewal{failure: why, overdue: late},
			fixtures.Five{"False/CredentialsExpired", "False/CredentialsExpired", yes, yes, yes}, []string{why, "No Job is sent"}, 0},
		"none that could be":               {poolStatus(connpool.Ready), renewal{failure: why}, fixtures.Five{yes, "True/TokenRenewalFailed", yes, yes, yes}, []string{why}, 0},
		"none that could be, near the end": {poolStatus(connpool.Ready, ends(inADay)), renewal{failure: why}, fixtures.Five{yes, "True/ExpiringSoon", yes, yes, yes}, []string{why}, 24 * time.Hour},
		"is Idle":                          {poolStatus(connpool.Idle, ends(inAYear)), renewal{overdue: inAnHour}, fixtures.All("True/Idle"), nil, 365*24*time.Hour - testWarning},
		"renewed, not in use yet, overdue": {poolStatus(connpool.Ready, ends(inADay), next(connpool.Connecting)), renewal{overdue: inAYear}, fixtures.All(yes), nil, 24 * time.Hour},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newConnection()
			w := writerOf(c)
			w.renewal = &test.renewal
			w.recordObserved(test.status, nil)
			checkFive(t, c, test.want)
			checkSays(t, c, v1alpha1.ConditionCredentialsValid, test.credential)
			if w.again != test.again {
				t.Errorf("again after %s, not %s", w.again, test.again)
			}
		})
	}
}

func TestOneEventForEachTokenThatIsNotRenewed(t *testing.T) {
	var m memory
	expiry := &metav1.Time{Time: inAnHour}
	for i, step := range []struct {
		reason string
		expiry *metav1.Time
		want   bool
	}{
		{v1alpha1.ReasonTokenRenewalFailed, nil, true},
		{v1alpha1.ReasonTokenRenewalFailed, nil, false},
		{v1alpha1.ReasonTokenRenewalFailed, expiry, true},
		{v1alpha1.ReasonExpiringSoon, expiry, true},
		{v1alpha1.ReasonTokenRenewalFailed, expiry, false},
		{v1alpha1.ReasonExpiringSoon, expiry, false},
	} {
		if got := m.isFirstWarning(step.reason, step.expiry); got != step.want {
			t.Errorf("step %d: %t", i, got)
		}
	}
}

// sleeper notes what is put to sleep; emptyHub is a hub without any.
type (
	sleeper struct {
		Connections
		slept int
	}
	emptyHub struct{ client.Client }
)

func (s *sleeper) Sleep(string) { s.slept++ }

func (emptyHub) List(context.Context, client.ObjectList, ...client.ListOption) error { return nil }

func TestConnectionThatWasOpenedForItsTokenIsNotClosedBeforeItIsUsed(t *testing.T) {
	connections := &sleeper{}
	now := clocktesting.NewFakePassiveClock(testTime)
	r := &Reconciler{Connections: connections, Hub: emptyHub{}, Clock: now}
	c := newConnection()
	c.Spec.IdleTimeoutSeconds = new(int32(1))
	m := &memory{renewal: renewalMemory{waking: true}}
	for want := range 2 {
		for range 2 {
			now.SetTime(now.Now().Add(time.Second))
			if _, err := r.sleepIfIdle(t.Context(), c, m); err != nil {
				t.Fatal(err)
			}
		}
		if connections.slept < want || (want == 0 && connections.slept > 0) {
			t.Errorf("put to sleep %d times", connections.slept)
		}
		m.renewal = renewalMemory{}
	}
}
