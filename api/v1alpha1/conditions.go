package v1alpha1

// Condition types that PooledJobs and ClusterConnections have for tools that do not know them:
// kstatus, and what uses it (Flux, kpt, Config Sync). See
// https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus.
const (
	// ConditionReconciling is True while a PooledJob is not what was asked for yet: it
	// has no remote Job, its cluster is away, it is being cancelled or suspended, or the target
	// refused a change. Its reason and message are those of what it waits for. It is
	// absent if the run never had to wait.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when somebody has to do something: on a PooledJob when
	// the run failed, on a ClusterConnection when only a person can mend it. Its
	// reason and message say what. It is absent if it never was True.
	ConditionStalled = "Stalled"
)

// Condition types of a ClusterConnection.
const (
	// ConditionReady is True when Jobs can be sent to the target and their
	// status comes back. It sums up the other conditions: when it is not True
	// its reason and message are those of the first one that is not. It may be
	// True while CredentialsValid is False: with reason LastKubeconfig, when
	// the connection goes on with an earlier kubeconfig.
	ConditionReady = "Ready"
	// ConditionCredentialsValid is True when the kubeconfig could be used and
	// the target accepted its credentials.
	ConditionCredentialsValid = "CredentialsValid"
	// ConditionReachable is True when the target answers.
	ConditionReachable = "Reachable"
	// ConditionAuthorized is True when the target lets the identity see what
	// the manager has to watch.
	ConditionAuthorized = "Authorized"
	// ConditionSynced is True when the manager's view of the target is
	// complete and kept up to date. PooledJobs have it too: there it is True
	// while their cluster's is, Unknown, with the time of the last contact,
	// while it is not, and False after the run was moved, while it has no Job.
	ConditionSynced = "Synced"
)

// Condition types of a PooledJob.
const (
	// ConditionAccepted is True when the ClusterConnection exists and its
	// access rules let this PooledJob's namespace use the target namespace.
	ConditionAccepted = "Accepted"
	// ConditionDispatched is True when the remote Job exists or has existed.
	ConditionDispatched = "Dispatched"
	// ConditionComplete is True when the remote Job completed. It is final.
	ConditionComplete = "Complete"
	// ConditionFailed is True when the run failed. It is final.
	ConditionFailed = "Failed"
	// ConditionSuspended is True while the remote Job is suspended; absent if it
	// never was.
	ConditionSuspended = "Suspended"
	// ConditionDeleting is True when the PooledJob is being deleted and has to
	// wait; its reason says for what. It says nothing about the run.
	ConditionDeleting = "Deleting"
)

