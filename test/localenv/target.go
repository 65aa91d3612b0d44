package localenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AddTarget starts one more target, with a node that runs Pods as they are if realNode
// is set, and prepares it as Start does: the hub has its kubeconfig in a Secret of its
// name. No ClusterConnection is made.
func (e *Env) AddTarget(ctx context.Context, realNode bool) (*Cluster, error) {
	target, err := e.startCluster(ctx, e.targetOptions(len(e.Targets)+1, realNode))
	if err != nil {
		return nil, err
	}
	if err := e.installTarget(ctx, target); err != nil {
		return nil, errors.Join(fmt.Errorf("installing on %s: %w", target.Name(), err), target.Stop())
	}
	e.Targets = append(e.Targets, target)
	return target, nil
}

// RemoveTarget stops a target that AddTarget has started, and removes its Secret and its
// folder.
func (e *Env) RemoveTarget(ctx context.Context, target *Cluster) error {
	e.Targets = slices.DeleteFunc(e.Targets, func(t *Cluster) bool { return t == target })
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: target.Name()}}
	return errors.Join(e.Hub.Client.Delete(ctx, secret), target.Stop(), os.RemoveAll(target.Dir()))
}
