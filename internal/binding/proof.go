package binding

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// Outcome is what a look for the remote object found.
type Outcome int

// The outcomes.
const (
	// Unproven: nothing can be claimed yet.
	Unproven Outcome = iota
	// Absent: the object does not exist on its cluster, and no request of ours can
	// create it any more.
	Absent
	// Present: our object exists.
	Present
	// Duplicate: another object of ours has the name than the one that was observed: a
	// request that was late created it, or somebody who copied the first.
	Duplicate
	// Replaced: the same, but an object that is not ours has the name.
	Replaced
)

// Whose reports whose a remote object of our name is: by the UID that was observed, if one was, else by
// its labels or, should somebody have taken those off, by those of the Pods that it makes. It is Present,
// Duplicate or Replaced.
func (r Run) Whose(observed types.UID, found metav1.Object, podLabels map[string]string) Outcome {
	hub := found.GetLabels()[v1alpha1.LabelHub]
	ours := Owns(r.HubID, r.Object, found.GetLabels()) || ((hub == "" || hub == r.HubID) && Owns(r.HubID, r.Object, podLabels))
	switch {
	case found.GetUID() == observed || (observed == "" && ours):
		return Present
	case ours:
		return Duplicate
	default:
		return Replaced
	}
}

// Proof is what the absence of a remote object is proven from.
type Proof struct {
	// Look reads the object of our name from the target itself. It returns Absent if there is none, which a
	// 404 of a Kubernetes API server says and not that of a proxy, else whose it is.
	Look func(context.Context) (Outcome, error)
	// ReadClusterUID asks the target which cluster it is; without an error the UID is not empty.
	ReadClusterUID func(context.Context) (string, error)
	// ClusterUID is the UID of the cluster that the run is bound to.
	ClusterUID string
	// DeletionAccepted is true if that cluster has accepted the deletion, in the foreground, of the object that
	// was observed: there it goes with its Pods, whoever answers now.
	DeletionAccepted bool
	// InFlight is how much longer an earlier request to create the object may take effect. For a PooledJob
	// that is decision.RequestLifetime after it was sent.
	InFlight time.Duration
}

// Verdict is what a proof came to.
type Verdict struct {
	Outcome Outcome
	// OtherCluster is the UID of the cluster that answered in place of ours, and InFlight how much longer a
	// request to create the object may take effect; one of them says why it is Unproven.
	OtherCluster string
	InFlight     time.Duration
}

// Prove looks for the remote object, and makes sure which cluster says that it is not there. The error is
// that of Look or of ReadClusterUID.
func (p Proof) Prove(ctx context.Context) (Verdict, error) {
	outcome, err := p.Look(ctx)
	if err != nil || outcome == Present {
		return Verdict{Outcome: outcome}, err
	}
	if !p.DeletionAccepted {
		uid, err := p.ReadClusterUID(ctx)
		if err != nil || uid != p.ClusterUID {
			return Verdict{OtherCluster: uid}, err
		}
	}
	if outcome != Duplicate && p.InFlight > 0 {
		return Verdict{InFlight: p.InFlight}, nil
	}
	return Verdict{Outcome: outcome}, nil
}
