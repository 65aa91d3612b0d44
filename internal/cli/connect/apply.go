package connect

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
)

// strict has a server refuse a field that it does not know, as older CRDs do, instead of
// leaving it out.
const strict = client.FieldValidation(metav1.FieldValidationStrict)

// checkAccepted has a server check an object, and changes nothing.
func (l *link) checkAccepted(ctx context.Context, c *cluster.Client, wanted client.Object) error {
	existing, ok := wanted.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is no object", wanted)
	}
	err := c.Get(ctx, client.ObjectKeyFromObject(wanted), existing)
	switch {
	case apierrors.IsNotFound(err):
		if existing, ok = wanted.DeepCopyObject().(client.Object); !ok {
			break
		}
		err = c.Create(ctx, existing, client.FieldOwner(cluster.FieldOwner), strict, client.DryRunAll)
	case err == nil:
		copyWanted(existing, wanted)
		err = c.Update(ctx, existing, client.FieldOwner(cluster.FieldOwner), strict, client.DryRunAll)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", l.kindOf(wanted), nameOfObject(wanted), failure.Explain(err))
	}
	return nil
}

// refuseForeign refuses objects that are there and were not made for this connection. It
// comes before anything is changed.
func (l *link) refuseForeign(ctx context.Context, c *cluster.Client, objects []client.Object) error {
	for _, obj := range objects {
		existing, ok := obj.DeepCopyObject().(client.Object)
		if !ok {
			continue
		}
		err := c.Get(ctx, client.ObjectKeyFromObject(obj), existing)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return failure.Explain(err)
		case !l.isOurs(existing):
			return fmt.Errorf("%s %s exists and was not made by `kubectl pooledjob connect` for this connection of this hub: take another name, or delete it if nobody needs it",
				l.kindOf(obj), nameOfObject(obj))
		}
	}
	return nil
}

// apply makes an object as it is wanted, and says what it did.
func (l *link) apply(ctx context.Context, c *cluster.Client, wanted client.Object) error {
	existing, ok := wanted.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is no object", wanted)
	}
	done := "unchanged"
	err := c.Get(ctx, client.ObjectKeyFromObject(wanted), existing)
	switch {
	case apierrors.IsNotFound(err):
		done, err = "created", c.Create(ctx, wanted, client.FieldOwner(cluster.FieldOwner), strict)
	case err != nil:
	case !l.isOurs(existing):
		return l.refuseForeign(ctx, c, []client.Object{wanted})
	default:
		before := existing.DeepCopyObject()
		copyWanted(existing, wanted)
		if !equality.Semantic.DeepEqual(before, existing) {
			done, err = "configured", c.Update(ctx, existing, client.FieldOwner(cluster.FieldOwner), strict)
		}
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", l.kindOf(wanted), nameOfObject(wanted), failure.Explain(err))
	}
	_, err = fmt.Fprintf(l.env.Out, "%s: %s %s %s\n", l.sideOf(c), l.kindOf(wanted), nameOfObject(wanted), done)
	return err
}

// copyWanted gives an existing object what is wanted of it, and leaves the rest. (Server-side apply
// would leave in a spec what a person has put there and what is not wanted any more.)
func copyWanted(existing, wanted client.Object) {
	labels := maps.Clone(existing.GetLabels())
	maps.Copy(labels, wanted.GetLabels())
	existing.SetLabels(labels)
	switch e := existing.(type) {
	case *rbacv1.ClusterRole:
		if w, ok := wanted.(*rbacv1.ClusterRole); ok {
			e.Rules = w.Rules
		}
	case *rbacv1.Role:
		if w, ok := wanted.(*rbacv1.Role); ok {
			e.Rules = w.Rules
		}
	case *rbacv1.ClusterRoleBinding:
		if w, ok := wanted.(*rbacv1.ClusterRoleBinding); ok {
			e.Subjects = w.Subjects
		}
	case *rbacv1.RoleBinding:
		if w, ok := wanted.(*rbacv1.RoleBinding); ok {
			e.Subjects = w.Subjects
		}
	case *corev1.Secret:
		if w, ok := wanted.(*corev1.Secret); ok {
			e.Data = w.Data
		}
	case *v1alpha1.ClusterConnection:
		if w, ok := wanted.(*v1alpha1.ClusterConnection); ok {
			e.Spec = w.Spec
		}
	}
}

// sideOf names the cluster that an object is on.
func (l *link) sideOf(c *cluster.Client) string {
	if c == l.target {
		return "target"
	}
	return "hub"
}

func nameOfObject(obj client.Object) string {
	if obj.GetNamespace() == "" {
		return obj.GetName()
	}
	return obj.GetNamespace() + "/" + obj.GetName()
}

// remove deletes an object if connect made it, and says so.
func (l *link) remove(ctx context.Context, c *cluster.Client, obj client.Object) error {
	if !l.isOurs(obj) {
		return nil
	}
	uid := obj.GetUID()
	err := c.Delete(ctx, obj, client.Preconditions{UID: &uid})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", l.kindOf(obj), nameOfObject(obj), failure.Explain(err))
	}
	_, err = fmt.Fprintf(l.env.Out, "%s: %s %s deleted\n", l.sideOf(c), l.kindOf(obj), nameOfObject(obj))
	return err
}
