package hubcache

import (
	"bytes"
	"fmt"

	"sigs.k8s.io/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// undecoded is a value of JSON that is kept as bytes.
type undecoded []byte

// UnmarshalJSON implements json.Unmarshaler.
func (u *undecoded) UnmarshalJSON(data []byte) error {
	*u = bytes.Clone(data)
	return nil
}

// withoutTemplate is a PooledJob of which the template is not decoded, and of the metadata only
// what says something to the manager.
type withoutTemplate struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metadata `json:"metadata"`
	Spec            struct {
		v1alpha1.PooledJobSpec `json:",inline"`
		// Template stands before the field of the same name that is inlined.
		Template undecoded `json:"template"`
	} `json:"spec"`
	Status v1alpha1.PooledJobStatus `json:"status"`
}

// decode reads a PooledJob without its template, and the template as it came.
func decode(data []byte) (job *v1alpha1.PooledJob, template []byte, err error) {
	read := &withoutTemplate{}
	if err := json.UnmarshalCaseSensitivePreserveInts(data, read); err != nil {
		return nil, nil, fmt.Errorf("decoding a PooledJob: %w", err)
	}
	return &v1alpha1.PooledJob{
		TypeMeta: read.TypeMeta, ObjectMeta: read.Metadata.objectMeta(), Spec: read.Spec.PooledJobSpec, Status: read.Status,
	}, read.Spec.Template, nil
}
