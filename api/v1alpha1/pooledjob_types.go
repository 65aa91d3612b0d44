package v1alpha1

import (
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PooledJob is one run of one Job on a target cluster. As with a Job, a new run
// is a new object.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=pj
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.*.clusterName`,description="Cluster that was asked for, or was chosen"
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Exit Code",type=integer,JSONPath=`.status.result.exitCode`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Dispatched",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Dispatched")].reason`
// +kubebuilder:printcolumn:name="Failed",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Failed")].reason`
// +kubebuilder:printcolumn:name="Target Namespace",type=string,priority=1,JSONPath=`.status.jobRef.namespace`,description="Namespace on the target cluster"
// +kubebuilder:printcolumn:name="Target Job",type=string,priority=1,JSONPath=`.status.jobRef.name`,description="Job on the target cluster"
type PooledJob struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec says what to run, and where. It cannot be changed once created,
	// except for suspend, cancel, ttlSecondsAfterFinished and deletionPolicy.
	// +required
	Spec PooledJobSpec `json:"spec,omitzero"`

	// status is how the run goes. Until the manager has seen the PooledJob it is
	// Pending, with observedGeneration -1.
	// +optional
	// +default={"observedGeneration":-1,"phase":"Pending"}
	Status PooledJobStatus `json:"status,omitzero"`
}

// PooledJobList is a list of PooledJobs.
//
// +kubebuilder:object:root=true
type PooledJobList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []PooledJob `json:"items"`
}

// DeletionPolicy says what happens to the remote Job when its PooledJob is
// deleted.
//
// +kubebuilder:validation:Enum=Delete;Orphan
type DeletionPolicy string

const (
	// DeletionPolicyDelete deletes the remote Job and its Pods; the PooledJob
	// goes when they are proven gone.
	DeletionPolicyDelete DeletionPolicy = "Delete"
	// DeletionPolicyOrphan leaves the remote Job and its Pods to themselves: the
	// label that makes the Job ours is taken off, nothing else.
	DeletionPolicyOrphan DeletionPolicy = "Orphan"
)

