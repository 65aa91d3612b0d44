package connect

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
)

// namespacePatience is how long to wait for the end of an empty namespace.
const namespacePatience = 30 * time.Second

// removeNamespace deletes the namespace of the ServiceAccount, if connect made it and
// nothing is in it any more: neither another connection's account nor what others put
// there.
func (l *link) removeNamespace(ctx context.Context) error {
	namespace := &corev1.Namespace{}
	err := l.target.Get(ctx, client.ObjectKey{Name: l.accountNamespace}, namespace)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return failure.Explain(err)
	case namespace.Labels[labelManagedBy] != cluster.FieldOwner || namespace.DeletionTimestamp != nil:
		return nil
	}
	content, err := l.findContent(ctx, namespace.Name)
	if err != nil {
		l.env.Sayf("The namespace %s is left on the target: it is not known whether it is empty (%v).", namespace.Name, err)
		return nil
	}
	if content != "" {
		l.env.Sayf("The namespace %s is left on the target: %s is in it.", namespace.Name, content)
		return nil
	}
	uid := namespace.UID
	if err := client.IgnoreNotFound(l.target.Delete(ctx, namespace, client.Preconditions{UID: &uid})); err != nil {
		return failure.Explain(err)
	}
	// Until it is gone nothing can be made in it again.
	err = wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, namespacePatience, true, func(ctx context.Context) (bool, error) {
		err := l.target.Get(ctx, client.ObjectKeyFromObject(namespace), namespace)
		return apierrors.IsNotFound(err), failure.UnlessItMayPass(client.IgnoreNotFound(err))
	})
	if err != nil {
		l.env.Sayf("The namespace %s is still being deleted on the target.", namespace.Name)
		return nil
	}
	_, err = fmt.Fprintf(l.env.Out, "target: Namespace %s deleted\n", namespace.Name)
	return err
}

// findContent names something in a namespace of the target that every namespace does not
// have; "" if there is nothing.
func (l *link) findContent(ctx context.Context, namespace string) (string, error) {
	kinds, err := discovery.NewDiscoveryClientForConfig(l.target.Config)
	if err != nil {
		return "", err
	}
	resources, err := metadata.NewForConfig(l.target.Config)
	if err != nil {
		return "", err
	}
	lists, err := kinds.ServerPreferredNamespacedResources()
	if err != nil {
		return "", err
	}
	for _, list := range lists {
		groupVersion, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return "", err
		}
		for i := range list.APIResources {
			kind := &list.APIResources[i]
			if !slices.Contains(kind.Verbs, "list") || kind.Name == "events" {
				continue
			}
			// Two: one is there from the start.
			found, err := resources.Resource(groupVersion.WithResource(kind.Name)).Namespace(namespace).List(ctx, metav1.ListOptions{Limit: 2})
			if err != nil {
				return "", err
			}
			if name := firstAdded(kind.Name, found); name != "" {
				return kind.Kind + " " + name, nil
			}
		}
	}
	return "", nil
}

// firstAdded returns the first object that a namespace does not have from the start.
func firstAdded(resource string, list *metav1.PartialObjectMetadataList) string {
	for i := range list.Items {
		name := list.Items[i].Name
		if (resource == "serviceaccounts" && name == "default") || (resource == "configmaps" && name == "kube-root-ca.crt") {
			continue
		}
		return name
	}
	return ""
}
