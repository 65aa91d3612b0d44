package clusterconnection

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// connectionConditions are the conditions that Ready sums up, in the order in
// which a connection comes up, and what they say when they are True.
var connectionConditions = []struct{ kind, well string }{
	{v1alpha1.ConditionCredentialsValid, "The target accepts the credentials."},
	{v1alpha1.ConditionReachable, "The target answers."},
	{v1alpha1.ConditionAuthorized, "The identity may see what has to be watched."},
	{v1alpha1.ConditionSynced, "The view of the target is complete and kept up to date."},
}

// connectionWriter changes the status of one ClusterConnection in memory.
type connectionWriter struct {
	connection *v1alpha1.ClusterConnection
	now        metav1.Time
	// warning is how long before its end a credential is warned about.
	warning time.Duration
	// users are the PooledJobs that a deleted connection is kept for.
	users []string
	// again is when to look again although nothing happens; 0 is never.
	again time.Duration
	// renewal is what became of the renewal of the token; nil if nobody asked for it.
	renewal *renewal
	// ready is what the conditions sum up to; nil while they stay as they were.
	ready *finding
}

// finding is what is known of one condition.
type finding struct {
	status  metav1.ConditionStatus
	reason  string
	message string
}

var (
	works    = finding{metav1.ConditionTrue, v1alpha1.ReasonConnected, "Jobs can be sent, and their status comes back."}
	notKnown = finding{metav1.ConditionUnknown, v1alpha1.ReasonNotConnected, "Not known without a connection."}
	connects = finding{metav1.ConditionUnknown, v1alpha1.ReasonConnecting, "The first contact is under way."}
	idles    = finding{metav1.ConditionTrue, v1alpha1.ReasonIdle, "Closed, because no unfinished PooledJob needs it; the next one opens it."}
)

// maxWords bounds a condition's message, in bytes: it may hold a target's words, or
// those of a kubeconfig.
const maxWords = 4096

// notConnected records why there is nothing to connect with.
func (w *connectionWriter) notConnected(reason, message string) {
	findings := []finding{{metav1.ConditionFalse, reason, message}, notKnown, notKnown, notKnown}
	w.write(findings, rollUp(findings))
}

// observe records the pool's view of the connection. broken says what is wrong with
// the Secret, if anything: the pool then goes on with the kubeconfig before.
func (w *connectionWriter) observe(status connpool.Status, broken *finding) {
	w.observeTarget(status)
	if status.State == connpool.Connecting && w.saysEnough() {
		return // what was written before may still be true
	}
	findings := findingsOf(status)
	credential := &findings[0]
	if ends := w.end(status.ExpiresAt); ends != nil && (ends.status == metav1.ConditionFalse || credential.status == metav1.ConditionTrue) {
		*credential = *ends
	}
	ready := rollUp(findings)
	if newest := newestProblem(status.Next, broken); newest != nil {
		if credential.reason == v1alpha1.ReasonCredentialsExpired {
			newest = &finding{credential.status, credential.reason, credential.message + " " + newest.message}
		}
		*credential = *newest
		if ready.status == metav1.ConditionTrue {
			ready = finding{metav1.ConditionTrue, v1alpha1.ReasonLastKubeconfig,
				"Jobs can be sent, and their status comes back. " + newest.message}
		} else {
			ready = rollUp(findings) // with the credential's
		}
	}
	w.write(findings, ready)
}

// observeTarget records what the target reports of itself, and what of it is used.
func (w *connectionWriter) observeTarget(status connpool.Status) {
	recorded := &w.connection.Status
	recorded.Server = jobstatus.Truncate(status.Server, maxServer)
	recorded.IdentityHash = status.IdentityHash
	recorded.CredentialsExpireAt = nil
	if !status.ExpiresAt.IsZero() {
		recorded.CredentialsExpireAt = &metav1.Time{Time: status.ExpiresAt}
	}
	if status.KubernetesVersion != "" {
		recorded.KubernetesVersion = jobstatus.Truncate(status.KubernetesVersion, maxVersion)
	}
	if recorded.ClusterUID == "" {
		recorded.ClusterUID = status.ClusterUID
	}
}

// saysEnough reports whether the conditions may stay as they are while the connection
// is being made: after a restart of the manager, or when it was idle, most are true.
func (w *connectionWriter) saysEnough() bool {
	ready := meta.FindStatusCondition(w.connection.Status.Conditions, v1alpha1.ConditionReady)
	return ready != nil && ready.Reason != v1alpha1.ReasonSecretNotFound && ready.Reason != v1alpha1.ReasonInvalidKubeconfig
}

