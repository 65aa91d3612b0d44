package localcluster

// Annotations that tell how a Pod's containers run and end. They are read from
// the Pod; in a Job they belong on the Pod template.
const (
	// DurationAnnotation is how long the containers run, in the syntax of
	// time.ParseDuration ("300ms", "1h"). Without it, or with a value that
	// cannot be parsed, they run for one second. The time starts again whenever
	// the running Pod is changed.
	DurationAnnotation = "localcluster.pooledjob.io/duration"

	// ExitCodeAnnotation is the exit code of the containers, "0" to "255",
	// without it 0. With any other code than 0 the Pod fails. A Pod with a
	// value that is no exit code runs for ever.
	ExitCodeAnnotation = "localcluster.pooledjob.io/exit-code"

	// ReasonAnnotation is the reason in the containers' terminated state, such as
	// "OOMKilled". Without it the reason is "Completed" for exit code 0, else
	// "Error".
	ReasonAnnotation = "localcluster.pooledjob.io/reason"

	// MessageAnnotation is the termination message of the containers.
	MessageAnnotation = "localcluster.pooledjob.io/message"

	// WaitingReasonAnnotation keeps the Pod Pending: its containers never start
	// and wait with this reason, for example "ImagePullBackOff".
	WaitingReasonAnnotation = "localcluster.pooledjob.io/waiting-reason"
)
