package clusterconnection

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/credentials"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/kubeconfig"
)

// With spec.tokenRenewal the token of a ServiceAccount is renewed when half of its life
// has passed. What is promised:
//
//   - The target is asked for a token of the account that the present one is of, with
//     the same audiences, bound to the same object, by that very account and over the
//     connection that it has. The target's own rules say whether it may.
//   - Of the Secret that one token changes, and nothing else. A Secret that somebody
//     else has changed meanwhile stays as it is: theirs wins, and the new token is
//     dropped.
//   - The new token comes into use as any new kubeconfig does: when it has proven itself
//     in a connection beside the one before.
//   - What keeps a token from being renewed is a condition. It is tried again, from a
//     minute later to every ten, and a token that was just renewed is left alone for as
//     long, whatever it or a clock says.
//   - Nothing that must last is in memory. A crash after the request loses a token that
//     nobody has and that ends by itself.

const (
	// RenewalTimeout bounds the request for a token: it holds a worker.
	RenewalTimeout = 5 * time.Second
	// MaxRenewals bounds how many requests for tokens are under way at once: half of the
	// workers, so that targets which do not answer leave the other half to the rest.
	MaxRenewals = Workers / 2
	// renewalSoon is when a request is tried again that could not be sent.
	renewalSoon = 10 * time.Second
	// MinRenewalPause and maxRenewalPause bound the time from one request that was sent
	// to the next.
	MinRenewalPause = time.Minute
	maxRenewalPause = 10 * time.Minute
)

// renewal is what is to be said of the renewal of one connection's token.
type renewal struct {
	// failure says why there is none, and what to do; empty when all goes well.
	failure string
	// overdue is from when on one is warned of a token that was not renewed; zero if
	// the credential is none that could be.
	overdue time.Time
	// again is when to look again; 0 is not by the passing of time.
	again time.Duration
}

// warnsAt returns when a credential that ends then is to be warned of, if without renewal that
// is so long before.
func (n *renewal) warnsAt(at time.Time, before time.Duration) time.Time {
	warns := at.Add(-before)
	if n != nil && n.overdue.After(warns) {
		return n.overdue
	}
	return warns
}

// failureMessage returns the failure; empty if there is none.
func (n *renewal) failureMessage() string {
	if n == nil {
		return ""
	}
	return n.failure
}

// RenewalSchedule returns when a token is renewed, and from when on that is overdue: when half of its
// life has passed and up to a tenth more, so that the connections that were made together
// do not ask together; and when three quarters have. The same token has the same times
// after a restart.
func RenewalSchedule(name string, account kubeconfig.Account) (due, overdue time.Time) {
	digest := fnv.New32a()
	fmt.Fprint(digest, name, account.IssuedAt.Unix(), account.ExpiresAt.Unix())
	life := account.Life()
	jitter := time.Duration(float64(life/10) * float64(digest.Sum32()) / math.MaxUint32)
	return account.IssuedAt.Add(life/2 + jitter), account.IssuedAt.Add(life / 4 * 3)
}

// renew renews the token in a connection's Secret, if the time has come. It returns nil
// where that is not asked for.
func (r *Reconciler) renew(ctx context.Context, connection *v1alpha1.ClusterConnection, source credentials.Source, status connpool.Status, memory *renewalMemory) *renewal {
	if connection.Spec.TokenRenewal.LifetimeSeconds == 0 {
		*memory = renewalMemory{}
		return nil
	}
	account, err := accountOf(source)
	if err != nil {
		memory.forgetToken()
		return &renewal{failure: "The credential cannot be renewed: " + err.Error() + "."}
	}
	memory.concern(connection, source.Identity)
	state := &renewal{}
	var due time.Time
	due, state.overdue = RenewalSchedule(connection.Name, account)
	memory.waking = false
	next := slices.MaxFunc([]time.Time{due, memory.retry, memory.rest}, time.Time.Compare)
	if wait := next.Sub(r.Clock.Now()); wait > 0 {
		state.again = wait
	} else if status.Next == nil { // else what is in the Secret is not in use; the pool notifies the reconciler when it is
		state.again = r.tryRenewal(ctx, connection, source, account, memory)
	}
	state.failure = memory.failure
	return state
}