// findingsOf returns what a state of the pool means for connectionConditions.
func findingsOf(status connpool.Status) []finding {
	no := func(reason, advice string) finding {
		return finding{metav1.ConditionFalse, reason, errorText(status.Err) + advice}
	}
	switch status.State {
	case connpool.Ready:
		return []finding{works, works, works, works}
	case connpool.Idle:
		return []finding{idles, idles, idles, idles}
	case connpool.Unreachable:
		return []finding{notKnown, no(v1alpha1.ReasonUnreachable, ""), notKnown, notKnown}
	case connpool.Rejected:
		return []finding{no(v1alpha1.ReasonCredentialsRejected, ""), works, notKnown, notKnown}
	case connpool.Forbidden:
		return []finding{works, works, no(v1alpha1.ReasonForbidden, adviceForbidden), notKnown}
	case connpool.Stale:
		return []finding{works, works, works, no(v1alpha1.ReasonWatchStale, "")}
	case connpool.LimitExceeded:
		return []finding{notKnown, works, notKnown, no(v1alpha1.ReasonLimitExceeded, adviceLimit)}
	case connpool.IdentityChanged:
		return []finding{works, works, notKnown, no(v1alpha1.ReasonIdentityChanged, adviceIdentity)}
	case connpool.Connecting:
	}
	return []finding{connects, connects, connects, connects}
}

const (
	adviceForbidden = ". Grant what is missing on the target (config/target/role.yaml has all rights); if the identity may see some namespaces only, list them in spec.namespaces."
	adviceLimit     = ". It is tried again about every 5 minutes."
	adviceIdentity  = ". Nothing is sent there. If that is the cluster that is meant, confirm it with the annotation " +
		v1alpha1.AnnotationConfirmClusterUID + " and that UID."
)

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// newestProblem returns what is wrong with the kubeconfig in the Secret, if another is in
// use because of that.
func newestProblem(next *connpool.Attempt, broken *finding) *finding {
	switch {
	case broken != nil:
		return &finding{metav1.ConditionFalse, broken.reason, broken.message + ". The last kubeconfig that worked goes on."}
	case next == nil || next.State == connpool.Connecting:
		return nil
	}
	problem := rollUp(findingsOf(connpool.Status{State: next.State, Err: next.Err}))
	problem.message = "The new kubeconfig does not work, and the last one goes on: " + problem.message
	return &problem
}

// end returns what is to be said of the end of a credential, and of the one that is to come
// after it; nil if it is nothing.
func (w *connectionWriter) end(at time.Time) *finding {
	if expires := w.expiry(at); expires != nil || w.renewal.failureMessage() == "" {
		return expires
	}
	message := "The target accepts the credentials. " + w.renewal.failureMessage()
	if !at.IsZero() {
		message += " They expire at " + at.UTC().Format(time.RFC3339) + "."
	}
	return &finding{metav1.ConditionTrue, v1alpha1.ReasonTokenRenewalFailed, message}
}

// expiry returns what is to be said of a credential that ends; nil if it is nothing.
func (w *connectionWriter) expiry(at time.Time) *finding {
	if at.IsZero() {
		return nil
	}
	left, when := at.Sub(w.now.Time), at.UTC().Format(time.RFC3339)
	untilWarning := w.renewal.warnsAt(at, w.warning).Sub(w.now.Time)
	switch {
	case left <= 0:
		return &finding{metav1.ConditionFalse, v1alpha1.ReasonCredentialsExpired,
			appended("The credentials expired at "+when+". No Job is sent until the Secret has new ones.", w.renewal.failureMessage())}
	case untilWarning <= 0:
		w.again = left
		return &finding{metav1.ConditionTrue, v1alpha1.ReasonExpiringSoon,
			appended("The target accepts the credentials. They expire at "+when+"; put new ones into the Secret before.", w.renewal.failureMessage())}
	default:
		w.again = min(left, untilWarning)
		return nil
	}
}

// appended returns a text and, if there is one, another after it.
func appended(text, more string) string {
	return strings.TrimSuffix(text+" "+more, " ")
}

// deleting returns the finding of a deleted connection that is kept for PooledJobs.
func (w *connectionWriter) deleting() finding {
	const shown = 5
	names := strings.Join(w.users[:min(len(w.users), shown)], ", ")
	if len(w.users) > shown {
		names += ", ..."
	}
	return finding{metav1.ConditionFalse, v1alpha1.ReasonDeleting, fmt.Sprintf(
		"Deleted, but kept for %d PooledJobs that still have to clean up on the target: %s. Delete them first.", len(w.users), names)}
}

// write records a finding for each of connectionConditions, and what they sum up to.
func (w *connectionWriter) write(findings []finding, ready finding) {
	for i, condition := range connectionConditions {
		f := findings[i]
		if f == works {
			f.message = condition.well
			if condition.kind == v1alpha1.ConditionCredentialsValid && w.renewal != nil {
				f.message += " The manager renews the token."
			}
		}
		w.set(condition.kind, f)
	}
	w.ready = &ready
}

