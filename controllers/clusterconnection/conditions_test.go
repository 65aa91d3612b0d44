package clusterconnection

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

var testTime = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

const (
	testWarning = 7 * 24 * time.Hour
	testServer  = "https://target.example"
)

var (
	inAnHour   = testTime.Add(time.Hour)
	anHourAgo  = testTime.Add(-time.Hour)
	inAYear    = testTime.Add(365 * 24 * time.Hour)
	testHash   = "sha256:" + strings.Repeat("ab", 32)
	errTarget  = errors.New("the target's own words")
	errNewOne  = errors.New("the words about the new one")
	brokenOne  = &finding{reason: v1alpha1.ReasonInvalidKubeconfig, message: `Secret ns/prod, key "kubeconfig": exec is not allowed`}
	missingOne = &finding{reason: v1alpha1.ReasonSecretNotFound, message: `Secret ns/prod has no key "kubeconfig"; put the kubeconfig there`}
)

// newConnection returns a ClusterConnection without a status.
func newConnection() *v1alpha1.ClusterConnection {
	return &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: "prod", Generation: 3}}
}

func writerOf(c *v1alpha1.ClusterConnection) *connectionWriter {
	return &connectionWriter{connection: c, now: metav1.NewTime(testTime), warning: testWarning}
}

// recordObserved and recordNotConnected record what the reconciler does, to the end.
func (w *connectionWriter) recordObserved(status connpool.Status, broken *finding) {
	w.observe(status, broken)
	w.seal(false)
}

func (w *connectionWriter) recordNotConnected(reason, message string) {
	w.notConnected(reason, message)
	w.seal(false)
}

// poolStatus returns what the pool knows of a connection, after the changes.
func poolStatus(state connpool.State, changes ...func(*connpool.Status)) connpool.Status {
	status := connpool.Status{
		State: state, IdentityHash: testHash, Server: testServer, KubernetesVersion: "v1.37.1", ClusterUID: "uid-1",
	}
	if state != connpool.Ready && state != connpool.Idle && state != connpool.Connecting {
		status.Err = errTarget
	}
	for _, change := range changes {
		change(&status)
	}
	return status
}

func next(state connpool.State) func(*connpool.Status) {
	return func(s *connpool.Status) {
		s.Next = &connpool.Attempt{State: state}
		if state != connpool.Connecting {
			s.Next.Err = errNewOne
		}
	}
}

func ends(at time.Time) func(*connpool.Status) {
	return func(s *connpool.Status) { s.ExpiresAt = at }
}

const (
	yes     = "True/Connected"
	unknown = "Unknown/NotConnected"
)

