package binding

import (
	"context"
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// What cannot be known by its UID is ours by its labels or those of its Pods, unless it
// says that it belongs to another hub.
func TestWhose(t *testing.T) {
	run := Run{HubID: "hub", Object: object("run")}
	ours, theirs := Labels("hub", run.Object), Labels("another", run.Object)
	onlyHub := map[string]string{v1alpha1.LabelHub: "hub"}
	tests := map[string]struct {
		observed   types.UID
		labels     map[string]string
		podsLabels map[string]string
		want       Outcome
	}{
		"labelled":                    {"", ours, ours, Present},
		"labels taken off":            {"", nil, ours, Present},
		"one label taken off":         {"", onlyHub, ours, Present},
		"a stranger's":                {"", nil, nil, Replaced},
		"another hub's, copied":       {"", theirs, ours, Replaced},
		"observed, labels taken off":  {"job", nil, nil, Present},
		"observed, another":           {"other", ours, ours, Duplicate},
		"observed, another, stripped": {"other", nil, ours, Duplicate},
		"observed, a stranger's":      {"other", nil, nil, Replaced},
		"observed, another hub's":     {"other", theirs, ours, Replaced},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			found := &metav1.ObjectMeta{UID: "job", Labels: test.labels}
			if got := run.Whose(test.observed, found, test.podsLabels); got != test.want {
				t.Errorf("Whose = %d, want %d", got, test.want)
			}
		})
	}
}

func TestProve(t *testing.T) {
	errAway := errors.New("away")
	tests := map[string]struct {
		looks    Outcome
		lookErr  error
		answers  string // the UID of the cluster; empty if nobody answers
		accepted bool
		inFlight time.Duration
		want     Verdict
		err      error
	}{
		"there":                                      {looks: Present, inFlight: time.Minute, want: Verdict{Outcome: Present}},
		"cannot be looked for":                       {lookErr: errAway, err: errAway},
		"not there":                                  {looks: Absent, answers: "ours", want: Verdict{Outcome: Absent}},
		"not there, by another cluster":              {looks: Absent, answers: "theirs", want: Verdict{OtherCluster: "theirs"}},
		"not there, and nobody says where":           {looks: Absent, err: errAway},
		"not there, a request is in flight":          {looks: Absent, answers: "ours", inFlight: time.Minute, want: Verdict{InFlight: time.Minute}},
		"a stranger's":                               {looks: Replaced, answers: "ours", want: Verdict{Outcome: Replaced}},
		"a stranger's, a request is in flight":       {looks: Replaced, answers: "ours", inFlight: time.Minute, want: Verdict{InFlight: time.Minute}},
		"a stranger's, on another cluster":           {looks: Replaced, answers: "theirs", want: Verdict{OtherCluster: "theirs"}},
		"another of ours, which no request can make": {looks: Duplicate, answers: "ours", inFlight: time.Minute, want: Verdict{Outcome: Duplicate}},
		"another of ours, on another cluster":        {looks: Duplicate, answers: "theirs", want: Verdict{OtherCluster: "theirs"}},
		"deletion was accepted, whoever answers":     {looks: Absent, accepted: true, want: Verdict{Outcome: Absent}},
		"deletion was accepted, request in flight":   {looks: Absent, accepted: true, inFlight: 1, want: Verdict{InFlight: 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Proof{
				Look: func(context.Context) (Outcome, error) { return test.looks, test.lookErr },
				ReadClusterUID: func(context.Context) (string, error) {
					if test.answers == "" {
						return "", errAway
					}
					return test.answers, nil
				},
				ClusterUID: "ours", DeletionAccepted: test.accepted, InFlight: test.inFlight,
			}.Prove(t.Context())
			if got != test.want || !errors.Is(err, test.err) || (err != nil) != (test.err != nil) {
				t.Errorf("Prove = %+v, %v; want %+v, %v", got, err, test.want, test.err)
			}
		})
	}
}
