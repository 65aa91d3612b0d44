package v1alpha1

// Labels and annotations on the Jobs and Pods of target clusters.
const (
	// LabelHub is the ID of the hub installation that a remote object belongs
	// to. An object with another hub's ID is never changed or deleted, nor is one
	// without, unless it is the Job that a PooledJob knows by its UID, or one of that
	// Job's name whose Pods have the label.
	LabelHub = "pooledjob.io/hub"
	// LabelUID is the UID of the PooledJob that a remote object belongs to.
	LabelUID = "pooledjob.io/uid"
	// LabelSuspend is, on a remote Job, what spec.suspend last asked for: "true" or
	// "false", or absent if it never asked. What somebody on the target does to the
	// Job's own suspend after that is not undone.
	LabelSuspend = "pooledjob.io/suspend"
	// AnnotationSource is "namespace/name" of the PooledJob that a remote Job
	// belongs to. It is for people: nothing is decided by it.
	AnnotationSource = "pooledjob.io/source"
)

// Marks on hub objects.
const (
	// FinalizerPooledJob keeps a PooledJob until its remote Job is proven gone.
	// It is set together with AnnotationIntent, before the remote Job is created.
	FinalizerPooledJob = "pooledjob.io/remote-job"
	// FinalizerClusterConnection keeps a ClusterConnection until no PooledJob
	// needs it to clean up its remote Job.
	FinalizerClusterConnection = "pooledjob.io/connection"
	// AnnotationIntent records, as JSON, where a PooledJob's remote Job is about
	// to be created. It is written before the Job is, and again should somebody
	// change it.
	AnnotationIntent = "pooledjob.io/intent"
	// AnnotationCreator names the process that creates the remote Job: the one that
	// wrote the intent, or that took over from it since. Taking over fails for a
	// process that does not know the latest of the PooledJob.
	AnnotationCreator = "pooledjob.io/creator"
	// AnnotationAbandon is set by a person on a PooledJob that is being deleted, to
	// the UID of the cluster that its remote Job is on, and lets it go although
	// that cluster cannot be reached. Should the cluster come back, its Job is an
	// orphan.
	AnnotationAbandon = "pooledjob.io/abandon"
	// AnnotationFenced is set on a ClusterConnection by a person, to the UID of the
	// cluster (status.clusterUID), and states that nothing runs there any more,
	// and nothing will before the annotation is taken off; and that an end there which
	// nobody saw does not count. Nothing is sent there meanwhile, and runs with
	// spec.failover move away.
	AnnotationFenced = "pooledjob.io/fenced"
	// AnnotationConfirmClusterUID is set on a ClusterConnection by a person, to
	// the UID of the cluster that answers now. It accepts that cluster after
	// IdentityChanged.
	AnnotationConfirmClusterUID = "pooledjob.io/confirm-cluster-uid"
)