func TestConnectionConditions(t *testing.T) {
	tests := map[string]struct {
		status connpool.Status
		broken *finding
		want   fixtures.Five
		// says has parts of the messages of Ready and CredentialsValid.
		says, credential []string
	}{
		"Ready":       {status: poolStatus(connpool.Ready), want: fixtures.All(yes)},
		"Idle":        {status: poolStatus(connpool.Idle), want: fixtures.All("True/Idle"), says: []string{"the next one opens it"}},
		"Connecting":  {status: poolStatus(connpool.Connecting), want: fixtures.All("Unknown/Connecting")},
		"Unreachable": {status: poolStatus(connpool.Unreachable), want: fixtures.Five{"False/Unreachable", unknown, "False/Unreachable", unknown, unknown}, says: []string{errTarget.Error()}},
		"Rejected": {
			status: poolStatus(connpool.Rejected), want: fixtures.Five{"False/CredentialsRejected", "False/CredentialsRejected", yes, unknown, unknown},
			says: []string{errTarget.Error()},
		},
		"Forbidden": {
			status: poolStatus(connpool.Forbidden), want: fixtures.Five{"False/Forbidden", yes, yes, "False/Forbidden", unknown},
			says: []string{errTarget.Error(), "config/target/role.yaml", "spec.namespaces"},
		},
		"Stale": {status: poolStatus(connpool.Stale), want: fixtures.Five{"False/WatchStale", yes, yes, yes, "False/WatchStale"}, says: []string{errTarget.Error()}},
		"another cluster": {
			status: poolStatus(connpool.IdentityChanged), want: fixtures.Five{"False/IdentityChanged", yes, yes, unknown, "False/IdentityChanged"},
			says: []string{errTarget.Error(), v1alpha1.AnnotationConfirmClusterUID},
		},

		"a new kubeconfig is tried": {status: poolStatus(connpool.Ready, next(connpool.Connecting)), want: fixtures.All(yes)},
		"the new kubeconfig is rejected": {
			status: poolStatus(connpool.Ready, next(connpool.Rejected)), want: fixtures.Five{"True/LastKubeconfig", "False/CredentialsRejected", yes, yes, yes},
			says: []string{"Jobs can be sent", "the last one goes on", errNewOne.Error()}, credential: []string{"new kubeconfig", errNewOne.Error()},
		},
		"the new kubeconfig reaches nothing": {
			status: poolStatus(connpool.Ready, next(connpool.Unreachable)), want: fixtures.Five{"True/LastKubeconfig", "False/Unreachable", yes, yes, yes},
			says: []string{errNewOne.Error()}, credential: []string{errNewOne.Error()},
		},
		"the new kubeconfig may not watch": {
			status: poolStatus(connpool.Ready, next(connpool.Forbidden)), want: fixtures.Five{"True/LastKubeconfig", "False/Forbidden", yes, yes, yes},
			credential: []string{errNewOne.Error(), "config/target/role.yaml"},
		},
		"the new kubeconfig is of another cluster": {
			status: poolStatus(connpool.Ready, next(connpool.IdentityChanged)), want: fixtures.Five{"True/LastKubeconfig", "False/IdentityChanged", yes, yes, yes},
			credential: []string{errNewOne.Error(), v1alpha1.AnnotationConfirmClusterUID},
		},
		"the new kubeconfig is rejected while Idle": {
			status: poolStatus(connpool.Idle, next(connpool.Rejected)), want: fixtures.Five{"True/LastKubeconfig", "False/CredentialsRejected", "True/Idle", "True/Idle", "True/Idle"},
		},
		"the Secret is broken": {
			status: poolStatus(connpool.Ready), broken: brokenOne, want: fixtures.Five{"True/LastKubeconfig", "False/InvalidKubeconfig", yes, yes, yes},
			says: []string{brokenOne.message}, credential: []string{brokenOne.message, "last kubeconfig"},
		},
		"the Secret is gone": {
			status: poolStatus(connpool.Ready), broken: missingOne, want: fixtures.Five{"True/LastKubeconfig", "False/SecretNotFound", yes, yes, yes},
			credential: []string{missingOne.message},
		},
		"the Secret is broken while Idle": {
			status: poolStatus(connpool.Idle), broken: brokenOne, want: fixtures.Five{"True/LastKubeconfig", "False/InvalidKubeconfig", "True/Idle", "True/Idle", "True/Idle"},
		},
		"the Secret is broken, and the target is gone": {
			status: poolStatus(connpool.Unreachable), broken: brokenOne,
			want: fixtures.Five{"False/InvalidKubeconfig", "False/InvalidKubeconfig", "False/Unreachable", unknown, unknown},
		},

		"expires in a year": {status: poolStatus(connpool.Ready, ends(inAYear)), want: fixtures.All(yes)},
		"expires soon": {
			status: poolStatus(connpool.Ready, ends(inAnHour)), want: fixtures.Five{yes, "True/ExpiringSoon", yes, yes, yes},
			credential: []string{inAnHour.Format(time.RFC3339), "Secret"},
		},
		"expires soon, and is Idle":   {status: poolStatus(connpool.Idle, ends(inAnHour)), want: fixtures.Five{"True/Idle", "True/ExpiringSoon", "True/Idle", "True/Idle", "True/Idle"}},
		"expires soon, but unreached": {status: poolStatus(connpool.Unreachable, ends(inAnHour)), want: fixtures.Five{"False/Unreachable", unknown, "False/Unreachable", unknown, unknown}},
		"expires soon, but rejected":  {status: poolStatus(connpool.Rejected, ends(inAnHour)), want: fixtures.Five{"False/CredentialsRejected", "False/CredentialsRejected", yes, unknown, unknown}},
		"expires soon, but is stale":  {status: poolStatus(connpool.Stale, ends(inAnHour)), want: fixtures.Five{"False/WatchStale", "True/ExpiringSoon", yes, yes, "False/WatchStale"}},
		"expired": {
			status: poolStatus(connpool.Ready, ends(anHourAgo)), want: fixtures.Five{"False/CredentialsExpired", "False/CredentialsExpired", yes, yes, yes},
			says: []string{anHourAgo.Format(time.RFC3339), "No Job is sent", "Secret"},
		},
		"expires at this moment": {status: poolStatus(connpool.Ready, ends(testTime)), want: fixtures.Five{"False/CredentialsExpired", "False/CredentialsExpired", yes, yes, yes}},
		"expired, and is Idle": {
			status: poolStatus(connpool.Idle, ends(anHourAgo)), want: fixtures.Five{"False/CredentialsExpired", "False/CredentialsExpired", "True/Idle", "True/Idle", "True/Idle"},
		},
		"expired, and rejected": {
			status: poolStatus(connpool.Rejected, ends(anHourAgo)), want: fixtures.Five{"False/CredentialsExpired", "False/CredentialsExpired", yes, unknown, unknown},
			says: []string{anHourAgo.Format(time.RFC3339)},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newConnection()
			writerOf(c).recordObserved(test.status, test.broken)
			checkFive(t, c, test.want)
			checkSays(t, c, v1alpha1.ConditionReady, test.says)
			checkSays(t, c, v1alpha1.ConditionCredentialsValid, test.credential)
		})
	}
}