// Reasons of a ClusterConnection's conditions.
const (
	// ReasonConnected surfaces on every condition of a connection that works.
	ReasonConnected = "Connected"
	// ReasonConnecting surfaces while the first contact is under way.
	ReasonConnecting = "Connecting"
	// ReasonSecretNotFound surfaces when the kubeconfig Secret, or the key in
	// it, does not exist in the manager's namespace.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonInvalidKubeconfig surfaces when the kubeconfig cannot be read or
	// asks for something that is not allowed; the message names the field.
	ReasonInvalidKubeconfig = "InvalidKubeconfig"
	// ReasonCredentialsRejected surfaces when the target answers 401.
	ReasonCredentialsRejected = "CredentialsRejected"
	// ReasonUnreachable surfaces when the target does not answer, or does not
	// answer as a Kubernetes API server would.
	ReasonUnreachable = "Unreachable"
	// ReasonForbidden surfaces when the target denies a right that is needed:
	// on a ClusterConnection one that is needed to watch, on a PooledJob the
	// one to create the Job. The message is the target's own.
	ReasonForbidden = "Forbidden"
	// ReasonIdentityChanged surfaces when another cluster answers at the
	// address than the one that was first seen there. Nothing is sent to it.
	ReasonIdentityChanged = "IdentityChanged"
	// ReasonNotConnected surfaces on conditions that cannot be known without a
	// connection.
	ReasonNotConnected = "NotConnected"
	// ReasonIdle surfaces on every condition, with status True, when the
	// connection is closed because there was no unfinished PooledJob for
	// spec.idleTimeoutSeconds. The next one opens it.
	ReasonIdle = "Idle"
	// ReasonExpiringSoon surfaces on CredentialsValid, which stays True, when
	// the credential in use expires soon (flag --credential-expiry-warning). The
	// message says when. A token that spec.tokenRenewal applies to must also have
	// outlived three quarters of its life.
	ReasonExpiringSoon = "ExpiringSoon"
	// ReasonTokenRenewalFailed surfaces on CredentialsValid, which stays True,
	// when spec.tokenRenewal is set and the credential cannot be renewed, or the
	// last try has failed. The message says what to mend.
	ReasonTokenRenewalFailed = "TokenRenewalFailed"
	// ReasonCredentialsExpired surfaces when the credential in use has expired
	// by what it says of itself. Nothing is dispatched.
	ReasonCredentialsExpired = "CredentialsExpired"
	// ReasonWatchStale surfaces on Synced when the target answers but its
	// watches have been silent, without even a bookmark, for 150 seconds.
	ReasonWatchStale = "WatchStale"
	// ReasonLimitExceeded surfaces on Synced when the target's answers are larger
	// than those of an API server, or there are more Jobs and Pods of this hub
	// than the manager may hold. The message names the limit.
	ReasonLimitExceeded = "LimitExceeded"
	// ReasonLastKubeconfig surfaces on Ready, with status True, when the
	// kubeconfig in the Secret is missing, broken or not accepted and the
	// connection goes on with the last one that worked. CredentialsValid says
	// what is wrong with the new one.
	ReasonLastKubeconfig = "LastKubeconfig"
	// ReasonOrphanedJobs surfaces on an Event when the cluster has Jobs of this
	// installation that no PooledJob stands behind.
	ReasonOrphanedJobs = "OrphanedJobs"
	// ReasonFinishedJobsDeleted surfaces on an Event when a policy of the cluster has Jobs
	// deleted soon after they finish, and keeps the manager from changing that: results
	// may be lost while the manager or the way to the cluster is away.
	ReasonFinishedJobsDeleted = "FinishedJobsDeleted"
	// ReasonDeleting surfaces when a deleted ClusterConnection waits for
	// PooledJobs that still have to clean up on the target.
	ReasonDeleting = "Deleting"
)