// tryRenewal asks for a token and puts it into the Secret, if the connection can be used
// with the one that is there. It notes what came of it, and returns when to look again.
func (r *Reconciler) tryRenewal(ctx context.Context, connection *v1alpha1.ClusterConnection, source credentials.Source, account kubeconfig.Account, memory *renewalMemory) time.Duration {
	lease, err := r.Connections.Lease(connection.Name, "")
	if err != nil {
		memory.waking = true // if it was idle; the pool notifies the reconciler when it is Ready
		return 0
	}
	if !lease.Uses(credentials.Connpool(source.Identity)) {
		return 0
	}
	if !r.renewals.TryAcquire(1) {
		return renewalSoon
	}
	defer r.renewals.Release(1)
	token, fresh, err := r.requestToken(ctx, lease, account, connection.Spec.TokenRenewal.LifetimeSeconds)
	if errors.Is(err, connpool.ErrBusy) || errors.Is(err, connpool.ErrClosed) || errors.Is(err, connpool.ErrNotSent) || ctx.Err() != nil {
		return renewalSoon
	}
	if err == nil {
		err = credentials.ReplaceToken(ctx, r.Hub, source, token)
	}
	idle := connection.Spec.IdleTimeoutSeconds
	switch {
	case err == nil:
		logf.FromContext(ctx).Info("Renewed the token", "connection", connection.Name, "expires", fresh.ExpiresAt)
		return memory.succeeded(r.Clock.Now(), fresh.Life()/10)
	case errors.Is(err, credentials.ErrChanged):
		return memory.succeeded(r.Clock.Now(), MinRenewalPause)
	case idle != nil && *idle > 0: // a try opens the connection, and each opening is an Event
		return memory.failed(r.Clock.Now(), err, account.Life()/20)
	default:
		return memory.failed(r.Clock.Now(), err, 0)
	}
}

// requestToken asks the target for a token like the one of the account, and looks whether
// it is one.
func (r *Reconciler) requestToken(ctx context.Context, lease *connpool.Lease, account kubeconfig.Account, seconds int32) (string, kubeconfig.Account, error) {
	lifetime := int64(seconds)
	spec := authenticationv1.TokenRequestSpec{Audiences: account.Audiences, ExpirationSeconds: &lifetime}
	if bound := account.BoundTo; bound.Kind != "" {
		spec.BoundObjectRef = &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: bound.Kind, Name: bound.Name, UID: types.UID(bound.UID),
		}
	}
	ctx, cancel := context.WithTimeout(ctx, RenewalTimeout)
	defer cancel()
	token, err := lease.RequestToken(ctx, account.Namespace, account.Name, spec)
	switch {
	case apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse):
		return "", kubeconfig.Account{}, fmt.Errorf("%w. Let ServiceAccount %s/%s create serviceaccounts/token of itself on the target, by a Role in its namespace",
			err, account.Namespace, account.Name)
	case err != nil:
		return "", kubeconfig.Account{}, fmt.Errorf("asking the target for a token: %w", err)
	}
	fresh, err := kubeconfig.Identity{Token: token}.Account()
	switch {
	case err != nil || fresh.Username() != account.Username():
		return "", fresh, errOtherAccount
	case !fresh.ExpiresAt.After(r.Clock.Now()):
		return "", fresh, errSkewed
	}
	return token, fresh, nil
}

var (
	errOtherAccount = errors.New("the target answered with a token that is not one of the same ServiceAccount; see what answers in its place")
	errSkewed       = errors.New("the target gives tokens whose end has passed by the manager's clock; set the clocks of both")
	errImmutable    = errors.New("the Secret is immutable; create it anew without that")
)

// accountOf returns whose token is in the Secret. The error says why it cannot be renewed.
func accountOf(s credentials.Source) (kubeconfig.Account, error) {
	if s.Secret.Immutable != nil && *s.Secret.Immutable {
		return kubeconfig.Account{}, errImmutable
	}
	return s.Identity.Account()
}

// renewalMemory is what is remembered of the renewals of one connection's token.
type renewalMemory struct {
	// about is which token, and which version of the spec, failure, failures and retry are about:
	// with another everything is tried at once.
	about    [sha256.Size]byte
	failure  string
	failures int
	retry    time.Time
	// rest is until when nothing is asked for, whatever the Secret says: after a request
	// that went well, so that tokens which seem to be old from their first second, or
	// somebody who puts the old one back, do not make a loop.
	rest time.Time
	// waking is true if the connection was opened to renew the token.
	waking bool
}

// failed notes what went wrong, and returns when to try again: later and later, and not
// before least has passed.
func (m *renewalMemory) failed(now time.Time, err error, least time.Duration) time.Duration {
	pause := max(min(MinRenewalPause<<min(m.failures, 10), maxRenewalPause), least)
	m.failures++
	m.failure, m.retry = "The token was not renewed: "+err.Error()+". It is tried again.", now.Add(pause)
	return pause
}

func (m *renewalMemory) succeeded(now time.Time, pause time.Duration) time.Duration {
	pause = min(max(pause, MinRenewalPause), maxRenewalPause)
	m.failure, m.failures, m.retry, m.rest = "", 0, time.Time{}, now.Add(pause)
	return pause
}

// concern makes the memory be about a connection with that credential.
func (m *renewalMemory) concern(connection *v1alpha1.ClusterConnection, identity kubeconfig.Identity) {
	about := sha256.Sum256(fmt.Append(nil, connection.UID, connection.Generation, " ", identity.Token))
	if m.about != about {
		*m = renewalMemory{about: about, rest: m.rest}
	}
}

// forgetToken forgets all but until when nothing is asked for: the Secret may be there again, as
// it was, in a moment.
func (m *renewalMemory) forgetToken() { *m = renewalMemory{rest: m.rest} }
