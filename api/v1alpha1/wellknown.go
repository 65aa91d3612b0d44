package v1alpha1

// Labels and annotations on the Jobs and Pods of target clusters.
const (
	// LabelHub is the ID of the hub installation that a remote object belongs
	// to. An object without this label, or with another hub's ID, is never
	// changed or deleted.
	LabelHub = "pooledjob.io/hub"
	// LabelUID is the UID of the PooledJob that a remote object belongs to.
	LabelUID = "pooledjob.io/uid"
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
	// to be created. It is written once, before the Job is.
	AnnotationIntent = "pooledjob.io/intent"
	// AnnotationConfirmClusterUID is set on a ClusterConnection by a person, to
	// the UID of the cluster that answers now. It accepts that cluster after
	// IdentityChanged.
	AnnotationConfirmClusterUID = "pooledjob.io/confirm-cluster-uid"
)