// setReady records what the conditions sum up to, and what a deleted connection is kept for.
func (w *connectionWriter) setReady(ready finding) {
	switch {
	case len(w.users) == 0:
	case ready.status == metav1.ConditionTrue:
		ready = w.deleting()
	default:
		ready.message = strings.TrimSuffix(ready.message, ".") + ". " + w.deleting().message
	}
	w.set(v1alpha1.ConditionReady, ready)
}

// needPerson are the reasons that go away only when a person does something.
var needPerson = []string{
	v1alpha1.ReasonSecretNotFound, v1alpha1.ReasonInvalidKubeconfig, v1alpha1.ReasonCredentialsRejected,
	v1alpha1.ReasonCredentialsExpired, v1alpha1.ReasonForbidden, v1alpha1.ReasonIdentityChanged,
	v1alpha1.ReasonClusterFenced, v1alpha1.ReasonLimitExceeded,
}

// seal brings what sums the status up in line with the rest of it. It is the last that is done to
// a status before it is written.
func (w *connectionWriter) seal(fenced bool) {
	status := &w.connection.Status
	if w.ready != nil {
		status.ObservedGeneration = w.connection.Generation
	}
	before := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	switch {
	case fenced:
		w.ready = &finding{metav1.ConditionFalse, v1alpha1.ReasonClusterFenced, fmt.Sprintf(
			"The cluster was stated to be fenced, by annotation %s=%s. Nothing is sent there until the annotation is taken off.",
			v1alpha1.AnnotationFenced, status.ClusterUID)}
	case w.ready == nil && before != nil && before.Reason == v1alpha1.ReasonClusterFenced:
		w.ready = &connects // it is not fenced any more, and what it was before is not known
	}
	if w.ready != nil {
		w.setReady(*w.ready)
	}
	stalled := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled)
	if why := w.needsPerson(); why != nil {
		w.set(v1alpha1.ConditionStalled, finding{metav1.ConditionTrue, why.Reason, why.Message})
	} else if stalled != nil {
		w.set(v1alpha1.ConditionStalled, finding{metav1.ConditionFalse, v1alpha1.ReasonReconciled, "Nothing has to be mended."})
	}
}

// needsPerson returns the condition that says what a person has to do; nil if nobody has to do
// anything. A kubeconfig that could not be used for want of contact needs nobody.
func (w *connectionWriter) needsPerson() *metav1.Condition {
	conditions := w.connection.Status.Conditions
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	why := ready
	if ready != nil && ready.Reason == v1alpha1.ReasonLastKubeconfig {
		why = meta.FindStatusCondition(conditions, v1alpha1.ConditionCredentialsValid)
	}
	if why == nil || !slices.Contains(needPerson, why.Reason) {
		return nil
	}
	return ready
}

// rollUp returns the first finding that is False, else the first that is Unknown, else
// that all is well.
func rollUp(findings []finding) finding {
	for _, status := range []metav1.ConditionStatus{metav1.ConditionFalse, metav1.ConditionUnknown} {
		for _, f := range findings {
			if f.status == status {
				return f
			}
		}
	}
	if findings[0] == idles || findings[1] == idles {
		return idles
	}
	return works
}

func (w *connectionWriter) set(kind string, f finding) {
	meta.SetStatusCondition(&w.connection.Status.Conditions, metav1.Condition{
		Type: kind, Status: f.status, Reason: f.reason, Message: jobstatus.Truncate(f.message, maxWords),
		ObservedGeneration: w.connection.Generation, LastTransitionTime: w.now,
	})
}

// notice is an Event to emit.
type notice struct{ kind, reason, message string }

// transitions returns the Events for what changed of the connection.
func transitions(before, after *v1alpha1.ClusterConnection) []notice {
	var notices []notice
	if is := changed(before, after, v1alpha1.ConditionReady); is != nil {
		switch is.Reason {
		case v1alpha1.ReasonConnected:
			notices = append(notices, notice{corev1.EventTypeNormal, is.Reason, "Connected to " + after.Status.Server})
		case v1alpha1.ReasonIdle:
			notices = append(notices, notice{corev1.EventTypeNormal, is.Reason, is.Message})
		default:
			notices = append(notices, notice{corev1.EventTypeWarning, is.Reason, is.Message})
		}
	}
	is := changed(before, after, v1alpha1.ConditionCredentialsValid)
	if is != nil && (is.Reason == v1alpha1.ReasonExpiringSoon || is.Reason == v1alpha1.ReasonTokenRenewalFailed) {
		notices = append(notices, notice{corev1.EventTypeWarning, is.Reason, is.Message})
	}
	return notices
}

// changed returns a condition whose status or reason changed, unless it is not known now.
func changed(before, after *v1alpha1.ClusterConnection, kind string) *metav1.Condition {
	was := meta.FindStatusCondition(before.Status.Conditions, kind)
	is := meta.FindStatusCondition(after.Status.Conditions, kind)
	if is == nil || is.Status == metav1.ConditionUnknown || (was != nil && was.Status == is.Status && was.Reason == is.Reason) {
		return nil
	}
	return is
}