// PooledJobSpec says what to run, and where.
//
// +kubebuilder:validation:ExactlyOneOf=clusterName;clusterSelector
// +kubebuilder:validation:XValidation:rule="has(self.clusterName) == has(oldSelf.clusterName)",message="spec.clusterName and spec.clusterSelector cannot be exchanged; a new run is a new PooledJob"
// +kubebuilder:validation:XValidation:rule="has(self.targetNamespace) == has(oldSelf.targetNamespace)",message="spec.targetNamespace cannot be added or removed; a new run is a new PooledJob"
// +kubebuilder:validation:XValidation:rule="has(self.failover) == has(oldSelf.failover)",message="spec.failover cannot be added or removed; a new run is a new PooledJob"
// +kubebuilder:validation:XValidation:rule="has(self.dispatchDeadlineSeconds) == has(oldSelf.dispatchDeadlineSeconds)",message="spec.dispatchDeadlineSeconds cannot be added or removed; a new run is a new PooledJob"
// +kubebuilder:validation:XValidation:rule="!has(self.failover) || has(self.clusterSelector)",message="spec.failover needs spec.clusterSelector: with spec.clusterName there is no other cluster"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)",message="spec.cancel cannot be taken back; a new run is a new PooledJob"
type PooledJobSpec struct {
	// clusterName names the ClusterConnection of the cluster to run on. Exactly
	// one of clusterName and clusterSelector is set.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.clusterName cannot be changed; a new run is a new PooledJob"
	ClusterName string `json:"clusterName,omitempty"`

	// clusterSelector selects ClusterConnections by their labels; {} selects
	// all. Of those that are Ready and open to the PooledJob the one with the
	// fewest unfinished PooledJobs is taken, of equals the first by name. The
	// choice is made once; see failover.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.clusterSelector cannot be changed; a new run is a new PooledJob"
	ClusterSelector *LabelSelector `json:"clusterSelector,omitempty"`

	// failover lets a run be moved to another cluster of clusterSelector. Without
	// it a run stays with the cluster that it is bound to.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.failover cannot be changed; a new run is a new PooledJob"
	Failover Failover `json:"failover,omitzero"`

	// targetNamespace is the namespace on the target cluster. It must exist
	// there. Defaults to the PooledJob's own namespace.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="spec.targetNamespace must be a namespace name: lower case letters, digits and '-', at most 63"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.targetNamespace cannot be changed; a new run is a new PooledJob"
	TargetNamespace string `json:"targetNamespace,omitempty"`

	// suspend suspends the remote Job if it is true: the Pods stop, and the timer of the
	// deadline pauses. A change resumes or suspends the remote Job. If it is not set, the
	// remote Job is not suspended by PooledJob, and one that is suspended on the target
	// stays so. May be changed at any time.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`

	// cancel stops the run, if it is true, and keeps the object: the Pods are
	// stopped, and the run ends Failed with reason Cancelled, unless it ended by
	// itself before. It cannot be taken back.
	// +optional
	Cancel *bool `json:"cancel,omitempty"`

	// ttlSecondsAfterFinished deletes the PooledJob, and with it the remote Job
	// as deletionPolicy says, so many seconds after the run has ended; 0 is at
	// once. Without it they stay. May be changed at any time.
	// +optional
	// +kubebuilder:validation:Minimum=0
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`

	// deletionPolicy says what happens to the remote Job when the PooledJob is
	// deleted: Delete or Orphan. Defaults to Delete. May be changed at any time.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// dispatchDeadlineSeconds is how long after the PooledJob's creation its
	// remote Job must exist, in seconds. If it does not, the run ends Failed with
	// reason DispatchDeadlineExceeded. Without it the run waits for ever.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=31536000
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.dispatchDeadlineSeconds cannot be changed; a new run is a new PooledJob"
	DispatchDeadlineSeconds int32 `json:"dispatchDeadlineSeconds,omitempty"`

	// template is the Job to create, as in a CronJob. The target's API server
	// checks it; labels and annotations of its metadata go on the Job.
	//
	// What is asked of it is checked when it is created. Later it cannot change, and each
	// write of a status would pay for the walk through the Pod's many fields again.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.template cannot be changed; a new run is a new PooledJob"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || has(self.spec)",optionalOldSelf=true,message="spec.template.spec is required: it is the spec of a batch/v1 Job"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.spec) || !has(self.spec.ttlSecondsAfterFinished)",optionalOldSelf=true,message="spec.template.spec.ttlSecondsAfterFinished must not be set: the Job could be collected before its result was seen; set spec.ttlSecondsAfterFinished"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.spec) || !has(self.spec.suspend)",optionalOldSelf=true,message="spec.template.spec.suspend must not be set: set spec.suspend"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.spec) || !has(self.spec.managedBy)",optionalOldSelf=true,message="spec.template.spec.managedBy must not be set: the target's own Job controller runs the Job"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.spec) || !has(self.spec.selector)",optionalOldSelf=true,message="spec.template.spec.selector must not be set: the target's API server makes it"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.spec) || !has(self.spec.manualSelector)",optionalOldSelf=true,message="spec.template.spec.manualSelector must not be set: the target's API server makes the selector"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.spec) || (has(self.spec.template.spec) && has(self.spec.template.spec.restartPolicy) && self.spec.template.spec.restartPolicy in ['Never', 'OnFailure'])",optionalOldSelf=true,message="spec.template.spec.template.spec.restartPolicy must be Never or OnFailure"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.metadata) || (!has(self.metadata.name) && !has(self.metadata.namespace) && !has(self.metadata.finalizers))",optionalOldSelf=true,message="spec.template.metadata may hold labels and annotations only: the Job's name is made, and its namespace is spec.targetNamespace"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.metadata) || !has(self.metadata.labels) || self.metadata.labels.all(k, !k.startsWith('pooledjob.io/'))",optionalOldSelf=true,message="spec.template.metadata.labels must not use pooledjob.io/: these labels mark whose Job it is"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.spec) || !has(self.spec.template.metadata) || !has(self.spec.template.metadata.labels) || self.spec.template.metadata.labels.all(k, !k.startsWith('pooledjob.io/'))",optionalOldSelf=true,message="spec.template.spec.template.metadata.labels must not use pooledjob.io/: these labels mark whose Pods they are"
	Template *batchv1.JobTemplateSpec `json:"template,omitempty"`
}

// Failover says when a run may be moved to another cluster.
//
// A run whose Job cannot exist on its cluster is moved when the cluster was not Ready
// for afterSeconds. One whose Job may exist there, or may have, is moved only when the
// Job was seen to be deleted before it had started, or when a person states, by the
// annotation pooledjob.io/fenced on the ClusterConnection, that nothing runs there any
// more and that an end there which nobody saw does not count. Time alone never decides.
type Failover struct {
	// afterSeconds is how long the cluster must not have been Ready, in seconds.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=31536000
	AfterSeconds int32 `json:"afterSeconds,omitempty"`
}

// PooledJobPhase is the state of a run in one word. It is derived from the
// conditions, which say more.
//
// +kubebuilder:validation:Enum=Pending;Running;Suspended;Succeeded;Failed
type PooledJobPhase string

const (
	// PooledJobPending means that no Pod of the remote Job has started yet.
	PooledJobPending PooledJobPhase = "Pending"
	// PooledJobRunning means that a Pod of the remote Job has started.
	PooledJobRunning PooledJobPhase = "Running"
	// PooledJobSuspended means that the remote Job is suspended.
	PooledJobSuspended PooledJobPhase = "Suspended"
	// PooledJobSucceeded means that condition Complete is True. Final.
	PooledJobSucceeded PooledJobPhase = "Succeeded"
	// PooledJobFailed means that condition Failed is True. Final.
	PooledJobFailed PooledJobPhase = "Failed"
)

// PooledJobStatus is how a run goes.
//
// +kubebuilder:validation:MinProperties=1
type PooledJobStatus struct {
	// conditions are Accepted, Dispatched, Synced, for a run that was suspended
	// Suspended, for one that had to wait Reconciling, and in the end Complete, or
	// Failed and Stalled. None is taken off again.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the metadata.generation that the status is up to date
	// with; -1 before the manager has seen the PooledJob. A deletion is not counted.
	// +optional
	// +kubebuilder:validation:Minimum=-1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase is Pending, Running, Suspended, Succeeded or Failed.
	// +optional
	Phase PooledJobPhase `json:"phase,omitempty"`

	// reason is why the run is as it is, in one word: what keeps it from its Job or
	// its Pods from running, why the status may be out of date, or how it ended. It
	// is derived with the phase, from the conditions and the result, which say more.
	// Before the run has ended any other reason comes before Created and Started.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`

	// clusterName is the ClusterConnection that the run is bound to.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClusterName string `json:"clusterName,omitempty"`

	// clusterUID is the UID of the kube-system namespace of the cluster that the
	// run is bound to. Another cluster behind the same ClusterConnection decides
	// nothing about the run.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	ClusterUID string `json:"clusterUID,omitempty"`

	// attempt counts how often the run was moved to another cluster; absent when
	// it never was.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Attempt int32 `json:"attempt,omitempty"`

	// jobRef is the remote Job.
	// +optional
	JobRef JobReference `json:"jobRef,omitzero"`

	// unansweredRequestTime is when the last request to create the remote Job ended
	// whose answer was lost, or may have been; absent if none was. For 75 seconds it may
	// still take effect, and the name of the Job is not given free.
	// +optional
	UnansweredRequestTime *metav1.Time `json:"unansweredRequestTime,omitempty"`

	// active is the number of Pods that are pending or running. While nothing
	// else changes, the counters are refreshed at most every 10 seconds.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Active *int32 `json:"active,omitempty"`

	// ready is the number of active Pods that are ready.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Ready *int32 `json:"ready,omitempty"`

	// succeeded is the number of Pods that succeeded.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Succeeded *int32 `json:"succeeded,omitempty"`

	// failed is the number of Pods that failed.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Failed *int32 `json:"failed,omitempty"`

	// completedIndexes are the indexes of an Indexed Job that completed, as the
	// Job has them, such as "1,3-5,7". A list of more than 16384 bytes is cut
	// after a comma and ends with "...".
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16384
	CompletedIndexes string `json:"completedIndexes,omitempty"`

	// failedIndexes are the indexes that failed, in the same form. A Job counts
	// them when it has backoffLimitPerIndex.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16384
	FailedIndexes string `json:"failedIndexes,omitempty"`

	// startTime is when the target's Job controller started the Job, or resumed
	// it, by the target's clock.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when the Job completed or failed, by the target's clock.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// result is how the container that speaks for the run ended or, before that,
	// what keeps a Pod of the run from running.
	// +optional
	Result Result `json:"result,omitzero"`
}

