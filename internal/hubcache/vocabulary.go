package hubcache

import (
	"strings"
	"sync"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// shareWords lets PooledJobs share what many of them say in the same words.
func shareWords(job *v1alpha1.PooledJob) {
	status := &job.Status
	ShareStrings(&job.Namespace, &job.Spec.ClusterName, &job.Spec.TargetNamespace)
	ShareStrings(&status.ClusterName, &status.ClusterUID, &status.JobRef.Namespace, &status.Result.Reason, &status.Reason)
	for i := range status.Conditions {
		c := &status.Conditions[i]
		ShareStrings(&c.Type, &c.Reason, &c.Message, (*string)(&c.Status))
	}
	if creator, ok := job.Annotations[v1alpha1.AnnotationCreator]; ok {
		ShareStrings(&creator)
		job.Annotations[v1alpha1.AnnotationCreator] = creator
	}
}

// maxShared bounds how many strings are shared: reasons and messages of the manager are some
// dozens, and each name of a namespace and of a connection is one.
const maxShared = 4096

// vocabulary has one copy of each string that was lately in use.
type vocabulary struct {
	mu    sync.Mutex
	known map[string]string
}

var shared vocabulary

// ShareStrings replaces strings that many objects of the hub have by the copies that are there.
func ShareStrings(all ...*string) { shared.share(all...) }

func (v *vocabulary) share(all ...*string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range all {
		copied, ok := v.known[*s]
		if !ok {
			if v.known == nil || len(v.known) >= maxShared {
				v.known = map[string]string{} // those in use come back
			}
			copied = strings.Clone(*s) // of what it was decoded from
			v.known[copied] = copied
		}
		*s = copied
	}
}
