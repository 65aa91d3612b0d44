package hostile

import (
	"fmt"
	"slices"
)

// Serve starts targets that attack in the ways of these names, without end, and returns their
// kubeconfigs. id is that of the hub that is attacked.
func Serve(id string, names ...string) (kubeconfigs [][]byte, stop func(), err error) {
	hubID = id
	all := append(attacks(), runAttacks()...)
	var targets []*target
	stop = func() {
		for _, t := range targets {
			t.CloseClientConnections()
			t.Close()
		}
	}
	for _, name := range names {
		at := slices.IndexFunc(all, func(a attack) bool { return a.name == name })
		if at < 0 {
			stop()
			return nil, nil, fmt.Errorf("there is no attack %q", name)
		}
		t := newTarget(all[at].begin)
		targets = append(targets, t)
		kubeconfigs = append(kubeconfigs, t.kubeconfig())
	}
	return kubeconfigs, stop, nil
}