func checkFive(t *testing.T, c *v1alpha1.ClusterConnection, want fixtures.Five) {
	t.Helper()
	if got := fixtures.FiveOf(c); got != want {
		t.Errorf("conditions are\n%v, not\n%v", got, want)
	}
	for _, condition := range c.Status.Conditions {
		if condition.ObservedGeneration != c.Generation || condition.LastTransitionTime.IsZero() || condition.Message == "" {
			t.Errorf("condition is incomplete: %+v", condition)
		}
	}
}

func checkSays(t *testing.T, c *v1alpha1.ClusterConnection, kind string, parts []string) {
	t.Helper()
	message := meta.FindStatusCondition(c.Status.Conditions, kind).Message
	for _, part := range parts {
		if !strings.Contains(message, part) {
			t.Errorf("%s does not say %q: %s", kind, part, message)
		}
	}
}

func TestConnectionThatExpiredWithABrokenSecretSaysThatNothingIsSent(t *testing.T) {
	for name, status := range map[string]connpool.Status{
		"broken": poolStatus(connpool.Ready, ends(anHourAgo)),
		"next":   poolStatus(connpool.Ready, ends(anHourAgo), next(connpool.Rejected)),
	} {
		t.Run(name, func(t *testing.T) {
			var broken *finding
			if status.Next == nil {
				broken = brokenOne
			}
			c := newConnection()
			writerOf(c).recordObserved(status, broken)
			ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
			if ready.Status != metav1.ConditionFalse {
				t.Errorf("Ready is %s/%s: %s", ready.Status, ready.Reason, ready.Message)
			}
			if !strings.Contains(ready.Message, "expired at "+anHourAgo.Format(time.RFC3339)) {
				t.Errorf("Ready does not say that the one in use expired: %s: %s", ready.Reason, ready.Message)
			}
		})
	}
}

func TestConnectionWithoutOne(t *testing.T) {
	c := newConnection()
	writerOf(c).recordNotConnected(v1alpha1.ReasonSecretNotFound, missingOne.message)
	checkFive(t, c, fixtures.Five{"False/SecretNotFound", "False/SecretNotFound", unknown, unknown, unknown})
	checkSays(t, c, v1alpha1.ConditionReady, []string{missingOne.message})
}