// Reasons of a PooledJob's conditions.
const (
	// ReasonAccepted surfaces when the access rules permit the run.
	ReasonAccepted = "Accepted"
	// ReasonClusterNotFound surfaces when no ClusterConnection has the name in
	// spec.clusterName. The run starts by itself when one appears.
	ReasonClusterNotFound = "ClusterNotFound"
	// ReasonNoClusterMatches surfaces when no ClusterConnection that
	// spec.clusterSelector selects can be used; the message says why for each. The
	// run starts by itself when one can.
	ReasonNoClusterMatches = "NoClusterMatches"
	// ReasonClusterFenced surfaces, on the ClusterConnection, too, when a person has
	// stated that the cluster is fenced. Nothing is sent there.
	ReasonClusterFenced = "ClusterFenced"
	// ReasonFailedOver surfaces when the run was moved away from a cluster, on an Event,
	// too; the message says why.
	ReasonFailedOver = "FailedOver"
	// ReasonClusterNotReady surfaces when the ClusterConnection is not Ready;
	// the message says why. The run goes on by itself when it is.
	ReasonClusterNotReady = "ClusterNotReady"
	// ReasonNotPermitted surfaces when the ClusterConnection's access rules do
	// not open the target namespace to the PooledJob's namespace. Final.
	ReasonNotPermitted = "NotPermitted"
	// ReasonNamespaceNotWatched surfaces when the target namespace is not among
	// the ClusterConnection's spec.namespaces.
	ReasonNamespaceNotWatched = "NamespaceNotWatched"
	// ReasonCreating surfaces while the remote Job is being created and it is not
	// known yet whether it exists.
	ReasonCreating = "Creating"
	// ReasonCreated surfaces when the remote Job exists and none of its Pods
	// has started.
	ReasonCreated = "Created"
	// ReasonStarted surfaces when a Pod of the remote Job has started.
	ReasonStarted = "Started"
	// ReasonNamespaceNotFound surfaces when the target namespace does not
	// exist (or is being deleted). Creation is tried again.
	ReasonNamespaceNotFound = "NamespaceNotFound"
	// ReasonQuotaExceeded surfaces when a quota on the target leaves no room
	// for the Job. Creation is tried again.
	ReasonQuotaExceeded = "QuotaExceeded"
	// ReasonTargetError surfaces when the target could not answer the request
	// (overload, time-out, internal error). Creation is tried again.
	ReasonTargetError = "TargetError"
	// ReasonRejected surfaces when the target refused the Job itself: invalid,
	// unknown field, or denied by admission. Final; the message is the target's.
	ReasonRejected = "Rejected"
	// ReasonTooLarge surfaces, on an Event, too, when the PooledJob is so large that
	// its status might not fit into it: more than 1.25 MiB. Final.
	ReasonTooLarge = "TooLarge"
	// ReasonNameConflict surfaces when a Job that is not ours has the remote
	// Job's name. It is left alone. Final.
	ReasonNameConflict = "NameConflict"
	// ReasonDispatchDeadlineExceeded surfaces when no remote Job existed
	// spec.dispatchDeadlineSeconds after the PooledJob was created. Final.
	ReasonDispatchDeadlineExceeded = "DispatchDeadlineExceeded"
	// ReasonCancelled surfaces when the run was stopped because of spec.cancel.
	// Final.
	ReasonCancelled = "Cancelled"
	// ReasonCancelling surfaces while spec.cancel is set and the run has not ended.
	ReasonCancelling = "Cancelling"
	// ReasonSuspending surfaces while spec.suspend is true and the remote Job is not
	// suspended yet.
	ReasonSuspending = "Suspending"
	// ReasonChangeRefused surfaces when the target refused to have the remote Job
	// cancelled, suspended, resumed or deleted; the message is the target's. The run
	// goes on, and it is tried again.
	ReasonChangeRefused = "ChangeRefused"
	// ReasonReconciled surfaces when nothing is waited for any more.
	ReasonReconciled = "Reconciled"
	// ReasonSuspended surfaces while the remote Job is suspended.
	ReasonSuspended = "Suspended"
	// ReasonResumed surfaces when the remote Job was resumed.
	ReasonResumed = "Resumed"
	// ReasonRemoteJobDeleted surfaces when the manager saw that somebody else began to
	// delete the remote Job on the target before it had ended. Final; it is not run
	// again.
	ReasonRemoteJobDeleted = "RemoteJobDeleted"
	// ReasonRemoteJobEndUnknown surfaces when the remote Job is proven gone, or may have
	// come and gone, and nobody saw how it ended: it may have completed before it was
	// deleted. Final; it is not run again.
	ReasonRemoteJobEndUnknown = "RemoteJobEndUnknown"
	// ReasonSynced surfaces when the status is kept up to date.
	ReasonSynced = "Synced"
	// ReasonAbandoned surfaces on an Event when a PooledJob was let go whose
	// remote Job may still exist, because a person said so.
	ReasonAbandoned = "Abandoned"
	// ReasonWaitingForPods surfaces when a deleted PooledJob has waited more
	// than a minute for the Pods of its remote Job to stop.
	ReasonWaitingForPods = "WaitingForPods"
)

// Reasons of a PooledJob's result.
const (
	// ResultPodGone surfaces when the Job ended but the Pod whose exit code decided
	// that is gone. An exit code is never invented.
	ResultPodGone = "PodGone"
	// ResultAmbiguous surfaces when the Job failed and it is not known which of several
	// Pods, that ended differently, decided that. The message names them. An exit code is
	// never guessed.
	ResultAmbiguous = "Ambiguous"
	// ResultContainerEnded surfaces while a Pod runs of which one container has ended and
	// another goes on; the message names them.
	ResultContainerEnded = "ContainerEnded"
	// ResultNoPod surfaces when the Job has had no Pod for some seconds, and the cluster's
	// Events do not say why or may not be read.
	ResultNoPod = "NoPod"
	// ResultNotScheduled surfaces when no scheduler has said anything about a Pod for some
	// seconds.
	ResultNotScheduled = "NotScheduled"
	// ResultContainerCreating surfaces when the containers of a Pod are being made for long,
	// and the cluster's Events do not say why or may not be read.
	ResultContainerCreating = "ContainerCreating"
	// ResultDeadlineExceeded surfaces when the Job failed by its activeDeadlineSeconds. The
	// exit code, if there is one, is that of the containers that were stopped by it.
	ResultDeadlineExceeded = "DeadlineExceeded"
	// ResultCancelled surfaces when the run was stopped because of spec.cancel. The exit
	// code, if there is one, is that of the containers that were stopped by it.
	ResultCancelled = "Cancelled"
	// ResultCompleted surfaces when the container ended with exit code 0 and gave
	// no reason of its own.
	ResultCompleted = "Completed"
	// ResultError surfaces when the container ended with another exit code and
	// gave no reason of its own.
	ResultError = "Error"
)
