package connect

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// workRules returns the rights where Jobs run, and identityRules the right to identify clusters
// apart. Together they are those of config/target/role.yaml.
func workRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"create", "delete", "get", "list", "patch", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"delete", "list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"pods/log"}, Verbs: []string{"get"}},
		{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"list"}},
	}
}

func identityRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces"}, ResourceNames: []string{metav1.NamespaceSystem}, Verbs: []string{"get"}},
	}
}

// tokenRules let a ServiceAccount have its own token renewed, and no other's.
func tokenRules(account string) []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, ResourceNames: []string{account}, Verbs: []string{"create"}},
	}
}

// targetObjects returns what the manager's identity on the target consists of. With
// namespaces it has rights in these only.
func (l *link) targetObjects(namespaces []string) []client.Object {
	account, where := l.accountName(), l.accountNamespace
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: where, Name: account}}
	clusterRole := func(name string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}
	}
	identity, token := account+"-identity", account+"-token"
	objects := []client.Object{
		&corev1.ServiceAccount{ObjectMeta: l.objectMeta(where, account)},
		&rbacv1.ClusterRole{ObjectMeta: l.objectMeta("", account), Rules: workRules()},
		&rbacv1.ClusterRole{ObjectMeta: l.objectMeta("", identity), Rules: identityRules()},
		&rbacv1.ClusterRoleBinding{ObjectMeta: l.objectMeta("", identity), RoleRef: clusterRole(identity), Subjects: subjects},
		&rbacv1.Role{ObjectMeta: l.objectMeta(where, token), Rules: tokenRules(account)},
		&rbacv1.RoleBinding{
			ObjectMeta: l.objectMeta(where, token), Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: token},
		},
	}
	if len(namespaces) == 0 {
		return append(objects, &rbacv1.ClusterRoleBinding{ObjectMeta: l.objectMeta("", account), RoleRef: clusterRole(account), Subjects: subjects})
	}
	for _, namespace := range namespaces {
		objects = append(objects, &rbacv1.RoleBinding{ObjectMeta: l.objectMeta(namespace, account), RoleRef: clusterRole(account), Subjects: subjects})
	}
	return objects
}
