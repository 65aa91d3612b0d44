package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterConnection is a connection to one target cluster. The manager keeps it
// open, and runs PooledJobs there for the hub namespaces that spec.access names.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=cc
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Server",type=string,JSONPath=`.status.server`
// +kubebuilder:printcolumn:name="Jobs",type=integer,JSONPath=`.status.jobs.active`,description="Unfinished PooledJobs whose remote Job exists"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Version",type=string,priority=1,JSONPath=`.status.kubernetesVersion`
// +kubebuilder:printcolumn:name="Expires",type=string,priority=1,JSONPath=`.status.credentialsExpireAt`,description="When the credential in use expires"
type ClusterConnection struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec says how to reach the target and who may use it.
	// +required
	Spec ClusterConnectionSpec `json:"spec,omitzero"`

	// status is what the manager knows of the target. Until the manager has seen
	// the ClusterConnection its observedGeneration is -1.
	// +optional
	// +default={"observedGeneration":-1}
	Status ClusterConnectionStatus `json:"status,omitzero"`
}

// ClusterConnectionList is a list of ClusterConnections.
//
// +kubebuilder:object:root=true
type ClusterConnectionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []ClusterConnection `json:"items"`
}

// ClusterConnectionSpec says how to reach a target and who may use it.
//
// +kubebuilder:validation:XValidation:rule="!has(self.namespaces) || !has(self.access) || self.access.all(rule, !has(rule.targetNamespaces.names) || rule.targetNamespaces.names.all(name, name in self.namespaces))",message="spec.access[].targetNamespaces.names must be among spec.namespaces: no other namespace is watched"
type ClusterConnectionSpec struct {
	// kubeconfigSecretRef names the Secret that holds the target's kubeconfig,
	// in the manager's own namespace. The kubeconfig may do nothing but name a
	// server, a CA and an identity; see docs/clusterconnection.md.
	// +required
	KubeconfigSecretRef SecretKeyReference `json:"kubeconfigSecretRef,omitzero"`

	// access lists which hub namespaces may send Jobs to which namespaces of
	// the target. A run is permitted when one rule permits it. Without any
	// rule nobody may use the connection.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Access []AccessRule `json:"access,omitempty"`

	// namespaces are those of the target that the identity may see, when it
	// may not see all: Jobs and Pods are watched in each of them alone, and
	// PooledJobs can only run there. Left out, they are watched in all
	// namespaces at once, which needs the right to list and watch them
	// cluster-wide.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=50
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespaces []string `json:"namespaces,omitempty"`

	// idleTimeoutSeconds closes the connection after so many seconds without an
	// unfinished PooledJob; the next one opens it again. 0 is never. Defaults
	// to 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2592000
	IdleTimeoutSeconds *int32 `json:"idleTimeoutSeconds,omitempty"`

	// maxInFlight bounds the requests to the target that are under way at once,
	// without watches. Defaults to the manager's --target-max-in-flight.
	// ClusterConnections that share a connection (see status.identityHash)
	// share the smallest of their bounds. At most 90: with two watches and a
	// probe that stays below the 100 streams that an API server allows on one
	// HTTP/2 connection; the 101st would open a second. Each of
	// spec.namespaces has two watches of its own.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=90
	MaxInFlight int32 `json:"maxInFlight,omitempty"`

	// qps bounds the requests to the target per second, without watches and
	// probes; as many may come at once as in one second. Defaults to the
	// manager's --target-qps, which is no bound unless it is set. Shared as
	// maxInFlight is.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	QPS int32 `json:"qps,omitempty"`

	// tokenRenewal has the manager replace the kubeconfig's token by a new one
	// of the same ServiceAccount, in the same Secret, long before it expires. The
	// ServiceAccount must be allowed to create tokens of itself; see
	// docs/clusterconnection.md. Left out, the manager never writes to the Secret.
	// +optional
	TokenRenewal TokenRenewal `json:"tokenRenewal,omitzero"`
}

// TokenRenewal says how a ServiceAccount's token is renewed.
type TokenRenewal struct {
	// lifetimeSeconds is the lifetime that is asked for; the target may give
	// less. A token is replaced when half of its life has passed.
	// +required
	// +kubebuilder:validation:Minimum=600
	// +kubebuilder:validation:Maximum=31536000
	LifetimeSeconds int32 `json:"lifetimeSeconds,omitempty"`
}

// SecretKeyReference names a key of a Secret in the manager's namespace.
type SecretKeyReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// key within the Secret's data. Defaults to "kubeconfig".
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// AccessRule opens namespaces of the target to namespaces of the hub.
type AccessRule struct {
	// hubNamespaces selects hub namespaces by their labels; {} selects all.
	// Select one by name with the label kubernetes.io/metadata.name, which the
	// API server sets.
	// +required
	HubNamespaces *LabelSelector `json:"hubNamespaces,omitempty"`

	// targetNamespaces says which namespaces of the target the selected hub
	// namespaces may use.
	// +required
	TargetNamespaces TargetNamespaces `json:"targetNamespaces,omitzero"`
}

// TargetNamespaces is a set of namespaces of the target: exactly one of its
// fields is set.
//
// +kubebuilder:validation:ExactlyOneOf=same;names
type TargetNamespaces struct {
	// same stands, when true, for the namespace of the same name as the hub
	// namespace.
	// +optional
	// +kubebuilder:validation:Enum=true
	Same *bool `json:"same,omitempty"`

	// names lists namespaces of the target.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Names []string `json:"names,omitempty"`
}

// ClusterConnectionStatus is what the manager knows of a target.
//
// +kubebuilder:validation:MinProperties=1
type ClusterConnectionStatus struct {
	// conditions are Ready, CredentialsValid, Reachable, Authorized, Synced, and for
	// a connection that a person had to mend Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the metadata.generation that the status is up to date
	// with; -1 before the manager has seen the ClusterConnection.
	// +optional
	// +kubebuilder:validation:Minimum=-1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// server is the address of the target's API server.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	Server string `json:"server,omitempty"`

	// kubernetesVersion is the version that the target reported.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`

	// clusterUID is the UID of the target's kube-system namespace at the first
	// contact, or the one that a person has confirmed since (annotation
	// pooledjob.io/confirm-cluster-uid). It distinguishes one cluster from another
	// behind the same address.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	ClusterUID string `json:"clusterUID,omitempty"`

	// identityHash is the hash of what the kubeconfig in use says.
	// ClusterConnections with the same hash share one connection.
	// +optional
	// +kubebuilder:validation:MinLength=71
	// +kubebuilder:validation:MaxLength=71
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	IdentityHash string `json:"identityHash,omitempty"`

	// credentialsExpireAt is when the credential in use expires: the earlier of
	// the client certificate's end and the token's own exp claim. Absent when
	// neither has an end.
	// +optional
	CredentialsExpireAt *metav1.Time `json:"credentialsExpireAt,omitempty"`

	// jobs counts the unfinished PooledJobs of this connection. It is
	// refreshed at most every 30 seconds.
	// +optional
	Jobs JobCounts `json:"jobs,omitzero"`
}

// JobCounts counts unfinished PooledJobs.
//
// +kubebuilder:validation:MinProperties=1
type JobCounts struct {
	// pending counts those without a remote Job.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Pending *int32 `json:"pending,omitempty"`

	// active counts those with a remote Job.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Active *int32 `json:"active,omitempty"`
}