// JobReference names a Job on a target cluster.
//
// +kubebuilder:validation:MinProperties=1
type JobReference struct {
	// namespace of the Job on the target.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`

	// name of the Job on the target.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// uid of the Job on the target; empty until the Job was seen.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	UID string `json:"uid,omitempty"`
}

// Result is how a container ended, or what it waits for.
//
// +kubebuilder:validation:MinProperties=1
type Result struct {
	// exitCode is the container's exit code. It is absent when it is not known.
	// +optional
	ExitCode *int32 `json:"exitCode,omitempty"`

	// reason is the container's or the Pod's own reason (Completed, Error,
	// OOMKilled, Evicted, ...), that of what disrupted the Pod
	// (EvictionByEvictionAPI, ...), DeadlineExceeded or Cancelled for what was
	// stopped, PodGone when the Pod that decided is gone, or Ambiguous when it
	// is not known which of several Pods decided.
	// While the run has not ended it is why a Pod does not run (ImagePullBackOff,
	// Unschedulable, CreateContainerConfigError, ...) or cannot be made (FailedCreate,
	// ...), or ContainerEnded, and there is no exit code.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Reason string `json:"reason,omitempty"`

	// message is what the target says of a Pod that does not run, or the
	// container's termination message: what it wrote to its
	// termination message file or, when it failed, the last lines of its log.
	// At most 4096 bytes, the kubelet's own limit.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Message string `json:"message,omitempty"`

	// podName is the Pod that speaks for the run.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	PodName string `json:"podName,omitempty"`
}
