package jobspec

import (
	"bytes"
	"encoding/json"
	"errors"

	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/binding"
)

// Encode makes the JSON of the Job to create for a PooledJob where the intent says. template is
// the JSON of its spec.template, of which nothing is decoded.
func Encode(job *v1alpha1.PooledJob, template []byte, hubID string, intent binding.Intent) ([]byte, error) {
	if !json.Valid(template) {
		return nil, errors.New("spec.template is not valid JSON")
	}
	template = bytes.TrimSpace(template)
	var metadata, spec []byte
	for name, value := range members(template) {
		switch name {
		case "metadata":
			metadata = value
		case "spec":
			spec = value
		}
	}
	suspended := job.Spec.Suspend != nil && *job.Spec.Suspend
	out := bytes.NewBuffer(make([]byte, 0, len(template)+roomForOurs))
	changes{
		{name: "apiVersion", change: is("batch/v1")},
		{name: "kind", change: is("Job")},
		{name: "metadata", change: func(out *bytes.Buffer, _ []byte) { jobMetadata(job, hubID, intent, suspended).change(out, metadata) }},
		{name: "spec", change: func(out *bytes.Buffer, _ []byte) { jobSpec(job, hubID, suspended).change(out, spec) }},
	}.change(out, nil)
	return out.Bytes(), nil
}

// roomForOurs is about how many bytes are added to a template.
const roomForOurs = 2 << 10

func jobMetadata(job *v1alpha1.PooledJob, hubID string, intent binding.Intent, suspended bool) changes {
	labels := labelChanges(hubID, job)
	if suspended {
		labels = append(labels, field{name: v1alpha1.LabelSuspend, change: is("true")})
	}
	source := changes{{name: v1alpha1.AnnotationSource, change: is(job.Namespace + "/" + job.Name)}}
	return changes{
		{name: "namespace", change: is(intent.Namespace)},
		{name: "name", change: is(intent.JobName)},
		{name: "labels", change: labels.change},
		{name: "annotations", change: source.change},
	}
}

func jobSpec(job *v1alpha1.PooledJob, hubID string, suspended bool) changes {
	// The kubelet puts the end of a failed container's log into its status, so that the result
	// needs no call for logs. Authors who do not want log text in a status set the policy
	// themselves.
	keepLastLogLines := each(changes{
		{name: "terminationMessagePolicy", change: isUnlessSet(string(corev1.TerminationMessageFallbackToLogsOnError))},
	}.change)
	containers := changes{
		{name: "initContainers", change: keepLastLogLines, ifThere: true},
		{name: "containers", change: keepLastLogLines, ifThere: true},
	}
	labels := changes{{name: "labels", change: labelChanges(hubID, job).change}}
	pod := changes{{name: "metadata", change: labels.change}, {name: "spec", change: containers.change}}
	spec := changes{{name: "template", change: pod.change}}
	if suspended {
		spec = append(spec, field{name: "suspend", change: is(true)})
	}
	return spec
}

// labelChanges returns the labels that mark an object as the PooledJob's.
func labelChanges(hubID string, job *v1alpha1.PooledJob) changes {
	return changes{{name: v1alpha1.LabelHub, change: is(hubID)}, {name: v1alpha1.LabelUID, change: is(string(job.UID))}}
}