func TestConnectionStatusOfTheTarget(t *testing.T) {
	c := newConnection()
	writerOf(c).recordObserved(poolStatus(connpool.Ready, ends(inAnHour)), nil)
	first := c.Status.DeepCopy()
	first.Conditions = nil
	want := &v1alpha1.ClusterConnectionStatus{
		ObservedGeneration: 3, Server: testServer, KubernetesVersion: "v1.37.1", ClusterUID: "uid-1", IdentityHash: testHash,
		CredentialsExpireAt: &metav1.Time{Time: inAnHour},
	}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	// What the target once told stays, and the UID of the first cluster does.
	writerOf(c).recordObserved(poolStatus(connpool.IdentityChanged, func(s *connpool.Status) {
		s.IdentityHash, s.KubernetesVersion, s.ClusterUID = "sha256:other", "", "uid-2"
	}), nil)
	if c.Status.ClusterUID != "uid-1" || c.Status.KubernetesVersion != "v1.37.1" || c.Status.IdentityHash != "sha256:other" || c.Status.CredentialsExpireAt != nil {
		t.Errorf("status is %+v", c.Status)
	}
}

func TestConnectionIsLookedAtAgainWhenItsCredentialAges(t *testing.T) {
	tests := map[string]struct {
		at   time.Time
		want time.Duration
	}{
		"no end":  {time.Time{}, 0},
		"a year":  {inAYear, 365*24*time.Hour - testWarning},
		"an hour": {inAnHour, time.Hour},
		"expired": {anHourAgo, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := writerOf(newConnection())
			w.recordObserved(poolStatus(connpool.Ready, ends(test.at)), nil)
			if w.again != test.want {
				t.Errorf("again after %s, not %s", w.again, test.want)
			}
		})
	}
}

func TestConnectionKeepsItsConditionsWhileItIsConnectedAnew(t *testing.T) {
	keeps := map[string]connpool.Status{
		"Ready":                   poolStatus(connpool.Ready),
		"Idle":                    poolStatus(connpool.Idle),
		"Unreachable":             poolStatus(connpool.Unreachable),
		"Rejected":                poolStatus(connpool.Rejected),
		"Forbidden":               poolStatus(connpool.Forbidden),
		"IdentityChanged":         poolStatus(connpool.IdentityChanged),
		"the last of two":         poolStatus(connpool.Ready, next(connpool.Rejected)),
		"Ready, but expires soon": poolStatus(connpool.Ready, ends(inAnHour)),
	}
	for name, before := range keeps {
		t.Run(name, func(t *testing.T) {
			c := newConnection()
			writerOf(c).recordObserved(before, nil)
			want := c.DeepCopy()
			// After a restart the pool knows what Connect told it, and no more.
			w := writerOf(c)
			w.now = metav1.NewTime(testTime.Add(time.Minute))
			w.recordObserved(connpool.Status{State: connpool.Connecting, IdentityHash: testHash, Server: testServer, ExpiresAt: before.ExpiresAt}, nil)
			if diff := cmp.Diff(want, c); diff != "" {
				t.Errorf("changed while connecting (-before +after):\n%s", diff)
			}
		})
	}
	for _, reason := range []string{v1alpha1.ReasonSecretNotFound, v1alpha1.ReasonInvalidKubeconfig} {
		t.Run("not "+reason, func(t *testing.T) {
			c := newConnection()
			writerOf(c).recordNotConnected(reason, "it is")
			writerOf(c).recordObserved(poolStatus(connpool.Connecting), nil)
			checkFive(t, c, fixtures.All("Unknown/Connecting"))
		})
	}
}

func TestConnectionWritesAnUnchangedStateOnce(t *testing.T) {
	for _, status := range []connpool.Status{
		poolStatus(connpool.Ready), poolStatus(connpool.Idle), poolStatus(connpool.Unreachable), poolStatus(connpool.Forbidden),
		poolStatus(connpool.Ready, next(connpool.Rejected)), poolStatus(connpool.Ready, ends(inAnHour)), poolStatus(connpool.Ready, ends(anHourAgo)),
	} {
		for _, fenced := range []bool{false, true} {
			c := newConnection()
			w := writerOf(c)
			w.observe(status, nil)
			w.seal(fenced)
			want := c.DeepCopy()
			for i := range 3 {
				w := writerOf(c)
				w.now = metav1.NewTime(testTime.Add(time.Duration(i) * time.Second))
				w.observe(status, nil)
				w.seal(fenced)
			}
			if diff := cmp.Diff(want, c); diff != "" {
				t.Errorf("%s, fenced: %t: changed (-before +after):\n%s", status.State, fenced, diff)
			}
		}
	}
}

