// Package hubid finds the ID of an installation, which marks all of its objects on targets.
package hubid

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/hubcache"
)

const (
	// configMap holds the hub ID, in the manager's namespace.
	configMap = "pooledjob-hub"
	idKey     = "id"
)

// +kubebuilder:rbac:groups="",namespace=pooledjob-system,resources=configmaps,verbs=get;create

// create makes a new installation. It refuses to where there was one: with a new
// ID every Job on the targets would be a stranger's, and be taken for lost.
func create(ctx context.Context, hub client.Client, pooledJobs *hubcache.Reader, config *corev1.ConfigMap) error {
	key, orphaned := client.ObjectKeyFromObject(config), ""
	err := pooledJobs.Each(ctx, func(job *v1alpha1.PooledJob) error {
		if controllerutil.ContainsFinalizer(job, v1alpha1.FinalizerPooledJob) {
			orphaned = job.Namespace + "/" + job.Name
		}
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("looking for PooledJobs of an earlier installation: %w", err)
	case orphaned != "":
		return fmt.Errorf("ConfigMap %s, which holds the hub ID, is gone, and PooledJob %s still has a remote Job: "+
			"create the ConfigMap again with key %q and the ID that the Jobs on the targets carry as label %s",
			key, orphaned, idKey, v1alpha1.LabelHub)
	}
	if err := hub.Create(ctx, config); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating ConfigMap %s, which holds the hub ID: %w", key, err)
	}
	return nil
}

// Ensure returns the ID of this installation, and makes one if there is none yet.
// It marks every remote object, so it must never change: without it the Jobs on
// the targets belong to nobody.
func Ensure(ctx context.Context, hub client.Client, pooledJobs *hubcache.Reader, namespace string) (string, error) {
	fresh := make([]byte, 8)
	if _, err := rand.Read(fresh); err != nil {
		return "", fmt.Errorf("making a hub ID: %w", err)
	}
	config := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: configMap},
		Data:       map[string]string{idKey: hex.EncodeToString(fresh)},
	}
	key := client.ObjectKeyFromObject(config)
	// Get first, so that a start needs no write; create loses to another process
	// that starts at the same time, and then its ID is ours.
	err := hub.Get(ctx, key, &corev1.ConfigMap{})
	if apierrors.IsNotFound(err) {
		if err := create(ctx, hub, pooledJobs, config); err != nil {
			return "", err
		}
	}
	if err := hub.Get(ctx, key, config); err != nil {
		return "", fmt.Errorf("reading ConfigMap %s, which holds the hub ID: %w", key, err)
	}
	return idIn(config)
}

func idIn(config *corev1.ConfigMap) (string, error) {
	id := config.Data[idKey]
	if errs := validation.IsValidLabelValue(id); id == "" || len(errs) > 0 {
		return "", fmt.Errorf("ConfigMap %s: %q must be a label value: restore the one that the Jobs on the targets carry as label pooledjob.io/hub, or delete the ConfigMap if there are none", client.ObjectKeyFromObject(config), idKey)
	}
	return id, nil
}

// hubIDPause is the wait between two looks for the hub ID.
const hubIDPause = time.Second

// Await returns the ID of this installation as soon as Ensure has made it in another process.
func Await(ctx context.Context, hub client.Client, namespace string) (string, error) {
	config := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: namespace, Name: configMap}
	for said := false; ; said = true {
		err := hub.Get(ctx, key, config)
		switch {
		case err == nil:
			return idIn(config)
		case !apierrors.IsNotFound(err):
			return "", fmt.Errorf("reading ConfigMap %s, which holds the hub ID: %w", key, err)
		}
		if !said {
			logf.FromContext(ctx).Info("Waiting for the hub ID, which the manager makes at its first start", "configMap", key.String())
		}
		select {
		case <-time.After(hubIDPause):
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for ConfigMap %s, which holds the hub ID: %w", key, ctx.Err())
		}
	}
}
