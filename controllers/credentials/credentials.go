// Package credentials reads the kubeconfigs of ClusterConnections from their Secrets, and swaps the tokens
// in them.
package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/kubeconfig"
)

// defaultKey is spec.kubeconfigSecretRef.key when it is left out.
const defaultKey = "kubeconfig"

// ErrChanged is the error of who writes to a Secret that is not as it was read.
var ErrChanged = errors.New("somebody else has changed the Secret")

// Source is a kubeconfig's identity and where it is from.
type Source struct {
	Secret   *corev1.Secret
	Key      string
	Identity kubeconfig.Identity
}

// Read reads the kubeconfig of a ClusterConnection from its Secret in the manager's namespace. An
// error with a reason, which is one of a condition, is for the user to mend; one without may pass.
func Read(ctx context.Context, hub client.Reader, namespace string, connection *v1alpha1.ClusterConnection) (source Source, reason string, err error) {
	ref := connection.Spec.KubeconfigSecretRef
	source = Source{Secret: &corev1.Secret{}, Key: cmp.Or(ref.Key, defaultKey)}
	err = hub.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, source.Secret)
	if apierrors.IsNotFound(err) {
		return source, v1alpha1.ReasonSecretNotFound,
			fmt.Errorf("Secret %s/%s does not exist; create it with the kubeconfig under key %q", namespace, ref.Name, source.Key)
	}
	if err != nil {
		return source, "", fmt.Errorf("reading the kubeconfig Secret: %w", err)
	}
	data, ok := source.Secret.Data[source.Key]
	if !ok {
		return source, v1alpha1.ReasonSecretNotFound,
			fmt.Errorf("Secret %s/%s has no key %q; put the kubeconfig there", namespace, ref.Name, source.Key)
	}
	source.Identity, err = kubeconfig.Parse(data)
	if err != nil {
		return source, v1alpha1.ReasonInvalidKubeconfig,
			fmt.Errorf("Secret %s/%s, key %q: %w", namespace, ref.Name, source.Key, err)
	}
	return source, "", nil
}

// ReplaceToken puts a token into the Secret that the other one was read from. The error is
// ErrChanged if the Secret was changed since, or is gone.
func ReplaceToken(ctx context.Context, hub client.Writer, source Source, token string) error {
	data, err := kubeconfig.ReplaceToken(source.Secret.Data[source.Key], token)
	if err != nil {
		return fmt.Errorf("the token that the target gave: %w", err)
	}
	changed := source.Secret.DeepCopy()
	changed.Data[source.Key] = data
	// client-go logs what it sends, at a high level, if the context has a logger.
	err = hub.Patch(logr.NewContext(ctx, logr.Discard()), changed, client.MergeFromWithOptions(source.Secret, client.MergeFromWithOptimisticLock{}))
	switch {
	case err == nil:
		return nil
	case apierrors.IsConflict(err) || apierrors.IsNotFound(err):
		return ErrChanged
	}
	// The words of whoever refuses it may quote what is refused.
	return fmt.Errorf("the hub does not take the new token into Secret %s (%s); look at the manager's Role and at the hub's admission policies",
		source.Secret.Name, cmp.Or(apierrors.ReasonForError(err), "no answer"))
}

// Connpool returns an identity as the pool takes it.
func Connpool(identity kubeconfig.Identity) connpool.Identity {
	return connpool.Identity{
		Server:        identity.Server,
		TLSServerName: identity.TLSServerName,
		CAData:        identity.CAData,
		CertData:      identity.CertData,
		KeyData:       identity.KeyData,
		Token:         identity.Token,
	}
}