func TestConnectionThatIsDeletedNamesItsPooledJobs(t *testing.T) {
	c := newConnection()
	w := writerOf(c)
	w.users = []string{"a/1", "a/2", "b/3", "b/4", "b/5", "b/6"}
	w.recordObserved(poolStatus(connpool.Ready), nil)
	checkFive(t, c, fixtures.Five{"False/Deleting", yes, yes, yes, yes})
	checkSays(t, c, v1alpha1.ConditionReady, []string{"6 PooledJobs", "a/1, a/2, b/3, b/4, b/5, ..."})

	// What keeps the PooledJobs from cleaning up comes first.
	w.recordObserved(poolStatus(connpool.Unreachable), nil)
	checkFive(t, c, fixtures.Five{"False/Unreachable", unknown, "False/Unreachable", unknown, unknown})
	checkSays(t, c, v1alpha1.ConditionReady, []string{"6 PooledJobs", "a/1, a/2, b/3, b/4, b/5, ..."})
}

func TestConnectionMessagesAreBounded(t *testing.T) {
	c := newConnection()
	writerOf(c).recordObserved(poolStatus(connpool.Unreachable, func(s *connpool.Status) { s.Err = errors.New(strings.Repeat("é", 10_000)) }), nil)
	for _, condition := range c.Status.Conditions {
		if len(condition.Message) > maxWords {
			t.Errorf("%s has %d bytes", condition.Type, len(condition.Message))
		}
	}
}

func TestConnectionEvents(t *testing.T) {
	ready, rejected := poolStatus(connpool.Ready), poolStatus(connpool.Ready, next(connpool.Rejected))
	soon, expired := poolStatus(connpool.Ready, ends(inAnHour)), poolStatus(connpool.Ready, ends(anHourAgo))
	first := connpool.Status{}
	tests := map[string]struct {
		before, after connpool.Status
		want          map[string]string // type by reason
	}{
		"first contact under way":   {first, poolStatus(connpool.Connecting), nil},
		"connected":                 {poolStatus(connpool.Connecting), ready, map[string]string{"Connected": corev1.EventTypeNormal}},
		"still connected":           {ready, ready, nil},
		"lost":                      {ready, poolStatus(connpool.Unreachable), map[string]string{"Unreachable": corev1.EventTypeWarning}},
		"lost, in other words":      {poolStatus(connpool.Unreachable), poolStatus(connpool.Unreachable, func(s *connpool.Status) { s.Err = errNewOne }), nil},
		"asleep":                    {ready, poolStatus(connpool.Idle), map[string]string{"Idle": corev1.EventTypeNormal}},
		"awake":                     {poolStatus(connpool.Idle), ready, map[string]string{"Connected": corev1.EventTypeNormal}},
		"new kubeconfig is tried":   {ready, poolStatus(connpool.Ready, next(connpool.Connecting)), nil},
		"new kubeconfig fails":      {ready, rejected, map[string]string{"LastKubeconfig": corev1.EventTypeWarning}},
		"expires soon":              {ready, soon, map[string]string{"ExpiringSoon": corev1.EventTypeWarning}},
		"still expires soon":        {soon, soon, nil},
		"expired":                   {soon, expired, map[string]string{"CredentialsExpired": corev1.EventTypeWarning}},
		"first seen when it is old": {first, soon, map[string]string{"Connected": corev1.EventTypeNormal, "ExpiringSoon": corev1.EventTypeWarning}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := newConnection()
			if test.before.State != "" {
				writerOf(before).recordObserved(test.before, nil)
			}
			after := before.DeepCopy()
			writerOf(after).recordObserved(test.after, nil)
			got := map[string]string{}
			for _, n := range transitions(before, after) {
				got[n.reason] = n.kind
				if n.message == "" {
					t.Errorf("Event %s says nothing", n.reason)
				}
			}
			if !maps.Equal(got, test.want) {
				t.Errorf("Events are %v, not %v", got, test.want)
			}
			if n := len(transitions(before, after)); n != len(test.want) {
				t.Errorf("%d Events: %v", n, slices.Collect(maps.Keys(got)))
			}
		})
	}
}
